"""Files of violation reports: read into the inbox, line by line, each line once.

A file is JSON lines, or CSV by its name. How far it has been read is on record in the same transaction as
what was read, so a crash loses nothing and takes nothing twice. A file that is rotated away is read to its
end.
"""

import asyncio
import csv
import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from registry import inbox
from registry.inbox import Arrival
from registry.models import Feed
from registry.session import Sessions
from rulebook.vocabulary import one_line
from starter.settings import Refused

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 20  # bytes
_LONGEST = 1 << 16  # bytes of a line
_LOOK_EVERY = 1.0  # seconds
_KINDS = (".jsonl", ".csv")


class Read(NamedTuple):
    """What was read: the numbers of the reports in the inbox, and how many of them are new."""

    ids: list[int]
    new: int

    def and_(self, more: "Read") -> "Read":
        """This and what was read after it."""
        return Read(self.ids + more.ids, self.new + more.new)


def files(path: Path) -> list[Path]:
    """The files of a feed: itself, or those of a folder. Raises `Refused` where there is none such."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in _KINDS and file.is_file())
    if path.suffix not in _KINDS:
        raise Refused(f"{path}: a feed is a folder, or a file that ends in {' or '.join(_KINDS)}")
    return [path]


def read(on_record: Sessions, file: Path, *, complete: bool = True) -> Read:
    """Read what is new of a file into the inbox. Raises `OSError`.

    A last line without its end is taken if the file is `complete`; else it is still being written.
    """
    path = str(file.resolve())
    with file.open("rb") as opened:
        found = _rotated_away(on_record, file, os.fstat(opened.fileno()))
        return found.and_(_read(on_record, path, opened, file, complete))


async def follow(on_record: Sessions, path: Path) -> None:
    """Read what comes into a file or folder, until cancelled; says so where something is away meanwhile."""
    troubled = ""
    while True:
        try:
            for file in files(path):
                await asyncio.to_thread(read, on_record, file, complete=False)
            troubled = ""
        except (OSError, OperationalError) as error:
            if troubled != str(error):
                log.warning("%s: %s; trying again", path, error)
            troubled = str(error)
        await asyncio.sleep(_LOOK_EVERY)


def _rotated_away(on_record: Sessions, file: Path, now: os.stat_result) -> Read:
    """What is left of files that were at this path before: they are looked for under their new names."""
    with on_record() as session:
        path = str(file.resolve())
        known = session.scalars(select(Feed.identity).where(Feed.path == path)).all()
    whole = Read([], 0)
    gone = {identity.partition(":")[0] for identity in known} - {_inode(now)}
    if not gone:
        return whole
    for other in file.resolve().parent.iterdir():
        if other.is_file() and _inode(other.stat()) in gone:
            with other.open("rb") as opened:
                if _identity(opened) in known:
                    whole = whole.and_(_read(on_record, path, opened, file, complete=True))
    with on_record.begin() as session:
        for row in session.scalars(select(Feed).where(Feed.path == path)):
            if row.identity.partition(":")[0] in gone:
                session.delete(row)
    return whole


def _inode(stat: os.stat_result) -> str:
    return f"{stat.st_dev}-{stat.st_ino}"


def _identity(opened: BinaryIO) -> str:
    """What a file is known by: a name may go to another file, and a number of the disk too."""
    opened.seek(0)
    first = opened.readline(_LONGEST)
    return f"{_inode(os.fstat(opened.fileno()))}:{hashlib.sha256(first).hexdigest()[:16]}"


def _read(on_record: Sessions, path: str, opened: BinaryIO, file: Path, complete: bool) -> Read:
    opened.seek(0)
    if not complete and not opened.readline(_LONGEST).endswith(b"\n"):
        return Read([], 0)
    identity, whole = _identity(opened), Read([], 0)
    as_csv = file.suffix == ".csv"
    while True:
        with on_record.begin() as session:
            feed = _feed(session, path, identity)
            lines = list(_lines(opened, feed.place, as_csv, complete))
            if not lines:
                return whole
            columns = _columns(opened) if as_csv else []
            arrivals = []
            for number, text in enumerate(lines, feed.line + 1):
                if (as_csv and number == 1) or not text.strip():
                    continue
                arrivals.append(_arrival(file, number, text, columns))
            put = inbox.put(session, arrivals, f"file {file.name}"[:200])
            feed.place += sum(map(len, lines))
            feed.line += len(lines)
            feed.read_at = datetime.now(UTC)
        whole = whole.and_(Read([one.id for one in put], sum(one.new for one in put)))


def _feed(session: Session, path: str, identity: str) -> Feed:
    """How far the file was read, kept to this transaction: two monitors may follow one file."""
    feed = session.get(Feed, (path, identity), with_for_update=True)
    if feed is None:
        feed = Feed(path=path, identity=identity, place=0, line=0, read_at=datetime.now(UTC))
        session.add(feed)
        session.flush()
    return feed


def _lines(opened: BinaryIO, place: int, as_csv: bool, complete: bool) -> Iterator[bytes]:
    """The lines from a place on, about `_AT_ONCE` bytes of them; of CSV, each with the rest of its row."""
    opened.seek(place)
    taken, row = 0, b""
    while taken < _AT_ONCE:
        line = opened.readline()
        if not line.endswith(b"\n"):
            row += line
            break
        row += line
        # A quoted cell may go on over several lines.
        if as_csv and row.count(b'"') % 2 and len(row) <= _LONGEST:
            continue
        yield row
        taken, row = taken + len(row), b""
    if row and complete and taken < _AT_ONCE:
        yield row


def _columns(opened: BinaryIO) -> list[str]:
    opened.seek(0)
    return [name.strip() for name in next(csv.reader([_decoded(opened.readline())]), [])]


def _decoded(data: bytes) -> str:
    """Text as Chinese offices make it; what is neither is kept readable as far as it is."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace")


def _arrival(file: Path, number: int, line: bytes, columns: Sequence[str]) -> Arrival:
    """A line as it goes into the inbox: also one that can't be read, with the reason, for an officer."""
    payload: Any = None
    text = _decoded(line).strip()
    why = f"line {number} is longer than {_LONGEST:,} bytes" if len(line) > _LONGEST else ""
    try:
        if columns and not why:
            cells = next(csv.reader(io.StringIO(text, newline=""), strict=True))
            payload = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
        elif not why:
            payload = json.loads(text)
    except (ValueError, csv.Error, StopIteration, RecursionError) as error:
        why = f"line {number} can't be read: {one_line(str(error))[:200]}"
    if isinstance(payload, dict):
        source, report_id = payload.get("source"), payload.get("report_id")
        if inbox.is_name(source) and inbox.is_name(report_id):
            return Arrival(str(source), str(report_id), payload)
        why = f"line {number} names no source and report_id of at most 200 characters"
    elif not why:
        why = f"line {number} is no JSON object"
    known_by = hashlib.sha256(line.strip()).hexdigest()[:32]
    return Arrival(f"file {file.name}"[:200], known_by, {"unreadable": text[:2000], "why": why})
