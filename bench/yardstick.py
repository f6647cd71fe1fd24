"""A second yardstick: the floor's case on DBOS, a library that keeps its workflows in PostgreSQL itself.

The same steps that do nothing and the same waits, without a server of its own. Where a limit passes it is a
short one, for it has no virtual clock. Run as a program it plays cases and prints what they took, as JSON:
`python -m bench.yardstick DATABASE_URL CASES AT_ONCE FATE...`.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from uuid import uuid4

DAY, PASSES = 24 * 3600, 0.02  # seconds


def play(url: str, cases: int, at_once: int, fates: Sequence[str]) -> dict[str, tuple[float, float]]:
    """For each fate the cases per second, and the CPU milliseconds of the process that each took."""
    command = [sys.executable, "-m", "bench.yardstick", url, str(cases), str(at_once), *fates]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, tuple[float, float]] = json.loads(ran.stdout.splitlines()[-1])
    return told


def main(url: str, cases: int, at_once: int, fates: Sequence[str]) -> None:
    """Play so many cases of each fate, and print what they took."""
    from dbos import DBOS, SetWorkflowID  # noqa: PLC0415 - an extra, which `play` doesn't need

    DBOS(config={"name": "yardstick", "system_database_url": url, "log_level": "ERROR"})

    async def nothing(name: str) -> str:
        return name

    step = DBOS.step()(nothing)

    async def steps(*names: str) -> None:
        for name in names:
            await step(name)

    async def case(fate: str) -> str:
        await steps("open", "notice")
        if await DBOS.recv_async("rectified", 3 * DAY if fate == "rectified" else PASSES):
            await steps("verify")
            return "rectified"
        await steps("fine", "notice")
        if await DBOS.recv_async("paid", 5 * DAY if fate == "settled" else PASSES):
            await steps("close")
            return "settled"
        await steps("shut down", "reclaim")
        return "shut-down"

    workflow = DBOS.workflow()(case)

    async def all_of(fate: str, wanted: int) -> None:
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                named = str(uuid4())
                with SetWorkflowID(named):
                    handle = await DBOS.start_workflow_async(workflow, fate)
                if topic := {"rectified": "rectified", "settled": "paid"}.get(fate):
                    await DBOS.send_async(named, "yes", topic)
                assert await handle.get_result() == fate

        await asyncio.gather(*(one() for _ in range(wanted)))

    async def measure() -> dict[str, tuple[float, float]]:
        figures = {}
        for fate in fates:
            await all_of(fate, 10)  # what is imported and read once isn't counted
            begun, used = time.perf_counter(), time.process_time()
            await all_of(fate, cases)
            took, spent = time.perf_counter() - begun, time.process_time() - used
            figures[fate] = (cases / took, 1000 * spent / cases)
        return figures

    DBOS.launch()
    figures = asyncio.run(measure())
    DBOS.destroy()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
