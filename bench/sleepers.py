"""Sleepers: so many open cases that wait; what they cost, and whether they slow what an officer types."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from sqlalchemy import text

from bench.cases import put_to_sleep
from bench.machine import ENFORCE, Machine, machine, memory, ours
from starter import connect

FEW, RUNS = 20, 7
COMMANDS = (("cases",), ("todo",), ("due", "week"), ("case", "4000000001"))
_SIZE = text("select pg_database_size(current_database())")


def _typed(on: Machine) -> dict[str, float]:
    """The median wall time of each command, in seconds."""
    took = {}
    for words in COMMANDS:
        times = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            env = {"ENFORCE_HOME": str(on.settings.home), "ENFORCE_OFFICER": "李敏"}
            subprocess.run([str(ENFORCE), *words], env=env, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begun)
        took[" ".join(words)] = median(times)
    return took


def _on_disk(on: Machine) -> tuple[int, int]:
    """The bytes that Temporal's database and the registry have on disk."""
    files = on.settings.home.glob("temporal.db*")
    with on.on_record() as session:
        return sum(file.stat().st_size for file in files), session.scalar(_SIZE) or 0


async def measure(on: Machine) -> dict[str, float]:
    """Few sleepers, then many."""
    client, many = await connect.temporal(on.settings), len(on.numbers) - FEW
    with ours(on) as worker:
        await put_to_sleep(client, on, on.numbers[:FEW])
        few, disk, lean = _typed(on), _on_disk(on), worker.memory
        server = memory(on.temporal_pid)
        await put_to_sleep(client, on, on.numbers[FEW:])
        crowded, disk_now, fat = _typed(on), _on_disk(on), worker.memory
        server_now = memory(on.temporal_pid)
    figures = {
        "sleepers": float(len(on.numbers)),
        "worker MiB, few": lean / 2**20,
        "worker MiB, all": fat / 2**20,
        "Temporal server MiB, few": server / 2**20,
        "Temporal server MiB, all": server_now / 2**20,
        "Temporal kB on disk each": (disk_now[0] - disk[0]) / many / 1000,
        "registry kB on disk each": (disk_now[1] - disk[1]) / many / 1000,
    }
    return figures | {f"enforce {words}: all / few": crowded[words] / took for words, took in few.items()}


def main(sleepers: int = 2000) -> dict[str, float]:
    """Measure; give the figures."""
    with machine(sleepers + FEW, agents=100) as on:
        return asyncio.run(measure(on))


if __name__ == "__main__":
    assert Path("samples").is_dir(), "run it from the top of the checkout"
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:34}{figure:10.2f}")
