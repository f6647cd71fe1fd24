"""The command line as its users run it: a process of its own."""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.starter.screen import ENFORCE, FORKS, Officer, carry_out, terminal
from tests.world import World


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
    process = await asyncio.create_subprocess_exec(
        str(ENFORCE),
        *words,
        cwd=cwd,
        env=_clean() | env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def _clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}


async def typed(*words: str, env: dict[str, str], cwd: Path) -> Ran:
    """Run `enforce` with these words, without the time that its imports take."""
    return await asyncio.to_thread(_fork, words, env, cwd)


def _fork(words: tuple[str, ...], env: dict[str, str], cwd: Path) -> Ran:
    with tempfile.TemporaryDirectory() as said:
        process = FORKS.Process(target=_typed, args=(words, _clean() | env, cwd, said))
        process.start()
        process.join(60)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(" ".join(words))
        out, err = ((Path(said) / name).read_bytes().decode() for name in ("out", "err"))
        return Ran(process.exitcode, out, err)


def _typed(words: tuple[str, ...], env: dict[str, str], cwd: Path, said: str) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(said) / name, os.O_WRONLY | os.O_CREAT), stream)
    carry_out(words, env, cwd)


@pytest.fixture
def env(world: World, database_url: str) -> dict[str, str]:
    """What the environment of an officer in the test's world says."""
    return {
        "TEMPORAL_ADDRESS": world.client.service_client.config.target_host,
        "ENFORCE_DATABASE_URL": database_url,
        "ENFORCE_TASK_QUEUE": world.task_queue,
        "ENFORCE_WEB_URL": "http://web.example",
        "ENFORCE_OFFICER": "李敏",
    }


@pytest.fixture
def enforce(env: dict[str, str], tmp_path: Path) -> Enforce:
    """The command line of an officer in the test's world."""

    async def types(*words: str, **changed: str) -> Ran:
        # What Python itself reads of its environment, it reads when it starts.
        how = run if changed else typed
        return await how(*words, env=env | changed, cwd=tmp_path)

    return types


@pytest.fixture
def officer(env: dict[str, str], tmp_path: Path) -> Officer:
    """An officer of the test's world, who types commands in a terminal."""

    def typed(*words: str, more: Mapping[str, str] | None = None, **how: int) -> Any:
        return terminal(*words, env={**env, **(more or {})}, cwd=tmp_path, **how)

    return typed
