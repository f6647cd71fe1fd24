"""A terminal with a person at it, who reads before typing."""

import asyncio
import codecs
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

ENFORCE = Path(sys.executable).parent / "enforce"
CTRL_C, CTRL_D = "\x03", "\x04"
_PATIENCE = 60  # seconds
# Whoever leads a session and opens a terminal is who Ctrl-C reaches from there.
_TAKING = ': <"$0"; exec "$@"'


class Screen:
    """What a command shows in its terminal, and the keyboard before it."""

    def __init__(self, terminal: int, process: asyncio.subprocess.Process) -> None:
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

    async def ended(self) -> int:
        """The exit code, once the command has ended."""
        async with asyncio.timeout(_PATIENCE):
            await self._left.wait()
            return await self.process.wait()

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
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _TAKING, os.ttyname(theirs), ENFORCE),
        *words,
        cwd=cwd,
        env=clean | {"TERM": "xterm-256color", "LANG": "C.UTF-8", **env},
        stdin=theirs if stdin is None else stdin,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = Screen(ours, process)
    try:
        yield screen
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


Officer = Callable[..., AbstractAsyncContextManager[Screen]]
