"""The inbox of violation reports: every report comes in here once, and waits until its case has it.

Several monitors share the work: each takes rows that no other one has, and keeps them by their locks. One
that dies lets go of them by that, and nothing has to be given back.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json
from sqlalchemy import ARRAY, BigInteger, ColumnElement, bindparam, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from registry import audit
from registry.models import Incoming
from rulebook.vocabulary import IncomingStatus

CHANNEL = "inbox"
"""On which PostgreSQL tells the monitors that something has come in (`LISTEN`)."""

TRIES = 8
"""How often a report is tried that makes trouble of its own, before it is parked for an officer."""


class Arrival(NamedTuple):
    """A report as it arrives."""

    source: str
    report_id: str
    payload: dict[str, Any]


class Put(NamedTuple):
    """Where a report is in the inbox; `new` if it came for the first time, `same` if as it came before."""

    id: int
    new: bool
    same: bool


class Outcome(NamedTuple):
    """What became of a report: the reason why it could not be handed over, or the workflow that has it."""

    id: int
    status: IncomingStatus
    reason: str | None = None
    workflow_id: str | None = None


class Figures(BaseModel):
    """What the inbox holds of one source, and how old what waits is, in seconds."""

    model_config = ConfigDict(frozen=True)

    source: str
    waiting: int
    handed: int
    refused: int
    parked: int
    discarded: int
    lag: float
    handed_last_minute: int


def put(session: Session, arrivals: Sequence[Arrival], via: str) -> list[Put]:
    """Put reports into the inbox, each once by its source and id; returns where each of them is."""
    arrivals = [Arrival(*map(storable, arrival)) for arrival in arrivals]
    keys = [(arrival.source, arrival.report_id) for arrival in arrivals]
    first: dict[tuple[str, str], Arrival] = {}
    for key, arrival in zip(keys, arrivals, strict=True):
        first.setdefault(key, arrival)
    rows = [arrival._asdict() | {"via": via} for arrival in first.values()]
    if not rows:
        return []
    added = insert(Incoming).values(rows).on_conflict_do_nothing()
    new = {
        (source, report_id): id_
        for source, report_id, id_ in session.execute(
            added.returning(Incoming.source, Incoming.report_id, Incoming.id)
        )
    }
    there = {}
    if len(new) < len(first):
        before = select(Incoming.source, Incoming.report_id, Incoming.id, Incoming.payload)
        found = session.execute(
            before.where(tuple_(Incoming.source, Incoming.report_id).in_(first.keys() - new.keys()))
        )
        there = {(source, report_id): (id_, payload) for source, report_id, id_, payload in found}
    placed: list[Put] = []
    seen: set[tuple[str, str]] = set()
    for key, arrival in zip(keys, arrivals, strict=True):
        id_, payload = (new[key], first[key].payload) if key in new else there[key]
        placed.append(Put(id_, key in new and key not in seen, payload == arrival.payload))
        seen.add(key)
    return placed


def waiting(session: Session, at_most: int | None = None) -> int:
    """How many reports wait; counted no further than `at_most`."""
    some = select(Incoming.id).where(Incoming.status == IncomingStatus.WAITING).limit(at_most).subquery()
    return session.execute(select(func.count()).select_from(some)).scalar_one()


def nested_too_deeply(text: str | bytes) -> bool:
    """Whether JSON is nested deeper than anything that is meant.

    Asked before Python's own reader sees it: at the depth at which that one gives up, whatever else is to be
    cleaned up in the process fails too.
    """
    try:
        from_json(text)
    except ValueError as error:
        return "recursion limit" in str(error)
    return False


def storable(value: Any) -> Any:
    """Data from outside without what PostgreSQL can't hold: NUL, and halves of characters."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
        case dict():
            return {storable(key): storable(content) for key, content in value.items()}
        case list():
            return [storable(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def claim(session: Session, at_most: int) -> Sequence[Incoming]:
    """Take reports that wait and that no other monitor has, the oldest first, until the transaction ends."""
    waiting = (
        select(Incoming)
        .where(Incoming.status == IncomingStatus.WAITING, Incoming.try_at <= func.clock_timestamp())
        .order_by(Incoming.id)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(waiting).all()


_SETTLE = text(
    """
    update inbox set status = o.status, reason = o.reason, workflow_id = o.workflow_id,
        settled_at = clock_timestamp(), settled_by = 'monitor'
    from unnest(cast(:ids as bigint[]), cast(:statuses as text[]), cast(:reasons as text[]),
        cast(:workflow_ids as text[])) as o (id, status, reason, workflow_id)
    where inbox.id = o.id
    """
)


def settle(session: Session, outcomes: Sequence[Outcome]) -> None:
    """Record what became of the reports that were claimed."""
    if outcomes:
        ids, statuses, reasons, workflow_ids = zip(*outcomes, strict=True)
        told = {"ids": list(ids), "statuses": [status.value for status in statuses]}
        session.execute(_SETTLE, told | {"reasons": list(reasons), "workflow_ids": list(workflow_ids)})


_LATER = text(
    """
    update inbox set attempts = attempts + 1, reason = o.reason,
        try_at = clock_timestamp() + least(power(2, attempts), 300) * interval '1 second',
        status = case when attempts + 1 < :tries then status else 'parked' end,
        settled_at = case when attempts + 1 < :tries then null else clock_timestamp() end,
        settled_by = case when attempts + 1 < :tries then null else 'monitor' end
    from unnest(cast(:ids as bigint[]), cast(:reasons as text[])) as o (id, reason)
    where inbox.id = o.id
    """
)


def try_later(session: Session, troubled: Sequence[tuple[int, str]]) -> None:
    """Try reports again that make trouble of their own, ever later; after `TRIES` they are parked."""
    if troubled:
        ids, reasons = zip(*troubled, strict=True)
        session.execute(_LATER, {"ids": list(ids), "reasons": list(reasons), "tries": TRIES})


def listed(
    session: Session,
    statuses: Sequence[IncomingStatus],
    source: str | None = None,
    at_most: int | None = None,
) -> Sequence[Incoming]:
    """The reports of these statuses, the newest first."""
    wanted = select(Incoming).where(Incoming.status.in_(statuses)).order_by(Incoming.id.desc())
    if source is not None:
        wanted = wanted.where(Incoming.source == source)
    return session.scalars(wanted.limit(at_most)).all()


def found(session: Session, named: str) -> Incoming | None:
    """A report by its number in the inbox, or as SOURCE/ID."""
    source, slash, report_id = named.partition("/")
    wanted = select(Incoming).with_for_update()
    if slash:
        return session.scalar(wanted.where(Incoming.source == source, Incoming.report_id == report_id))
    if named.isascii() and named.isdigit() and len(named) <= 18:
        return session.scalar(wanted.where(Incoming.id == int(named)))
    return None


def send_again(session: Session, report: Incoming, at: datetime, by: str) -> None:
    """Let a report that was refused, parked or discarded wait again, as it came."""
    report.status, report.attempts, report.reason = IncomingStatus.WAITING, 0, None
    report.settled_at = report.settled_by = None
    report.try_at = func.clock_timestamp()
    _tell(session, report, f"Report {report.source}/{report.report_id} is sent again", at, by)
    session.execute(text(f"notify {CHANNEL}"))


def discard(session: Session, report: Incoming, reason: str, at: datetime, by: str) -> None:
    """Discard a report: nothing comes of it, and an officer answers for that."""
    report.status, report.reason = IncomingStatus.DISCARDED, reason
    report.settled_at, report.settled_by = func.clock_timestamp(), by
    _tell(session, report, f"Report {report.source}/{report.report_id} discarded: {reason}", at, by)


def _tell(session: Session, report: Incoming, said: str, at: datetime, by: str) -> None:
    session.flush()
    audit.record(session, None, f"inbox-{report.id}", audit.Done(line=audit.line(at, by, said)))


def _among(ids: Sequence[int]) -> ColumnElement[bool]:
    # One parameter, however many they are.
    return Incoming.id == func.any(bindparam("ids", list(ids), ARRAY(BigInteger)))


def of(session: Session, ids: Sequence[int], *statuses: IncomingStatus) -> Sequence[Incoming]:
    """Of these reports those that have one of the statuses, in the order in which they came."""
    wanted = select(Incoming).where(_among(ids), Incoming.status.in_(statuses))
    return session.scalars(wanted.order_by(Incoming.id)).all()


def counted(session: Session, ids: Sequence[int]) -> dict[IncomingStatus, int]:
    """How many of these reports have which status."""
    those = select(Incoming.status, func.count()).where(_among(ids)).group_by(Incoming.status)
    return dict(session.execute(those).all())


_FIGURES = text(
    """
    select source,
        count(*) filter (where status = 'waiting') as waiting,
        count(*) filter (where status = 'handed') as handed,
        count(*) filter (where status = 'refused') as refused,
        count(*) filter (where status = 'parked') as parked,
        count(*) filter (where status = 'discarded') as discarded,
        coalesce(
            extract(epoch from clock_timestamp() - min(received_at) filter (where status = 'waiting')), 0
        ) as lag,
        count(*) filter (where status = 'handed' and settled_at > clock_timestamp() - interval '1 minute')
            as handed_last_minute
    from inbox group by source order by source
    """
)


def figures(session: Session) -> list[Figures]:
    """What the inbox holds, by source."""
    return [Figures.model_validate(dict(row)) for row in session.execute(_FIGURES).mappings()]


def is_name(value: Any) -> bool:
    """Whether a report can go by this, as its source or its id."""
    return isinstance(value, str) and 0 < len(value) <= 200
