"""The deadlines that hang on notices (rulebook 4): computed anew, extended, stopped, and going on."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.letters import day_of
from activities.notices import notice_of
from activities.step import Step
from registry import audit
from registry.calendar import calendar
from registry.models import Fine, Notice
from registry.session import Sessions
from registry.shown import Line
from rulebook.deadlines import Deadline, later
from rulebook.money import Balance
from rulebook.vocabulary import FineStatus, Stage
from rulebook.working_days import deadline, working_days


class ReckonDeadline(Step):
    """Compute the deadline of a notice anew; `step` is the notice's."""


class DeadlineReckoned(audit.Done):
    """The deadline as of now; when it is computed anew, also what the registry knows of money and end.

    `reviewed` are the lines about a review of the case's fine (5.5).
    """

    deadline: Deadline
    balance: Balance = Balance()
    outcome: Stage | None = None
    offence: int | None = None
    reviewed: tuple[Line, ...] = ()


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
            case = audit.lock(session, order.case_no)
            notice = notice_of(session, order.case_no, order.step)
            moved = self._move(session, notice, order, f"{order.step}-deadline", "Deadline computed anew")
            known = {
                "balance": balance(session, order.case_no),
                "outcome": case.outcome,
                "offence": session.scalar(
                    select(Fine.offence).where(Fine.case_no == order.case_no, Fine.status != FineStatus.VOID)
                ),
                "reviewed": tuple(line for line in audit.trail(session, order.case_no, steps="review-%")),
            }
            return moved.model_copy(update=known)

    @activity.defn
    def extend_limit(self, order: ExtendLimit) -> DeadlineReckoned:
        """Extend the limit of a notice by working days (4.4)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned):
                return done
            notice = notice_of(session, order.case_no, order.notice_step)
            notice.working_days = (notice.working_days or 0) + order.working_days
            what = f"Limit extended by {order.working_days} working days ({order.reason})"
            return self._move(session, notice, order, order.step, what, always=True)

    @activity.defn
    def stop_clock(self, order: StopClock) -> ClockStopped:
        """Stop the clock, and keep what is left of the limit in working days (4.4).

        The day on which it stops is left to the agent, and so is at least one day: it is told how it went on
        before it can be punished.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, ClockStopped):
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
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned):
                return done
            notice = notice_of(session, order.case_no, order.notice_step)
            notice.counted_from, notice.stopped_at = order.at, None
            what = f"The clock goes on ({order.why})"
            return self._move(session, notice, order, order.step, what, always=True)

    def _move(
        self, session: Session, notice: Notice, order: Step, key: str, what: str, *, always: bool = False
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
        if done := audit.recorded(session, order.case_no, key, DeadlineReckoned):
            return done
        return audit.record(session, order.case_no, key, reckoned)
