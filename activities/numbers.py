"""400 numbers."""

from datetime import date, timedelta

from sqlalchemy import select
from temporalio import activity

from activities.step import Step
from registry import audit
from registry.models import Case, Number
from registry.session import Sessions
from rulebook.policy import in_force
from rulebook.vocabulary import SHANGHAI, NumberStatus


class ReclaimNumbers(Step):
    """Take back every number of a case's agent."""


class NumbersReclaimed(audit.Done):
    """The numbers that were taken back, and the day until which they rest in quarantine."""

    numbers: tuple[str, ...]
    quarantined_until: date


class Numbers:
    """The activities on numbers."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def reclaim_numbers(self, order: ReclaimNumbers) -> NumbersReclaimed:
        """Take all numbers of the agent back into quarantine (2.5, 5.3); those taken back before stay so."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NumbersReclaimed):
                return done
            case = session.get_one(Case, order.case_no)
            days = in_force(case.policy).quarantine.days
            until = order.at.astimezone(SHANGHAI).date() + timedelta(days=days)
            held = session.scalars(
                select(Number)
                .where(Number.agent_id == case.agent_id, Number.status == NumberStatus.ACTIVE)
                .order_by(Number.number)
                .with_for_update()
            ).all()
            for number in held:
                number.status, number.quarantined_until = NumberStatus.QUARANTINED, until
                number.reclaimed_by = order.case_no
            text = (
                f"{len(held)} numbers taken back, in quarantine until {until}"
                if held
                else "No numbers were left to take back"
            )
            reclaimed = NumbersReclaimed(
                line=audit.line(order.at, order.by, text),
                numbers=tuple(number.number for number in held),
                quarantined_until=until,
            )
            return audit.record(session, order.case_no, order.step, reclaimed)
