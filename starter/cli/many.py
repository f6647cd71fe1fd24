"""One command for many cases: some at once, with a bar for who watches; Ctrl-C stops, and loses no answer."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import typer

from starter.settings import Refused, Unreachable

T = TypeVar("T")

_AT_ONCE = 10


class Told(NamedTuple):
    """What came of one command: its answer, or why it was not carried out."""

    text: str
    refused: Refused | None = None


class Run(NamedTuple):
    """What came of each command, in their order; of one that was not tried, nothing."""

    told: list[Told | None]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 if all were carried out, 1 if any was refused, 3 if any had no answer, 130 after Ctrl-C."""
        refused = [one.refused.exit_code for one in self.told if one and one.refused]
        return 130 if self.interrupted else max(refused, default=0)


def several(count: int, what: str) -> str:
    """So many of them, in words: 1 case, 1,000 cases."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


async def carry_out(what: str, things: Sequence[T], command: Callable[[T], Awaitable[str]]) -> Run:
    """Carry a command out for each thing, some at once.

    Ctrl-C lets those that are under way end, and begins no more; so does nobody's answering, as many times
    in a row as go at once.
    """
    from rich.progress import Progress
    from temporalio.service import RPCError

    from starter import lookup
    from starter.cli import show

    told: list[Told | None] = [None] * len(things)
    todo = iter(range(len(things)))
    stop, unanswered = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)
        typer.echo("stopping as soon as those under way have ended; Ctrl-C again: at once", err=True)

    async def answer(thing: T) -> Told:
        try:
            return Told(await command(thing))
        except Refused as refused:
            return Told(str(refused), refused)
        except RPCError as error:
            away = lookup.away(error)
            return Told(str(away), away)

    async def work(done: Callable[[], Any]) -> None:
        nonlocal unanswered
        while not stop.is_set() and (index := next(todo, None)) is not None:
            told[index] = ended = await answer(things[index])
            unanswered = unanswered + 1 if isinstance(ended.refused, Unreachable) else 0
            if unanswered >= _AT_ONCE:
                stop.set()
            done()

    interrupted = False
    out = show.console(error=True)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(what, total=len(things))
        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            await asyncio.gather(*(work(lambda: progress.advance(task)) for _ in range(_AT_ONCE)))
        finally:
            interrupted = not loop.remove_signal_handler(signal.SIGINT)
    return Run(told, interrupted)
