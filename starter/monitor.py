"""Reports that come in by themselves: files of JSON lines, each line one violation report."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from temporalio.client import Client

from registry.session import Sessions
from rulebook.report import Report
from starter.reports import submit
from starter.settings import Refused, Unreachable
from workflows.messages import faults

log = logging.getLogger(__name__)

_AT_ONCE = 20
_LOOK_EVERY = 1.0  # seconds


class SetAside(NamedTuple):
    """A line that could not be handed to a case, and why; `line` counts from 1."""

    line: int
    why: str
    text: str


class Taken(NamedTuple):
    """What became of a file: reports handed to their cases, handled before, and lines set aside."""

    handed_over: int
    handled_before: int
    set_aside: list[SetAside]


async def take_in(
    client: Client,
    on_record: Sessions,
    task_queue: str,
    feed: Path,
    progress: Callable[[int, int], None] = lambda done, lines: None,
) -> Taken:
    """Hand every report of a file to its case; lines that can't be are set aside in `FILE.refused.jsonl`.

    Safe to repeat, after a crash too: a report is known by its source and id. A file that is still growing
    may end in half a line; it is taken when the file is taken in again. Raises `Unreachable`.
    """
    content = await asyncio.to_thread(feed.read_bytes)
    lines = [(n, text) for n, text in enumerate(content.split(b"\n"), 1) if text.strip()]
    places = asyncio.Semaphore(_AT_ONCE)
    done = handled = 0
    refused: list[SetAside] = []

    async def take(line: int, text: bytes) -> None:
        nonlocal done, handled
        async with places:
            try:
                report = Report.model_validate_json(text)
                went = await submit(client, on_record, task_queue, report)
                handled += went.handled_in is not None
            except Unreachable:
                raise
            except (ValidationError, Refused) as error:
                why = faults(error) if isinstance(error, ValidationError) else str(error)
                refused.append(SetAside(line, why, text.decode("utf-8", "replace")))
            done += 1
            progress(done, len(lines))

    try:
        async with asyncio.TaskGroup() as tasks:
            for line, text in lines:
                tasks.create_task(take(line, text))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    refused.sort()
    _set_aside(feed, refused)
    return Taken(len(lines) - handled - len(refused), handled, refused)


def _feeds(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [feed for feed in sorted(folder.glob("*.jsonl")) if not feed.name.endswith(".refused.jsonl")]


def refused_file(feed: Path) -> Path:
    """Where the lines of a feed are kept that were set aside."""
    return feed.with_name(f"{feed.stem}.refused.jsonl")


def _set_aside(feed: Path, refused: list[SetAside]) -> None:
    target = refused_file(feed)
    if not refused:
        target.unlink(missing_ok=True)
        return
    draft = target.with_suffix(".part")
    draft.write_text("".join(json.dumps(r._asdict(), ensure_ascii=False) + "\n" for r in refused), "utf-8")
    draft.replace(target)


async def watch(
    client: Client,
    on_record: Sessions,
    task_queue: str,
    folder: Path,
    tell: Callable[[Path, Taken], None],
) -> None:
    """Take in each report file of a folder, and again when it changes, until cancelled.

    While a server is away it says so once a round and tries again: nothing is lost, only late.
    """
    seen: dict[Path, tuple[int, int]] = {}
    while True:
        for feed in _feeds(folder):
            try:
                stat = feed.stat()
                if seen.get(feed) != (stat.st_size, stat.st_mtime_ns):
                    tell(feed, await take_in(client, on_record, task_queue, feed))
                    seen[feed] = (stat.st_size, stat.st_mtime_ns)
            except (OSError, Unreachable) as error:
                log.warning("%s: %s; trying again", feed, error)
        await asyncio.sleep(_LOOK_EVERY)
