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
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from registry import importer, inbox
from registry.inbox import Arrival
from registry.models import Feed
from registry.session import Sessions
from rulebook.vocabulary import one_line
from starter.settings import Refused

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 20  # bytes
_LONGEST = 1 << 16  # bytes of a line
_LOOK_EVERY = 1.0  # seconds
_QUIET = 10.0  # seconds after which nobody writes to a file any more that was rotated away
_KINDS = (".jsonl", ".csv")
# With what log rotation puts behind it: a number or a date.
_FILE = re.compile(r"(.+\.(?:jsonl|csv))(?:[.-][0-9][0-9T.:_-]*)?")


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
        named = (_FILE.fullmatch(file.name) for file in path.iterdir() if file.is_file())
        return sorted({path / match[1] for match in named if match})
    if path.suffix not in _KINDS:
        raise Refused(f"{path}: a feed is a folder, or a file that ends in {' or '.join(_KINDS)}")
    return [path]


def read_all(on_record: Sessions, file: Path) -> Read:
    """Read a whole file into the inbox, also what was read before. Raises `OSError`."""
    whole, place, line = Read([], 0), 0, 0
    with file.open("rb") as opened:
        while True:
            with on_record.begin() as session:
                lines = list(_lines(opened, place, file.suffix == ".csv", complete=True))
                if not lines:
                    return whole
                whole = whole.and_(_put(session, file, opened, lines, line))
            place, line = place + sum(map(len, lines)), line + len(lines)


def read_on(on_record: Sessions, file: Path, *, complete: bool = False) -> Read:
    """Read on in a file from where it was left, and before that in those that were rotated away from it.

    A last line without its end is taken if the file is `complete`; else it is still being written. Raises
    `OSError`.
    """
    whole, there = Read([], 0), set()
    path = str(file.resolve())
    for one in _rotated(on_record, file):
        with suppress(FileNotFoundError), one.open("rb") as opened:
            # Whoever writes may not have seen yet that it was renamed.
            quiet = complete or time.time() - os.fstat(opened.fileno()).st_mtime > _QUIET
            there.add(_identity(opened, file))
            whole = whole.and_(_read(on_record, path, opened, file, quiet))
    with suppress(FileNotFoundError), file.open("rb") as opened:
        there.add(_identity(opened, file))
        whole = whole.and_(_read(on_record, path, opened, file, complete))
    with on_record.begin() as session:
        session.execute(delete(Feed).where(Feed.path == path, Feed.identity.not_in(there)))
    return whole


async def follow(on_record: Sessions, path: Path) -> None:
    """Read what comes into a file or folder, until cancelled; says so where something is away meanwhile."""
    troubled = ""
    while True:
        try:
            for file in files(path):
                await asyncio.to_thread(read_on, on_record, file)
            troubled = ""
        except (OSError, OperationalError) as error:
            if troubled != str(error):
                log.warning("%s: %s; trying again", path, error)
            troubled = str(error)
        await asyncio.sleep(_LOOK_EVERY)


def _rotated(on_record: Sessions, file: Path) -> list[Path]:
    """The files that were at this path before, the oldest first: by their names, or known from then."""
    folder = file.resolve().parent
    with on_record() as session:
        known = session.scalars(select(Feed.identity).where(Feed.path == str(file.resolve()))).all()
    before = {identity.partition(":")[0] for identity in known}
    found = {}
    for other in folder.iterdir():
        match = _FILE.fullmatch(other.name)
        with suppress(FileNotFoundError):
            stat = other.stat()
            named = match is not None and match[1] == file.name
            if S_ISREG(stat.st_mode) and other.name != file.name and (named or _inode(stat) in before):
                found[other] = stat.st_mtime
    return sorted(found, key=lambda other: (found[other], other.name))


def _inode(stat: os.stat_result) -> str:
    return f"{stat.st_dev}-{stat.st_ino}"


def _identity(opened: BinaryIO, file: Path) -> str:
    """What a file is known by: a name may go to another file, and a number of the disk too."""
    opened.seek(0)
    begins = b"".join(opened.readline(_LONGEST) for _ in range(_begins(file)))
    return f"{_inode(os.fstat(opened.fileno()))}:{hashlib.sha256(begins).hexdigest()[:16]}"


def _begins(file: Path) -> int:
    """How many lines tell one file from the next: the heading of a CSV file doesn't."""
    return 2 if file.suffix == ".csv" else 1


def _read(on_record: Sessions, path: str, opened: BinaryIO, file: Path, complete: bool) -> Read:
    opened.seek(0)
    begun = all(opened.readline(_LONGEST).endswith(b"\n") for _ in range(_begins(file)))
    if not complete and not begun:
        return Read([], 0)
    identity, whole = _identity(opened, file), Read([], 0)
    while True:
        with on_record.begin() as session:
            feed = _feed(session, path, identity)
            if feed.place > os.fstat(opened.fileno()).st_size:  # it was emptied, and begins as before
                feed.place = feed.line = 0
            lines = list(_lines(opened, feed.place, file.suffix == ".csv", complete))
            if not lines:
                return whole
            whole = whole.and_(_put(session, file, opened, lines, feed.line))
            feed.place += sum(map(len, lines))
            feed.line += len(lines)
            feed.read_at = datetime.now(UTC)


def _put(session: Session, file: Path, opened: BinaryIO, lines: Sequence[bytes], before: int) -> Read:
    columns = _columns(opened) if file.suffix == ".csv" else []
    numbered = list(enumerate(lines, before + 1))
    if columns and before == 0:
        numbered = numbered[1:]
    arrivals = [_arrival(file, number, line, columns) for number, line in numbered if line.strip()]
    put = inbox.put(session, arrivals, f"file {file.name}"[:200])
    return Read([one.id for one in put], sum(one.new for one in put))


def _feed(session: Session, path: str, identity: str) -> Feed:
    """How far the file was read, kept to this transaction: two monitors may follow one file."""
    new = {"path": path, "identity": identity, "place": 0, "line": 0, "read_at": datetime.now(UTC)}
    session.execute(insert(Feed).values(new).on_conflict_do_nothing())
    return session.get_one(Feed, (path, identity), with_for_update=True)


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
    try:
        return importer.decode(data)
    except importer.Refused:
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
        elif not why and inbox.nested_too_deeply(text):
            why = f"line {number} can't be read: it is nested too deeply"
        elif not why:
            payload = json.loads(text)
    except (ValueError, csv.Error, StopIteration) as error:
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
