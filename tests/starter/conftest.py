"""The command line as its users run it: a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.world import World

ENFORCE = Path(sys.executable).parent / "enforce"


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Enforce = Callable[..., Awaitable[Ran]]


async def run(*words: str, env: dict[str, str], cwd: Path) -> Ran:
    """Run `enforce` with these words."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
    process = await asyncio.create_subprocess_exec(
        str(ENFORCE),
        *words,
        cwd=cwd,
        env=clean | env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def enforce(world: World, database_url: str, tmp_path: Path) -> Enforce:
    """The command line of an officer in the test's world."""
    env = {
        "TEMPORAL_ADDRESS": world.client.service_client.config.target_host,
        "ENFORCE_DATABASE_URL": database_url,
        "ENFORCE_TASK_QUEUE": world.task_queue,
        "ENFORCE_WEB_URL": "http://web.example",
        "ENFORCE_OFFICER": "李敏",
    }

    async def typed(*words: str, **changed: str) -> Ran:
        return await run(*words, env=env | changed, cwd=tmp_path)

    return typed
