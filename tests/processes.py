"""Workers in processes of their own, as they run elsewhere: to be stopped, killed, or of another release."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.starter.screen import ENFORCE
from tests.world import World


def env_of(world: World, database_url: str) -> dict[str, str]:
    """The variables by which a worker serves this world."""
    return {
        "TEMPORAL_ADDRESS": world.client.service_client.config.target_host,
        "ENFORCE_DATABASE_URL": database_url,
        "ENFORCE_TASK_QUEUE": world.task_queue,
        "ENFORCE_OUTBOX": str(world.outbox),
    }


@asynccontextmanager
async def a_worker(env: dict[str, str], *options: str) -> AsyncIterator[Process]:
    """A worker process that serves when the context begins, killed at its end if it hasn't ended before."""
    worker = await asyncio.create_subprocess_exec(
        ENFORCE, "worker", *options, env=os.environ | env, stdout=PIPE, stderr=DEVNULL
    )
    try:
        assert worker.stdout
        await worker.stdout.readline()
        # A pipe that nobody reads fills up, and stops the worker that logs into it.
        reading = asyncio.create_task(worker.stdout.read())
        yield worker
        reading.cancel()
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()
