"""Proving the record: what was altered, moved, taken out or put in since it was recorded.

Each line of the audit trail bears the hash of what it says and of the line before it, and the case counts its
lines (registry/audit.py); a line that says that a notice was served names the hash of the letter. What cannot
be seen here: that somebody who writes to the database has recorded a chain anew from a line to its end, or
has taken the last lines off the chain that belongs to no case. Who keeps the `head` of a chain elsewhere sees
that too.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from registry.audit import UTC_INSTANT, canonical, hashed
from registry.models import Appeal, AuditLine, Case, Evidence, Notice
from rulebook.vocabulary import one_line

_AT_ONCE = 100  # cases
_BY_HAND = re.compile(r"by hand, .*; proof .*, ([0-9a-f]{64})")


class Proof(BaseModel):
    """What an examination has found: nothing is wrong where there are no faults.

    `head` is the hash of the last line. Without a case number it is of the lines that belong to no case.
    """

    model_config = ConfigDict(frozen=True)

    case_no: str | None
    lines: int
    notices: int = 0
    files: int = 0
    head: str
    faults: tuple[str, ...]


def examine(session: Session, case_no: str) -> Proof:
    """Examine the record of a case, in a snapshot: what has grown meanwhile must not seem altered.

    Raises `NoResultFound` where there is no such case.
    """
    counted = session.execute(select(Case.lines).where(Case.case_no == case_no)).scalar_one()
    [proof] = _examine(session, {case_no: counted})
    return proof


def examine_all(session: Session) -> Iterator[Proof]:
    """Examine the record of every case, and at the end the lines that belong to none."""
    counted = select(Case.case_no, Case.lines).order_by(Case.case_no)
    for cases in session.execute(counted, execution_options={"yield_per": _AT_ONCE}).partitions():
        yield from _examine(session, {case.case_no: case.lines for case in cases})
    lines = [_Line.of(row) for row in session.execute(_lines.where(AuditLine.case_no.is_(None)))]
    yield Proof(case_no=None, lines=len(lines), head=_head(lines), faults=tuple(_chain(lines, None)))


def proof_of_service(notice: Notice) -> str | None:
    """The hash of the file that proves how an officer has served a notice, if one has."""
    return _proof_in(notice.receipt)


def _proof_in(receipt: str | None) -> str | None:
    told = _BY_HAND.fullmatch(receipt or "")
    return told[1] if told else None


def hashed_lines(session: Session, case_no: str) -> list[tuple[str, str]]:
    """The lines of a case: for each, the very text that its hash was made of, and the hash."""
    lines = [_Line.of(row) for row in session.execute(_lines.where(AuditLine.case_no == case_no))]
    before = ["", *(line.hash for line in lines)]
    return [
        (canonical(line.says | {"previous": previous}), line.hash)
        for line, previous in zip(lines, before, strict=False)
    ]


def _examine(session: Session, cases: Mapping[str, int]) -> Iterator[Proof]:
    lines: dict[str, list[_Line]] = defaultdict(list)
    notices: dict[str, list[_Letter]] = defaultdict(list)
    named: dict[str, dict[str, str]] = defaultdict(dict)
    for row in session.execute(_lines.where(AuditLine.case_no.in_(cases))):
        lines[row.case_no].append(_Line.of(row))
    letters = select(
        Notice.case_no, Notice.notice_no, Notice.content, Notice.sha256, Notice.served_at, Notice.receipt
    )
    letters = letters.where(Notice.case_no.in_(cases)).order_by(Notice.notice_no)
    for row in session.execute(letters, execution_options={"yield_per": 20}):
        notices[row.case_no].append(_Letter.of(row))
        if proof := _proof_in(row.receipt):
            named[row.case_no][proof] = f"notice {row.notice_no}"
    appeals = select(Appeal.case_no, Appeal.appeal_no, Appeal.evidence).where(Appeal.case_no.in_(cases))
    for case_no, appeal_no, files in session.execute(appeals.order_by(Appeal.appeal_no)):
        named[case_no] |= {str(file): f"appeal {appeal_no}" for file in files}
    kept = _files(session, {file for files in named.values() for file in files})
    for case_no, counted in cases.items():
        own = lines[case_no]
        yield Proof(
            case_no=case_no,
            lines=len(own),
            notices=len(notices[case_no]),
            files=len(named[case_no]),
            head=_head(own),
            faults=(
                *_chain(own, counted),
                *_served(own, notices[case_no]),
                *_evidence(named[case_no], kept),
            ),
        )


# The chain


def _written(moment: Any, zone: str, form: str) -> Any:
    # By the server: not every instant that a database can hold is one of Python's.
    return func.to_char(func.timezone(zone, moment), form)


_lines = select(
    AuditLine.id,
    AuditLine.case_no,
    AuditLine.serial,
    AuditLine.step,
    _written(AuditLine.at, "UTC", UTC_INSTANT).label("at"),
    _written(AuditLine.at, "Asia/Shanghai", "YYYY-MM-DD HH24:MI").label("when"),
    AuditLine.actor,
    AuditLine.text,
    cast(AuditLine.result, Text).label("result"),
    _written(AuditLine.recorded_at, "UTC", UTC_INSTANT).label("recorded_at"),
    AuditLine.hash,
).order_by(AuditLine.case_no, AuditLine.serial, AuditLine.id)


@dataclass(frozen=True, eq=False)
class _Line:
    """A line as it stands now."""

    id: int
    serial: int
    hash: str
    when: str
    says: dict[str, Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        says = {
            "case_no": row.case_no,
            "serial": row.serial,
            "step": row.step,
            "at": row.at,
            "actor": row.actor,
            "text": row.text,
            "result": json.loads(row.result, parse_float=Decimal, parse_int=Decimal),
            "recorded_at": row.recorded_at,
        }
        return cls(id=row.id, serial=row.serial, hash=row.hash, when=row.when, says=says)

    def __str__(self) -> str:
        return f"line {self.serial} ({one_line(self.says['step'])}, {self.when})"

    def after(self, before: str, serial: int | None = None) -> str:
        """The hash that it has to have after a line of that hash; with a serial, as if it had that one."""
        return hashed(self.says | {"serial": serial or self.serial}, before)

    @property
    def now(self) -> str:
        """What it says now."""
        result = canonical(self.says["result"])
        said = f"{self.says['actor']}: {self.says['text']}"
        return one_line(f"it now says, by {said}; its answer is {result}")[:600]


def _head(lines: Sequence[_Line]) -> str:
    return lines[-1].hash if lines else ""


def _chain(lines: Sequence[_Line], counted: int | None) -> list[str]:
    """What is wrong with a chain; `counted` is how many lines its case has counted.

    It is walked as it was recorded: in each place has to stand the line whose hash fits there.
    """
    faults = []
    standing = {line.serial: line for line in lines}
    left = {line.id: line for line in lines}
    serial, last, before, gap = 1, max([counted or 0, *standing]), [""], False
    while serial <= last:
        here = left.get(standing[serial].id) if serial in standing else None
        tried = chain([here] if here else [], left.values())
        found = next((t for t in tried if t.hash in {t.after(hash_, serial) for hash_ in before}), None)
        if found:
            if found is not here:
                faults.append(f"{found} was recorded as line {serial}: it was moved")
            del left[found.id]
            before, gap = [found.hash], False
        elif here:
            faults.append(_unproved(here, gap))
            del left[here.id]
            # What follows was recorded after its hash of now, or after the one that it has to have.
            before, gap = [here.hash, here.after(before[0])], False
        else:
            next_one = min((one.serial for one in left.values() if one.serial > serial), default=None)
            until = next_one - 1 if next_one else counted or 0
            if until < serial:
                break
            faults.append(
                f"line {serial} is missing" if serial == until else f"lines {serial} to {until} are missing"
            )
            serial, gap = until, True
        serial += 1
    faults += [f"{line} was put in: {line.now}" for line in left.values()]
    if counted is not None and (more := [line for line in lines if line.serial > counted]):
        faults.append(f"{more[0]} is beyond the {counted} lines that the case counts: {more[0].now}")
    if not faults and any(one.id > later.id for one, later in pairwise(lines)):
        faults.append("the lines stand in another order than they were recorded in")
    return faults


def _unproved(line: _Line, gap: bool) -> str:
    if gap:
        return f"{line} can't be proved, as the line before it is missing: {line.now}"
    or_before = f", or line {line.serial - 1} is not" if line.serial > 1 else ""
    return f"{line} is not what was recorded{or_before}: {line.now}"


# What the lines vouch for


@dataclass(frozen=True)
class _Letter:
    """A notice, and the hash of its letter as it stands now."""

    notice_no: str
    served: bool
    recorded: str
    now: str

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            notice_no=row.notice_no,
            served=row.served_at is not None,
            recorded=row.sha256,
            now=hashlib.sha256(row.content).hexdigest(),
        )


def _served(lines: Iterable[_Line], notices: Iterable[_Letter]) -> Iterator[str]:
    """What is wrong with the letters, and with what the lines say of them."""
    vouched: dict[str, list[tuple[_Line, str]]] = defaultdict(list)
    for line in lines:
        answer = line.says["result"]
        if isinstance(answer, dict) and {"notice_no", "sha256"} <= answer.keys():
            vouched[str(answer["notice_no"])].append((line, str(answer["sha256"])))
    for notice in notices:
        named = f"notice {notice.notice_no}"
        if notice.now != notice.recorded:
            yield (
                f"{named}: the letter is not the one that was recorded: its SHA-256 is {notice.now}, "
                f"and was {notice.recorded}"
            )
        # More than one, where it had bounced and was served again.
        says_so = vouched.pop(notice.notice_no, [])
        if notice.served and not says_so:
            yield f"{named} was served, and no line says so"
        for line, sha256 in says_so:
            if not notice.served:
                yield f"{named}: {line} says that it was served, the notice says that it was not"
            if sha256 != notice.recorded:
                yield (
                    f"{named}: {line} says that the letter served has SHA-256 {one_line(sha256)[:64]}, "
                    f"the notice says {notice.recorded}"
                )
    for notice_no, says_so in vouched.items():
        for line, _ in says_so:
            yield f"notice {one_line(notice_no)[:100]}: {line} says that it was served, and it is gone"


def _files(session: Session, named: Iterable[str]) -> dict[str, str]:
    """The hashes as they are now of these files, as far as they are on record."""
    files = select(Evidence.sha256, Evidence.content).where(Evidence.sha256.in_(named))
    rows = session.execute(files, execution_options={"yield_per": 1})
    return {sha256: hashlib.sha256(content).hexdigest() for sha256, content in rows}


def _evidence(named: Mapping[str, str], kept: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the files that a case names."""
    for sha256, by in named.items():
        if sha256 not in kept:
            yield f"evidence {one_line(sha256)[:64]}, named by {by}, is not on record"
        elif kept[sha256] != sha256:
            yield (
                f"evidence {sha256}, named by {by}, is not the file that was recorded: "
                f"its SHA-256 is {kept[sha256]}"
            )
