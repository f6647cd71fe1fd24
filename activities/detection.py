"""The platform's own checks: what follows from complaints and observations goes into the inbox, once."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Select, select, text, tuple_, update
from sqlalchemy.orm import Session
from temporalio import activity

from activities.numbers import AsOf
from registry import audit, inbox, models
from registry.calendar import calendar
from registry.session import Sessions
from rulebook.detection import (
    SOURCE,
    Complaint,
    Evidence,
    Found,
    ObservedUse,
    OperatorAlert,
    Record,
    found,
)
from rulebook.policy import Policy, in_force
from rulebook.vocabulary import ComplaintKind, Holder, Kind, NumberStatus, day_of


class Detected(BaseModel):
    """How many reports of each kind went into the inbox, and how much evidence they name."""

    model_config = ConfigDict(frozen=True)

    reports: dict[Kind, int]
    evidence: int


def violations(session: Session, policy: Policy, now: datetime) -> list[Found]:
    """The violations that follow from the evidence on record at a moment, by number and kind."""
    evidence = _evidence(session, policy, now)
    days = calendar(session)
    records = _records(session, evidence)
    return [one for record in records for one in found(record, policy.detection, days, now)]


def report(session: Session, now: datetime, by: str) -> list[Found]:
    """Put the violations that are to be reported now into the inbox, within the caller's transaction."""
    # Of two runs at once, each would report what the other does; an import goes before or after.
    session.execute(text("lock table complaints, observed_uses, operator_alerts in share row exclusive mode"))
    policy = in_force(day_of(now))
    reported = [one for one in violations(session, policy, now) if not one.held_back]
    if not reported:
        return []
    reports = [one.report for one in reported]
    inbox.put(
        session,
        [inbox.Arrival(SOURCE, said.report_id, said.model_dump(mode="json")) for said in reports],
        via=SOURCE,
    )
    session.add_all(
        models.Detection(report_id=said.report_id, kind=said.kind, number=said.number, detected_at=now)
        for said in reports
    )
    session.flush()
    for one, said in zip(reported, reports, strict=True):
        _mark(session, one.evidence, said.report_id)
    audit.record(session, None, SOURCE, audit.Done(line=audit.line(now, by, _told(reported))))
    return reported


def _told(reported: Sequence[Found]) -> str:
    kinds = Counter(one.kind for one in reported)
    each = ", ".join(f"{kinds[kind]} of {kind.en}" for kind in Kind if kinds[kind])
    rows = sum(len(one.evidence) for one in reported)
    return f"Detection: {len(reported)} reports ({each}) from {rows} complaints, observations and alerts"


class _Kept(NamedTuple):
    """Where evidence of a type is kept, and by which columns a row is known."""

    table: Any
    key: tuple[str, ...]


_KEPT: dict[type[Evidence], _Kept] = {
    Complaint: _Kept(models.Complaint, ("channel", "complaint_id")),
    ObservedUse: _Kept(models.ObservedUse, ("observation_id",)),
    OperatorAlert: _Kept(models.OperatorAlert, ("operator", "alert_id")),
}


def _mark(session: Session, evidence: Sequence[Evidence], report_id: str) -> None:
    """Record which report names these rows: no other one will."""
    for of, (table, key) in _KEPT.items():
        rows = [tuple(getattr(one, name) for name in key) for one in evidence if isinstance(one, of)]
        if rows:
            columns = tuple_(*(getattr(table, name) for name in key))
            session.execute(update(table).where(columns.in_(rows)).values(reported_in=report_id))


def _evidence(session: Session, policy: Policy, now: datetime) -> dict[str, list[Evidence]]:
    """What no report has named and what may still count, by number."""
    limits = policy.detection
    observed = now - timedelta(days=limits.observed_within)
    alarmed = now - timedelta(days=limits.fraud_within)
    complaint, use, alert = models.Complaint, models.ObservedUse, models.OperatorAlert
    unanswered = complaint.answered_at.is_(None) | (complaint.answered_at > now)
    wanted: list[tuple[type[Evidence], Select[Any]]] = [
        (Complaint, select(complaint).where(complaint.kind == ComplaintKind.SERVICE, unanswered)),
        (
            Complaint,
            select(complaint).where(complaint.kind == ComplaintKind.FRAUD, complaint.received_at >= alarmed),
        ),
        (ObservedUse, select(use).where(use.observed_at >= observed)),
        (OperatorAlert, select(alert).where(alert.raised_at >= alarmed)),
    ]
    by_number: defaultdict[str, list[Evidence]] = defaultdict(list)
    for of, rows in wanted:
        for row in session.scalars(rows.where(_KEPT[of].table.reported_in.is_(None))):
            by_number[row.number].append(of.model_validate(row, from_attributes=True))
    return dict(by_number)


# One statement, so that a number, its cases and what held it are seen as of one moment.
_STATE = text(
    """
    select n.number, known.customer, known.status, known.holder, known.quarantined_until,
        k.kind, lifted.at as lifted, of_kind.is_open, of_kind.ended, reported.at as reported
    from unnest(cast(:numbers as text[])) as n (number)
    cross join unnest(cast(:kinds as text[])) as k (kind)
    left join numbers known on known.number = n.number
    left join (
        select number, max(lifted_at) as at from holds where number = any(:numbers) group by number
    ) lifted on lifted.number = n.number
    left join (
        select number, kind, bool_or(closed_at is null) as is_open, max(closed_at) as ended
        from cases where number = any(:numbers) group by number, kind
    ) of_kind on of_kind.number = n.number and of_kind.kind = k.kind
    left join (
        select number, kind, max(detected_at) as at
        from detections where number = any(:numbers) group by number, kind
    ) reported on reported.number = n.number and reported.kind = k.kind
    order by n.number
    """
)


def _records(session: Session, evidence: dict[str, list[Evidence]]) -> list[Record]:
    """What is on record of the numbers that there is evidence about."""
    if not evidence:
        return []
    asked = {"numbers": list(evidence), "kinds": [kind.value for kind in Kind]}
    states: defaultdict[str, list[Any]] = defaultdict(list)
    for row in session.execute(_STATE, asked):
        states[row.number].append(row)
    return [
        Record(
            number=number,
            customer=rows[0].customer,
            out_of_use=_out_of_use(rows[0]),
            open=frozenset(Kind(row.kind) for row in rows if row.is_open),
            dealt_with={
                Kind(row.kind): max(ended)
                for row in rows
                if (ended := [at for at in (row.lifted, row.ended) if at])
            },
            reported={Kind(row.kind): day_of(row.reported) for row in rows if row.reported},
            evidence=tuple(evidence[number]),
        )
        for number, rows in states.items()
    ]


def _out_of_use(row: Any) -> str | None:
    if row.status is None or (row.status == NumberStatus.ACTIVE and row.holder == Holder.AGENT):
        return None
    if row.status == NumberStatus.ACTIVE:
        return "the platform serves its customer directly"
    return f"the number is {row.status}" + (
        f" until {row.quarantined_until}" if row.quarantined_until else ""
    )


class Detections:
    """The activity of the platform's own checks."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def detect(self, order: AsOf) -> Detected:
        """Report what follows from the evidence on record at that moment; done again, it reports nothing."""
        with self._sessions.begin() as session:
            reported = report(session, order.at, "enforce")
        return Detected(
            reports=Counter(one.kind for one in reported),
            evidence=sum(len(one.evidence) for one in reported),
        )
