"""Workers: cases per second with one, two and four of them; and how soon cases answer when one was killed."""

import asyncio
import os
import sys
import time
from contextlib import ExitStack

from bench.cases import Player, put_to_sleep
from bench.machine import Machine, machine, ours
from rulebook.vocabulary import Kind, workflow_id
from starter import connect

STICKY = 2.0  # seconds after which Temporal gives up on a worker that has a case in its cache (worker.py)


async def measure(on: Machine, cases: int) -> dict[str, float]:
    """How the rate grows with workers, and what a kill costs."""
    client = await connect.temporal(on.settings)
    player, rates = Player(client, on), {}
    for workers in (1, 2, 4):
        with ExitStack() as running:
            first, *_ = [running.enter_context(ours(on)) for _ in range(workers)]
            await player.measured(first, 10, "rectified")
            rates[workers] = (await player.measured(first, cases, "rectified")).rate
    figures = {f"cases per second, {n} workers": rate for n, rate in rates.items()}
    figures |= {f"{n} workers / 1": rates[n] / rates[1] for n in (2, 4)}
    return figures | await _killed(on, player)


async def _killed(on: Machine, player: Player) -> dict[str, float]:
    waiting = on.numbers[-20:]
    with ours(on) as killed:
        await put_to_sleep(player.client, on, waiting)
        handles = [player.client.get_workflow_handle(workflow_id(Kind.SECONDARY_SALE, n)) for n in waiting]
        for handle in handles:
            await handle.query("story")
        with ours(on):
            os.kill(killed.process.pid, 9)
            killed.process.wait()
            begun = time.perf_counter()
            await asyncio.gather(*(handle.query("story") for handle in handles))
            seconds = time.perf_counter() - begun
    return {"all answer again after s": seconds, "that / the sticky timeout": seconds / STICKY}


def main(cases: int = 150) -> dict[str, float]:
    """Measure; give the figures."""
    numbers = 3 * (cases + 10) + 20
    with machine(numbers, agents=numbers) as on:
        return asyncio.run(measure(on, cases))


if __name__ == "__main__":
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:34}{figure:10.2f}")
