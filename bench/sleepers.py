"""Sleepers: so many open cases that wait; what they cost, and whether they slow what an officer types.

Few and many sleep on machines of their own, and each command is typed on both, one right after the other.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from sqlalchemy import text

from bench.cases import put_to_sleep
from bench.machine import ENFORCE, Machine, Worker, machine, memory, ours
from starter import connect

FEW, PAIRS = 20, 11
# As many lines on both.
COMMANDS = (("cases", "--limit", "20"), ("todo",), ("due", "week", "--limit", "20"), ("case", "4000000001"))
_SIZE = text("select pg_database_size(current_database())")


def _typed(on: Machine, words: tuple[str, ...]) -> float:
    """The wall time of a command, in seconds."""
    env = {"ENFORCE_HOME": str(on.settings.home), "ENFORCE_OFFICER": "李敏"}
    begun = time.perf_counter()
    subprocess.run([str(ENFORCE), *words], env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _on_disk(on: Machine) -> tuple[int, int]:
    """The bytes that Temporal's database and the registry have on disk."""
    files = on.settings.home.glob("temporal.db*")
    with on.on_record() as session:
        return sum(file.stat().st_size for file in files), session.scalar(_SIZE) or 0


class _Taken:
    """What a machine's sleepers take up: bytes of memory, and on disk."""

    def __init__(self, on: Machine, worker: Worker) -> None:
        self.worker, self.server = worker.memory, memory(on.temporal_pid)
        self.temporal, self.registry = _on_disk(on)


async def _asleep(on: Machine, worker: Worker) -> _Taken:
    await put_to_sleep(await connect.temporal(on.settings), on, on.numbers)
    return _Taken(on, worker)


def main(sleepers: int = 2000) -> dict[str, float]:
    """Measure; give the figures."""
    with machine(FEW, agents=10) as calm, machine(sleepers, agents=100) as crowded:
        with ours(calm) as its_worker, ours(crowded) as worker:
            few = asyncio.run(_asleep(calm, its_worker))
            begun = time.perf_counter()
            many = asyncio.run(_asleep(crowded, worker))
            figures = {
                "sleepers": float(sleepers),
                "opened per second": sleepers / (time.perf_counter() - begun),
                "worker MiB, 20 sleep": few.worker / 2**20,
                "worker MiB, all sleep": many.worker / 2**20,
                "Temporal server MiB, 20 sleep": few.server / 2**20,
                "Temporal server MiB, all sleep": many.server / 2**20,
                "Temporal kB on disk each": (many.temporal - few.temporal) / (sleepers - FEW) / 1000,
                "registry kB on disk each": (many.registry - few.registry) / (sleepers - FEW) / 1000,
            }
            for words in COMMANDS:
                pairs = [(_typed(calm, words), _typed(crowded, words)) for _ in range(PAIRS)]
                figures[f"enforce {' '.join(words)}: all / 20"] = median(all_ / few for few, all_ in pairs)
        return figures


if __name__ == "__main__":
    assert Path("samples").is_dir(), "run it from the top of the checkout"
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:34}{figure:10.2f}")
