"""The servers and workers that are measured: real ones, in a temporary folder, each a process of its own."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from registry.importer import Loaded, load, read
from registry.migrations import migrate
from registry.session import Sessions, connect, sessions
from starter import local
from starter.settings import Settings

ENFORCE = Path(sys.executable).parent / "enforce"
_TICKS = os.sysconf("SC_CLK_TCK")
_HEADING = (
    "agent_id,agent_name,contact,email,phone,number,customer,customer_email,certificate,operator,renewal_due"
)
_AGENT = "A{n:04},代理商{n}通信有限公司,王芳,a{n}@agent.example,13800000000"
_NUMBER = "{number},客户{number}有限公司,c{number}@customer.example,91110000MA00000001,中国电信,2027-06-30"


class Machine(NamedTuple):
    """What runs: both servers, the registry with numbers, and where Temporal is."""

    settings: Settings
    address: str
    on_record: Sessions
    numbers: list[str]
    temporal_pid: int


@contextmanager
def machine(numbers: int, *, agents: int = 50) -> Iterator[Machine]:
    """Both servers with virtual time, and so many numbers on record, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="b4", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder))
        with local.servers(settings, time_skipping=True) as temporal:
            engine = connect(settings.registry_url(), pool_size=20)
            migrate(engine)
            on_record = sessions(engine)
            held = [f"400{n:07}" for n in range(1, numbers + 1)]
            _load(on_record, held, agents)
            pid = int((Path(folder) / "temporal.pid").read_text())
            try:
                yield Machine(settings, temporal.address, on_record, held, pid)
            finally:
                engine.dispose()


def _load(on_record: Sessions, numbers: list[str], agents: int) -> Loaded:
    lines = (f"{_AGENT.format(n=i % agents)},{_NUMBER.format(number=no)}" for i, no in enumerate(numbers))
    with on_record.begin() as session:
        return load(session, read("\n".join([_HEADING, *lines])), datetime.now(UTC), "bench")


class Worker(NamedTuple):
    """A worker that runs as a process of its own."""

    process: "subprocess.Popen[bytes]"

    @property
    def cpu(self) -> float:
        """The seconds of CPU that it has used."""
        return cpu(self.process.pid)

    @property
    def memory(self) -> int:
        """Its resident memory, in bytes."""
        return memory(self.process.pid)


def cpu(pid: int) -> float:
    """The seconds of CPU that a process has used, in user and system."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def ours(on: Machine, **env: str) -> Iterator[Worker]:
    """A worker of ours, as an operator starts it."""
    outbox = str(on.settings.home / "outbox")
    said = {"ENFORCE_HOME": str(on.settings.home), "ENFORCE_OUTBOX": outbox, "PYTHONUNBUFFERED": "1"}
    with _running([str(ENFORCE), "worker"], said | env) as worker:
        yield worker


@contextmanager
def floors(on: Machine) -> Iterator[Worker]:
    """A worker of the floor."""
    with _running([sys.executable, "-m", "bench.floor", on.address], {}) as worker:
        yield worker


@contextmanager
def _running(command: list[str], env: dict[str, str]) -> Iterator[Worker]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
    with tempfile.TemporaryFile() as said:  # not a pipe: full of warnings, it would hold the worker up
        process = subprocess.Popen(command, env=clean | env, stdout=said)
        try:
            while b"serving" not in os.pread(said.fileno(), 10_000, 0):
                assert process.poll() is None, f"{command} ended with {process.returncode}"
                time.sleep(0.05)
            yield Worker(process)
        finally:
            process.kill()
            process.wait()
