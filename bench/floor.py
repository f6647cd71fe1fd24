"""The floor: the plainest workflow that somebody would write for such a case, with default settings.

Its steps are ordinary activities that do nothing, its limits plain timers of 3 and 5 days, and what comes in
are signals. Run as a program it serves them: `python -m bench.floor ADDRESS`.
"""

import asyncio
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "floor"


@activity.defn
async def step(name: str) -> str:
    """Do nothing."""
    return name


@workflow.defn
class Floor:
    """A case without anything that makes it one."""

    def __init__(self) -> None:
        self._signals: set[str] = set()

    @workflow.signal
    def told(self, what: str) -> None:
        """Something came in."""
        self._signals.add(what)

    @workflow.run
    async def run(self, ends_fined: bool = False) -> str:
        """Open, notify, wait; fine, notify, wait; shut down, reclaim."""
        await self._steps("open", "notice")
        if await self._in_time("rectified", 3):
            await self._steps("verify")
            return "rectified"
        await self._steps("fine", "notice")
        if ends_fined:
            return "fined"
        if await self._in_time("paid", 5):
            await self._steps("close")
            return "settled"
        await self._steps("shut down", "reclaim")
        return "shut-down"

    async def _steps(self, *names: str) -> None:
        for name in names:
            await workflow.execute_activity(step, name, start_to_close_timeout=timedelta(minutes=1))

    async def _in_time(self, what: str, days: int) -> bool:
        try:
            await workflow.wait_condition(lambda: what in self._signals, timeout=timedelta(days=days))
        except TimeoutError:
            return False
        return True


async def main(address: str) -> None:
    """Serve until killed."""
    client = await Client.connect(address)
    async with Worker(client, task_queue=QUEUE, workflows=[Floor], activities=[step]):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
