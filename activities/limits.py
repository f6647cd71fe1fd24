"""The deadlines that hang on notices (rulebook 4): computed anew, extended, stopped, and going on."""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.notices import notice_of
from activities.step import Step
from registry import audit
from registry.calendar import calendar
from registry.models import Appeal, AuditLine, Fine, Notice, Wait
from registry.session import Sessions
from registry.shown import Line
from rulebook.deadlines import Deadline, later
from rulebook.money import Balance
from rulebook.vocabulary import Awaiting, FineStatus, NoticeKind, Stage, day_of
from rulebook.working_days import deadline, working_days


class ReckonDeadline(Step):
    """Compute the deadline of a notice anew; `step` is the notice's."""


class Standing(BaseModel):
    """What a step of the case has brought about that stands, and holds its penalty back or moves its limit.

    A hold (`held`) or an appeal (`appeal`) that stops the clock, a `rectification` that nobody has verified
    yet, or one that was `verified`, a limit that counts `anew` since the case was taken up again.
    """

    model_config = ConfigDict(frozen=True)

    what: Literal["held", "appeal", "rectification", "verified", "anew"]
    step: str
    why: str


class Taken(BaseModel):
    """How often the clock had stopped or gone on before it stands as it does; of two notices, how many."""

    model_config = ConfigDict(frozen=True)

    clock_moves: int = 0
    restatements: int = 0
    decisions: int = 0


class DeadlineReckoned(audit.Done):
    """The deadline as of now; when it is computed anew, also what the registry knows of money and end.

    `reviewed` are the lines about a review of the case's fine (5.5), `standing` is what stands while this
    limit is the case's last one. `lines` is how many lines of the audit trail were looked at, `taken` how
    many steps had been taken before of those that are numbered.
    """

    deadline: Deadline
    balance: Balance = Balance()
    outcome: Stage | None = None
    offence: int | None = None
    reviewed: tuple[Line, ...] = ()
    standing: tuple[Standing, ...] = ()
    lines: int = 0
    taken: Taken = Taken()


class ExtendLimit(Step):
    """Give the agent more working days for the limit of a notice (4.4)."""

    notice_step: str
    working_days: int
    reason: str


class StopClock(Step):
    """Stop the clock of a notice's limit: an appeal is pending, or an officer holds the case (4.4)."""

    notice_step: str
    why: str


class RestartClock(Step):
    """Let the clock of a notice's limit go on, with what was left of it."""

    notice_step: str
    why: str


class ClockStopped(audit.Done):
    """How many working days are left of the limit."""

    working_days: int


class Limits:
    """The activities on limits."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def reckon_deadline(self, order: ReckonDeadline) -> DeadlineReckoned:
        """Compute a deadline anew from the calendar of now, before anybody is punished for it (4.3)."""
        with self._sessions.begin() as session:
            case = audit.lock(session, order.case_no, order.opened)
            notice = notice_of(session, order.case_no, order.step)
            moved = _move(session, notice, order, f"{order.step}-deadline", "Deadline computed anew")
            trail = audit.lines(session, order.case_no)
            known = {
                "balance": balance(session, order.case_no),
                "outcome": case.outcome,
                "offence": session.scalar(
                    select(Fine.offence).where(Fine.case_no == order.case_no, Fine.status != FineStatus.VOID)
                ),
                "reviewed": tuple(audit.line_of(line) for line in trail if line.step.startswith("review-")),
                "standing": tuple(_standing(session, notice, trail)),
                "lines": len(trail),
                "taken": _taken(notice, trail),
            }
            return moved.model_copy(update=known)

    @activity.defn
    def extend_limit(self, order: ExtendLimit) -> DeadlineReckoned:
        """Extend the limit of a notice by working days (4.4)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned, order.opened):
                return done
            notice = notice_of(session, order.case_no, order.notice_step)
            notice.working_days = (notice.working_days or 0) + order.working_days
            what = f"Limit extended by {order.working_days} working days ({order.reason})"
            return _move(session, notice, order, order.step, what, always=True)

    @activity.defn
    def stop_clock(self, order: StopClock) -> ClockStopped:
        """Stop the clock, and keep what is left of the limit in working days (4.4).

        The day on which it stops is left to the agent, and so is at least one day: it is told how it went on
        before it can be punished.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, ClockStopped, order.opened):
                return done
            notice = notice_of(session, order.case_no, order.notice_step)
            assert notice.counted_from and notice.last_day
            first = max(day_of(order.at), day_of(notice.counted_from) + timedelta(days=1))
            left = max(1, working_days(first, notice.last_day, calendar(session)))
            notice.stopped_at, notice.working_days = order.at, left
            text = f"The clock stands still, {left} working days are left ({order.why})"
            stopped = ClockStopped(line=audit.line(order.at, order.by, text), working_days=left)
            return audit.record(session, order.case_no, order.step, stopped)

    @activity.defn
    def restart_clock(self, order: RestartClock) -> DeadlineReckoned:
        """Let the clock go on: what was left of the limit counts from the day after today (4.4)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned, order.opened):
                return done
            notice = notice_of(session, order.case_no, order.notice_step)
            notice.counted_from, notice.stopped_at = order.at, None
            what = f"The clock goes on ({order.why})"
            return _move(session, notice, order, order.step, what, always=True)


def _move(
    session: Session, notice: Notice, order: Step, key: str, what: str, *, always: bool = False
) -> DeadlineReckoned:
    """Bring a notice's deadline to what the calendar says now, never earlier than it was promised."""
    if notice.counted_from is None or notice.last_day is None or notice.working_days is None:
        raise ValueError(f"notice {notice.notice_no} sets no limit that runs")
    promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
    now = later(promised, deadline(notice.counted_from, notice.working_days, calendar(session)))
    notice.last_day, notice.provisional = now.last_day, now.provisional
    line = audit.line(order.at, order.by, f"{what}: limit ends {now}")
    reckoned = DeadlineReckoned(line=line, deadline=now)
    if not always:
        if now == promised:
            return reckoned
        key = f"{key}-{now.last_day}{'-provisional' if now.provisional else ''}"
    if done := audit.recorded(session, order.case_no, key, DeadlineReckoned, order.opened):
        return done
    return audit.record(session, order.case_no, key, reckoned)


def _standing(session: Session, notice: Notice, trail: Sequence[AuditLine]) -> Iterator[Standing]:
    """What stands in the case of a limit, if that is its last one: those before it are over."""
    limits = select(Notice.step).where(Notice.case_no == notice.case_no, Notice.last_day.is_not(None))
    pending = select(Appeal.appeal_no).where(Appeal.case_no == notice.case_no, Appeal.decided_at.is_(None))
    unverified = select(Wait.id).where(
        Wait.case_no == notice.case_no, Wait.what == Awaiting.VERIFICATION, Wait.ended_at.is_(None)
    )
    newest, appeal_no, waits = session.execute(
        select(
            limits.order_by(Notice.drafted_at.desc()).limit(1).scalar_subquery(),
            pending.limit(1).scalar_subquery(),
            unverified.exists(),
        )
    ).one()
    if newest != notice.step:
        return

    def last(*steps: str) -> AuditLine | None:
        return next((line for line in reversed(trail) if line.step.startswith(steps)), None)

    held = last("hold-", "resume-")
    if held and held.step.startswith("hold-"):
        yield Standing(what="held", step=held.step, why=held.text.removeprefix("Case held: "))
    if appeal_no and (filed := last("appeal-")):
        yield Standing(what="appeal", step=filed.step, why=f"appeal {appeal_no} is pending")
    if waits and (reported := last("rectification-")):
        yield Standing(what="rectification", step=reported.step, why=reported.text)
    verified = last("verify-", "customer-confirmed")
    if verified and not verified.text.startswith("Verification failed"):
        yield Standing(what="verified", step=verified.step, why=verified.text)
    if anew := last(TAKEN_UP):
        yield Standing(what="anew", step=anew.step, why=_WHY_ANEW)


def _taken(notice: Notice, trail: Sequence[AuditLine]) -> Taken:
    def count(steps: str) -> int:
        return sum(bool(re.fullmatch(f"{steps}(-[0-9]+)?", line.step)) for line in trail)

    return Taken(
        clock_moves=max(0, count("clock") - bool(notice.stopped_at)),  # that it stopped is found once more
        restatements=count(f"notice-{NoticeKind.DEADLINE}"),
        decisions=count(f"notice-{NoticeKind.APPEAL_DECISION}"),
    )


TAKEN_UP = "taken-up-"
"""The step, before the id of the run before, in which a case was taken up again from the record."""

_WHY_ANEW = "the case was taken up again from the record, and the limit counts anew"


def take_up(session: Session, order: Step, text: str) -> None:
    """Put on record that a case is taken up again from the record, and let its limit count anew, in full.

    What the agent did meanwhile is not known. A clock that stands still goes on to, and no limit ends earlier
    than it was promised. Done once for a step.
    """
    if audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
        return
    limits = select(Notice).where(Notice.case_no == order.case_no, Notice.last_day.is_not(None))
    limit = session.scalar(limits.order_by(Notice.drafted_at.desc()).limit(1))
    if limit and limit.counted_from and limit.stopped_at is None:
        limit.counted_from = order.at
        _move(session, limit, order, order.step, text, always=True)
    else:
        audit.record(
            session, order.case_no, order.step, audit.Done(line=audit.line(order.at, order.by, text))
        )
