"""Whoever types a command does not wait for what it does not need."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module

import pytest
import typer

from rulebook.vocabulary import Kind
from starter.cli import COMMANDS, name_of
from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent

TEMPORAL, DATABASE = {"temporalio"}, {"sqlalchemy", "psycopg2", "alembic"}
LETTERS, CALENDAR = {"jinja2", "typst"}, {"holidays"}


def modules(said: str) -> set[str]:
    """The modules that Python says it has imported."""
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", said, re.MULTILINE))


def imported(said: str) -> set[str]:
    """The packages that Python says it has imported."""
    return {name.partition(".")[0] for name in modules(said)}


def completing(words: str) -> dict[str, str]:
    typed = words.split()
    return {"_ENFORCE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}


@pytest.mark.parametrize(
    ("words", "env", "shows"),
    [
        (("--help",), {}, "bulk"),
        (("case", "--help"), {}, "--json"),
        (("notices", "--help"), {}, "verify"),
        ((), completing("enforce no"), "notices"),
        ((), completing("enforce cases --stage re"), "rectification"),
    ],
)
async def test_help_and_completion_wait_for_neither_temporal_nor_the_database(
    enforce: Enforce, words: tuple[str, ...], env: Mapping[str, str], shows: str
) -> None:
    ran = await enforce(*words, PYTHONPROFILEIMPORTTIME="1", **env)
    assert shows in ran.out
    loaded = imported(ran.err)
    assert "typer" in loaded
    assert loaded & (TEMPORAL | DATABASE | LETTERS | CALENDAR) == set()


async def test_a_command_that_only_asks_temporal_does_not_wait_for_the_database(
    world: World, enforce: Enforce
) -> None:
    number, fraud, listed = an_agent(world.on_record, numbers=3)
    case = await world.open(a_report(number))
    await world.open(a_report(fraud, kind=Kind.FRAUD))
    await world.open(a_report(listed))
    await case.rectified()
    for words in (
        ("case", number),
        ("case", fraud),
        ("cases", "--number", listed),
        ("due", "week"),
        ("renewals",),
        ("extend", listed, "1", "--reason", "x"),
        ("hold", listed, "--reason", "x"),
        ("paid", fraud, "1", "--reference", f"R{fraud}"),
        ("verify", number, "--fail", "--reason", "x"),
        ("appeal", number, "--statement", "x"),
        ("decide", number, "--uphold", "--reason", "x", "--officer", "王静"),
    ):
        ran = await enforce(*words, PYTHONPROFILEIMPORTTIME="1")
        assert ran.code == 0, ran.err[-300:]
        loaded = imported(ran.err)
        assert "temporalio" in loaded
        assert (words, loaded & (DATABASE | LETTERS | CALENDAR)) == (words, set())


async def test_whoever_only_reads_waits_for_no_message_to_a_case(world: World, enforce: Enforce) -> None:
    number, fraud, ended = an_agent(world.on_record, numbers=3)
    await world.open(a_report(number))
    await world.open(a_report(fraud, kind=Kind.FRAUD))
    case = await world.open(a_report(ended))
    await case.dismiss()
    await case.ended()
    for words in (
        ("case", number),
        ("case", fraud),
        ("case", ended),
        ("cases", "--number", number),
        ("due", "week"),
        ("renewals",),
        ("watch", ended),
    ):
        ran = await enforce(*words, PYTHONPROFILEIMPORTTIME="1")
        assert ran.code == 0, ran.err[-300:]
        loaded = modules(ran.err)
        assert "starter.lookup" in loaded
        assert (words, loaded & {"starter.desk", "workflows.messages"}) == (words, set())


@pytest.mark.parametrize("module", COMMANDS)
def test_each_module_declares_the_commands_for_which_it_is_imported(module: str) -> None:
    app = typer.Typer()
    import_module(f"starter.cli.{module}").add_to(app)
    groups = [group.name for group in app.registered_groups]
    assert [*map(name_of, app.registered_commands), *groups] == COMMANDS[module].split()


def test_what_serves_for_weeks_looks_for_garbage_as_python_does() -> None:
    asked = (
        "import gc; before = gc.get_threshold(); import starter.serve; print(before == gc.get_threshold())"
    )
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
