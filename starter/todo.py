"""What waits for officers, the most urgent first: from the registry, and from Temporal what only it knows."""

from collections.abc import Collection, Sequence
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from temporalio.client import Client

from activities.advice import command
from activities.appeals import PROPOSED, TOOK_PART
from registry import inbox, waits
from registry.figures import newest_limits
from registry.models import AuditLine, Case
from registry.session import Sessions, snapshot
from rulebook.deadlines import Deadline
from rulebook.vocabulary import SHANGHAI, Awaiting, IncomingStatus
from starter import docket
from starter.docket import Entry, Filter, Waiting

_AT_MOST = 1000  # of each sort that is told by Temporal or the inbox


class Task(BaseModel):
    """One thing that waits for an officer.

    `what` is one of `Awaiting`, or `report` (one that could not be taken in), or `failed` (a case whose
    workflow has failed). `deadline` is the end of the limit that runs in the case, or the day of a renewal;
    `working_days` have passed in full since it waits. `by_another`: this officer may not do it.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    case_no: str | None
    number: str | None
    agent_id: str | None = None
    agent_name: str | None = None
    since: datetime
    working_days: int | None = None
    deadline: datetime | None = None
    raised: int = 0
    escalated_on: date | None = None
    by_another: bool = False
    about: str = ""
    next: str

    def urgency(self) -> tuple[bool, datetime, datetime]:
        """What sorts tasks: taken to the supervisor first, then by deadline, then by age."""
        return (
            self.escalated_on is None,
            self.deadline or datetime.max.replace(tzinfo=SHANGHAI),
            self.since,
        )


async def tasks(
    client: Client, on_record: Sessions, officer: str, at: datetime, *, mine: bool = False
) -> list[Task]:
    """All that waits for officers as of a moment, the most urgent first.

    With `mine`, what this officer may do in cases that they have had a hand in. Raises `Unreachable`.
    """
    refused, _ = await docket.cases(client, Filter(awaiting=Awaiting.REFUSED_MESSAGE), _AT_MOST)
    failed, _ = await docket.cases(client, Filter(ended=None, failed=True), _AT_MOST)
    renewals = await docket.renewals(client)
    with snapshot(on_record) as session:
        found = _on_record(session, officer, at)
        found += [_in_case(one, Awaiting.REFUSED_MESSAGE) for one in refused]
        unclosed = _unclosed(session, failed)
        found += [_in_case(one, "failed") for one in failed if one.case_no in unclosed]
        if mine:
            cases = [task.case_no for task in found if task.case_no]
            handled = _acted_in(session, officer, cases, ("%",), opened=True)
            found = [task for task in found if task.case_no in handled and not task.by_another]
        else:
            found += [_renewal(one) for one in renewals] + _reports(session)
    return sorted(found, key=Task.urgency)


def _on_record(session: Session, officer: str, at: datetime) -> list[Task]:
    waiting = waits.waiting(session, at)
    cases = [wait.case_no for wait in waiting]
    deadlines = _deadlines(session, cases)
    took_part = {
        Awaiting.APPEAL: _acted_in(session, officer, cases, TOOK_PART, opened=True),
        Awaiting.APPROVAL: _acted_in(session, officer, cases, (PROPOSED,), opened=False),
    }
    return [
        Task(
            what=wait.what,
            case_no=wait.case_no,
            number=wait.number,
            agent_id=wait.agent_id,
            agent_name=wait.agent_name,
            since=wait.since,
            working_days=wait.working_days,
            deadline=deadlines.get(wait.case_no),
            raised=wait.raised,
            escalated_on=wait.escalated_on,
            by_another=wait.case_no in took_part.get(wait.what, ()),
            next=command(wait.what, wait.case_no, wait.number),
        )
        for wait in waiting
    ]


def _in_case(entry: Entry, what: str) -> Task:
    named = entry.case_no or entry.workflow_id
    return Task(
        what=what,
        case_no=entry.case_no,
        number=entry.number,
        agent_id=entry.agent,
        since=entry.ended_at or entry.opened_at,
        deadline=entry.deadline,
        next=f"enforce case {named}" + (" --web" if what == "failed" else ""),
    )


def _renewal(waiting: Waiting) -> Task:
    return Task(
        what=Awaiting.RENEWAL,
        case_no=None,
        number=waiting.number,
        since=waiting.since,
        deadline=Deadline(last_day=waiting.due).at,
        next=command(Awaiting.RENEWAL, "", waiting.number),
    )


def _reports(session: Session) -> list[Task]:
    unsettled = [IncomingStatus.REFUSED, IncomingStatus.PARKED]
    return [
        Task(
            what="report",
            case_no=None,
            number=None,
            since=report.settled_at or report.received_at,
            about=f"{report.source}/{report.report_id}: {report.reason or ''}",
            next=f"enforce reports show {report.id}",
        )
        for report in inbox.listed(session, unsettled, None, _AT_MOST)
    ]


def _deadlines(session: Session, cases: Collection[str]) -> dict[str, datetime]:
    """The ends of the limits that run, by case."""
    limit = newest_limits().c
    running = select(limit.case_no, limit.last_day).where(
        limit.case_no.in_(cases),
        *(limit.served_at.is_not(None), limit.bounced_at.is_(None), limit.stopped_at.is_(None)),
    )
    return {case_no: Deadline(last_day=day).at for case_no, day in session.execute(running)}


def _acted_in(
    session: Session, officer: str, cases: Collection[str], steps: Sequence[str], *, opened: bool
) -> set[str]:
    """Of these cases those in which the officer took one of these steps, or that they opened."""
    if not officer:
        return set()
    took = select(AuditLine.case_no).where(AuditLine.case_no.in_(cases), AuditLine.actor == officer)
    acted = {one for one in session.scalars(took.where(or_(*map(AuditLine.step.like, steps)))) if one}
    if opened:
        acted |= set(
            session.scalars(select(Case.case_no).where(Case.case_no.in_(cases), Case.opened_by == officer))
        )
    return acted


def _unclosed(session: Session, entries: Collection[Entry]) -> set[str]:
    """Of these cases those that the registry still has as open, under the same run."""
    runs = [entry.run_id for entry in entries]
    return set(session.scalars(select(Case.case_no).where(Case.run_id.in_(runs), Case.closed_at.is_(None))))
