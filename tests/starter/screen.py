"""A terminal with a person at it, who reads before typing."""

import asyncio
import codecs
import fcntl
import multiprocessing
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from starter import cli

ENFORCE = Path(sys.executable).parent / "enforce"
CTRL_C, CTRL_D = "\x03", "\x04"
_PATIENCE = 60  # seconds

# Most of a command's time goes into imports: the officers' commands are forked off a process that has them.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "tests.world"])


def carry_out(words: tuple[str, ...], env: Mapping[str, str], cwd: Path) -> None:
    """Be `enforce` with these words, and end as it does."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [str(ENFORCE), *words]
    cli.main()


def _carry_out_at(streams: list[Connection], words: tuple[str, ...], env: dict[str, str], cwd: Path) -> None:
    # Whoever leads a session and takes a terminal is who Ctrl-C reaches from there.
    os.setsid()
    fcntl.ioctl(streams[2].fileno(), termios.TIOCSCTTY, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    # As Python opens them where the language is C.UTF-8.
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    carry_out(words, env, cwd)


class Screen:
    """What a command shows in its terminal, and the keyboard before it."""

    def __init__(self, terminal: int, process: ForkServerProcess) -> None:
        self.text, self.process, self._terminal = "", process, terminal
        self._more, self._left = asyncio.Event(), asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        asyncio.get_running_loop().add_reader(terminal, self._read)

    def _read(self) -> None:
        try:
            self.text += self._decoder.decode(os.read(self._terminal, 65536))
        except OSError:  # so Linux tells that nobody has the terminal any more
            asyncio.get_running_loop().remove_reader(self._terminal)
            self._left.set()
        self._more.set()

    def type(self, keys: str | bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode() if isinstance(keys, str) else keys)

    async def shows(self, text: str) -> None:
        """Read until this is shown."""
        async with asyncio.timeout(_PATIENCE):
            while text not in self.text:
                assert not self._left.is_set(), f"ended without {text!r}:\n{self.text}"
                self._more.clear()
                await self._more.wait()

    async def ended(self) -> int | None:
        """The exit code, once the command has ended."""
        async with asyncio.timeout(_PATIENCE):
            await self._left.wait()
        await asyncio.to_thread(self.process.join, _PATIENCE)
        return self.process.exitcode

    def mode(self) -> list[Any]:
        """How the terminal is set: echo, lines, signals."""
        return termios.tcgetattr(self._terminal)


@asynccontextmanager
async def terminal(
    *words: str,
    env: Mapping[str, str],
    cwd: Path,
    columns: int = 160,
    stdin: int | None = None,
    stdout: int | None = None,
) -> AsyncIterator[Screen]:
    """Type `enforce` with these words in a terminal, which is also its input and output unless redirected."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        clean.pop(name, None)
    env = clean | {"TERM": "xterm-256color", "LANG": "C.UTF-8", **env}
    nothing = os.open(os.devnull, os.O_RDWR)
    redirected = (nothing if of == subprocess.DEVNULL else of for of in (stdin, stdout, None))
    streams = [Connection(os.dup(theirs if of is None else of)) for of in redirected]
    process = FORKS.Process(target=_carry_out_at, args=(streams, words, env, cwd))
    process.start()
    for stream in streams:
        stream.close()
    os.close(nothing)
    os.close(theirs)
    screen = Screen(ours, process)
    try:
        yield screen
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


Officer = Callable[..., AbstractAsyncContextManager[Screen]]
