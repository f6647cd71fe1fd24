"""The audit trail, which is also the memory of what was done already.

Every step of a case has a business key, (case, step), unique in the audit trail. An activity asks
`recorded` first and, when the step is new, ends its transaction with `record`: the effect, the line and
the answer come into being together. Run twice, it returns what the first run returned.

The lines of a case are a chain: each has a serial number and the hash of what it says and of the line before
it, so that a line that is altered, moved or taken out shows (registry/proof.py). The lines that belong to no
case are one chain of their own.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session, SessionTransaction, defer

from registry.models import AuditLine, Base, Case
from registry.shown import Line
from rulebook.vocabulary import one_line


class Done(BaseModel):
    """What every step answers: at least its line. Subclasses add what the workflow needs to know."""

    model_config = ConfigDict(frozen=True)

    line: Line


T = TypeVar("T", bound=Done)


_TRAIL, _CASES = Base.metadata.tables["audit_trail"], Base.metadata.tables["cases"]


class _Held(NamedTuple):
    """A case that a transaction keeps to itself: how its chain ends, and when that was looked up."""

    within: SessionTransaction | None
    case: Case  # a session forgets what nobody holds, and every step asks for its case again
    lines: int
    last: str
    at: datetime


_locked = (
    select(
        Case,
        func.clock_timestamp().label("at"),
        select(AuditLine.hash)
        .where(AuditLine.case_no == Case.case_no, AuditLine.serial == Case.lines)
        .correlate(Case)
        .scalar_subquery()
        .label("last"),
        select(AuditLine.result)
        .where(AuditLine.case_no == bindparam("of_case"), AuditLine.step == bindparam("of_step"))
        .scalar_subquery()
        .label("answer"),
    )
    .where(Case.case_no == bindparam("of_case"))
    # With key_share, as numbers and accounts: a second update of the case checks its foreign keys anew, and
    # must not wait for who holds a number.
    .with_for_update(key_share=True, of=Case)
    # What the session knew of it before it waited here may be old.
    .execution_options(populate_existing=True)
)


class OtherCase(Exception):
    """What is on record under a case number is not the case that is meant."""


def lock(session: Session, case_no: str, opened: datetime | None = None) -> Case:
    """Keep the case to this transaction: always before what belongs to it, or two wait for each other.

    Raises `OtherCase` where it was not opened at the moment `opened`, or is not on record: a registry that
    was restored has forgotten cases, and gives their numbers again.
    """
    return _lock(session, case_no, opened=opened)[0].case


def _lock(
    session: Session, case_no: str, step: str = "", opened: datetime | None = None
) -> tuple[_Held, Any]:
    """The case, locked, and what the step answered if it was done before."""
    found = session.execute(_locked, {"of_case": case_no, "of_step": step}).one_or_none()
    if found is None or (opened and opened != found[0].opened_at):
        other = f"is another, opened on {found[0].opened_at.isoformat()}" if found else "is not on record"
        raise OtherCase(
            f"nothing was done: case {case_no} {other}. The registry is older than Temporal: "
            "`enforce reconcile` says what to do"
        )
    case, at, last, answer = found
    if last is None and case.lines:
        # If it had to wait for the case, it did not see the lines that came meanwhile.
        lines = select(AuditLine).where(AuditLine.case_no == case_no)
        newest = lines.with_only_columns(AuditLine.hash).order_by(AuditLine.serial.desc())
        last = session.scalar(newest.limit(1))
        answer = session.scalar(lines.with_only_columns(AuditLine.result).where(AuditLine.step == step))
    held = session.info[case_no] = _Held(_within(session), case, case.lines, last or "", at)
    return held, answer


def _within(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def recorded(
    session: Session, case_no: str, step: str, result: type[T], opened: datetime | None = None
) -> T | None:
    """What this step answered if it was done before, else None.

    Locks the case until the transaction ends, so that of two attempts at one step the second waits here
    and then finds the first one's answer. Raises `OtherCase` as `lock` does.
    """
    _, found = _lock(session, case_no, step, opened)
    return None if found is None else result.model_validate(found)


def record(session: Session, case_no: str | None, step: str, result: T) -> T:
    """Add the line of a step and its answer to the audit trail, and give the answer back."""
    session.flush()
    serial, recorded_at, before = _next(session, case_no)
    at, answer = result.line.at, result.model_dump(mode="json")
    says = {
        "case_no": case_no,
        "serial": serial,
        "step": step,
        "at": _instant(at),
        "actor": result.line.by,
        "text": result.line.text,
        "result": answer,
        "recorded_at": _instant(recorded_at),
    }
    told = hashed(says, before)
    line = insert(_TRAIL).values(**says | {"at": at, "recorded_at": recorded_at, "hash": told})
    if case_no is not None:
        counted = update(_CASES).where(_CASES.c.case_no == case_no).values(lines=serial)
        line = line.add_cte(counted.cte("counted"))
        session.info[case_no] = session.info[case_no]._replace(lines=serial, last=told)
    session.execute(line)
    return result


def hashed(says: Mapping[str, Any], before: str) -> str:
    """The hash of a line: of what it says, instants as in `UTC_INSTANT`, and of the hash before it."""
    return hashlib.sha256(canonical({**says, "previous": before}).encode()).hexdigest()


UTC_INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'
"""How an instant of UTC is written in what is hashed, as PostgreSQL's `to_char` takes it."""


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def canonical(value: Any) -> str:
    """Data as JSON in the one form that is hashed: keys sorted, no spaces, numbers as PostgreSQL has them."""
    match value:
        case dict():
            return "{" + ",".join(f"{canonical(k)}:{canonical(v)}" for k, v in sorted(value.items())) + "}"
        case list():
            return "[" + ",".join(map(canonical, value)) + "]"
        case float():
            return canonical(Decimal(repr(value)))
        case Decimal():
            return format(value or abs(value), "f")
        case _:
            return json.dumps(value, ensure_ascii=False)


_CASELESS = 401  # the key of an advisory lock


def _next(session: Session, case_no: str | None) -> tuple[int, datetime, str]:
    """The next serial number of a chain, which is kept to this transaction; the time; the hash before it."""
    if case_no is not None:
        held: _Held | None = session.info.get(case_no)
        if held is None or held.within is not _within(session):
            held, _ = _lock(session, case_no)
        return held.lines + 1, held.at, held.last
    session.execute(select(func.pg_advisory_xact_lock(_CASELESS)))
    counted = select(func.coalesce(func.max(AuditLine.serial), 0) + 1, func.clock_timestamp())
    serial, now = session.execute(counted.where(AuditLine.case_no.is_(None))).one()
    lines = select(AuditLine.hash).where(AuditLine.case_no.is_(None)).order_by(AuditLine.serial.desc())
    return serial, now, session.scalar(lines.limit(1)) or ""


def line(at: datetime, by: str, text: str) -> Line:
    """A line of the story; what comes from outside in it is made harmless."""
    return Line(at=at, by=one_line(by), text=one_line(text))


def line_of(row: AuditLine) -> Line:
    """A line as it stands in the registry."""
    return Line(at=row.at, by=row.actor, text=row.text)


def lines(session: Session, case_no: str) -> Sequence[AuditLine]:
    """The lines of a case, oldest first, without what their steps answered."""
    told = select(AuditLine).where(AuditLine.case_no == case_no).options(defer(AuditLine.result))
    return session.scalars(told.order_by(AuditLine.serial)).all()


def trail(session: Session, case_no: str) -> list[Line]:
    """The story of a case, oldest first."""
    return list(map(line_of, lines(session, case_no)))
