"""`enforce up`: everything in one folder, started, stopped and resumed as a user would."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.starter.screen import ENFORCE
from tests.world import a_report

SAMPLES = Path(__file__).parent.parent.parent / "samples"
NUMBER = "4007192389"


class House:
    """A folder with servers, and the command line pointed at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
        self.env = clean | {"ENFORCE_HOME": str(folder / "h"), "ENFORCE_OFFICER": "李敏"}

    @contextmanager
    def up(self, stop: signal.Signals = signal.SIGINT) -> Iterator["subprocess.Popen[str]"]:
        with subprocess.Popen(
            [ENFORCE, "up"], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line, f"it ended with {process.wait()}"
            yield process
            process.send_signal(stop)
            process.stdout.read()
        if stop is signal.SIGINT:
            assert process.returncode == 0

    def enforce(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([ENFORCE, *words], env=self.env, capture_output=True, text=True, check=False)

    def case(self) -> Any:
        return json.loads(self.enforce("case", NUMBER, "--json").stdout)

    def processes(self) -> list[str]:
        running = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in running.splitlines() if str(self.folder) in line]


@pytest.fixture
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="e4-", ignore_cleanup_errors=True) as folder:
        yield House(Path(folder))


def test_ctrl_c_leaves_nothing_behind_and_a_restart_resumes_all(house: House) -> None:
    with house.up():
        assert house.enforce("registry", "import", str(SAMPLES / "registry.csv")).returncode == 0
        assert house.enforce("report", NUMBER, "--facts", "实际用户与登记不符").returncode == 0
        before = house.case()
        second = house.enforce("up")
        assert (second.returncode, "already" in second.stderr) == (1, True)
    assert house.processes() == []
    assert house.enforce("cases").returncode == 3
    with house.up():
        assert house.case() == before
        house.enforce("rectified", NUMBER)
        assert "closes without a fine" in house.enforce("verify", NUMBER, "--pass").stdout


def test_killed_outright_it_comes_back_with_every_case(house: House) -> None:
    with house.up(stop=signal.SIGKILL):
        house.enforce("registry", "import", str(SAMPLES / "registry.csv"))
        house.enforce("report", NUMBER, "--facts", "x")
    with house.up():
        assert house.case()["stage"] == "rectification"
        assert "now ends" in house.enforce("extend", NUMBER, "1", "--reason", "x").stdout
    assert house.processes() == []


def test_a_report_file_in_the_folder_starts_cases_by_itself(house: House) -> None:
    with house.up():
        house.enforce("registry", "import", str(SAMPLES / "registry.csv"))
        feed = house.folder / "h" / "reports" / "feed.jsonl"
        feed.write_text(a_report(NUMBER).model_dump_json() + '\n{"half\n')
        give_up = time.monotonic() + 20
        while not (listed := json.loads(house.enforce("cases", "--json").stdout)):
            assert time.monotonic() < give_up
        [refused] = json.loads(house.enforce("reports", "list", "--json").stdout)
    assert [case["number"] for case in listed] == [NUMBER]
    assert refused["payload"]["unreadable"] == '{"half'


def test_it_does_not_run_its_own_servers_where_others_are_configured(house: House) -> None:
    house.env["TEMPORAL_ADDRESS"] = "temporal.example:7233"
    refused = house.enforce("up")
    assert (refused.returncode, "TEMPORAL_ADDRESS points to servers elsewhere" in refused.stderr) == (1, True)
