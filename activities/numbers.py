"""400 numbers: frozen, taken back, served directly, released from quarantine, renewed."""

from collections.abc import Sequence
from datetime import date, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.step import Refused, Step, standing_case, the_case
from registry import audit, holds
from registry.models import Case, Number
from registry.session import Sessions
from rulebook.policy import in_force
from rulebook.vocabulary import Hold, Holder, Kind, NumberStatus, day_of, written

_IN_USE = (NumberStatus.ACTIVE, NumberStatus.FROZEN)


class FreezeNumber(Step):
    """Freeze the number of a case (1.1)."""


class UnfreezeNumber(Step):
    """Lift the freeze of a case's number: an officer's act (1.4), or the `undo` of its own (5.2)."""

    undo: bool = False


class ReclaimNumbers(Step):
    """Take back every number of a case's agent."""


class NumbersReclaimed(audit.Done):
    """The numbers that were taken back, and the day until which they rest in quarantine."""

    numbers: tuple[str, ...]
    quarantined_until: date


class TakeBackNumber(Step):
    """Take the number of a case back, and serve its customer directly (3.3)."""


class NumberTakenBack(audit.Done):
    """The number is served directly, with its next renewal; or `taken_by` names who took it first."""

    direct: bool
    taken_by: str = ""
    renewal_due: date


class AsOf(BaseModel):
    """The moment as of which something is asked."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime


class Renewal(BaseModel):
    """A number in direct service, and the day on which it has to be renewed."""

    model_config = ConfigDict(frozen=True)

    number: str
    due: date


class RenewNumber(BaseModel):
    """A number was renewed; `until` is its next renewal."""

    model_config = ConfigDict(frozen=True)

    number: str
    due: date
    until: date
    at: AwareDatetime
    by: str


class Numbers:
    """The activities on numbers."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def freeze_number(self, order: FreezeNumber) -> audit.Done:
        """Freeze the number at once (1.1); one that is frozen or in quarantine already stays as it is."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            case = standing_case(session, order.case_no)
            number = _number_of(session, order.case_no)
            before = number.status
            if before is not NumberStatus.FREE:
                _hold(session, order, case, Hold.FREEZE)
            what = "frozen" if before is NumberStatus.ACTIVE else f"is {before} already"
            return _done(session, order, number, what)

    @activity.defn
    def unfreeze_number(self, order: UnfreezeNumber) -> audit.Done:
        """Lift the freeze (1.4).

        Raises `Refused` if the number isn't frozen, or another case of fraud holds it: one that is open, and
        for an undo also one that stands.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            number = _number_of(session, order.case_no)
            if number.frozen_by is None:
                raise Refused(f"number {written(number.number)} is {number.status}, not frozen")
            if order.undo and number.frozen_by != order.case_no:
                raise Refused(f"case {number.frozen_by} froze the number")
            still_open = session.scalar(
                select(Case.case_no).where(
                    Case.number == number.number,
                    Case.kind == Kind.FRAUD,
                    Case.closed_at.is_(None),
                )
            )
            if still_open:
                froze = (
                    "froze the number and is still open"
                    if still_open == number.frozen_by
                    else "is open about it"
                )
                raise Refused(f"case {still_open} {froze}")
            frozen = holds.standing(session, case.agent_id, [Hold.FREEZE])
            own = case.case_no if order.undo else None
            lifted = [h for h in frozen if h.number == number.number and own in (None, h.case_no)]
            holds.lift(session, lifted, order.at, case.case_no)
            holds.bring_numbers(session, case.agent_id, [number.number])
            by = number.frozen_by
            return _done(session, order, number, f"stays frozen, by case {by}" if by else "unfrozen")

    @activity.defn
    def reclaim_numbers(self, order: ReclaimNumbers) -> NumbersReclaimed:
        """Take all numbers of the agent back into quarantine (2.5, 5.3); those taken back before stay so."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NumbersReclaimed, order.opened):
                return done
            case = standing_case(session, order.case_no)
            days = in_force(case.policy).quarantine.days
            until = day_of(order.at) + timedelta(days=days)
            kept = session.scalars(
                select(Number.number)
                .where(Number.agent_id == case.agent_id, Number.status != NumberStatus.FREE)
                .order_by(Number.number)
                .with_for_update(key_share=True)
            ).all()
            # Those that another case has taken too: should it be undone, they stay where this one put them.
            moved = _hold(session, order, case, Hold.RECLAIM, kept, until)
            text = (
                f"{len(moved)} numbers taken back, in quarantine until {until}"
                if moved
                else "No numbers were left to take back"
            )
            reclaimed = NumbersReclaimed(
                line=audit.line(order.at, order.by, text),
                numbers=tuple(number.number for number in moved),
                quarantined_until=until,
            )
            return audit.record(session, order.case_no, order.step, reclaimed)

    @activity.defn
    def take_back_number(self, order: TakeBackNumber) -> NumberTakenBack:
        """Take this one number back and serve its customer directly (3.3); a freeze on it goes on."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NumberTakenBack, order.opened):
                return done
            case = standing_case(session, order.case_no)
            number = _number_of(session, order.case_no)
            direct = number.holder is Holder.AGENT
            if direct:
                _hold(session, order, case, Hold.TAKE_BACK)
                what = f"taken back into direct service, next renewal {number.renewal_due}"
                what += ", still frozen" if number.frozen_by else ""
            else:
                what = f"was taken back before, by case {number.reclaimed_by}"
            taken = NumberTakenBack(
                line=audit.line(order.at, order.by, f"Number {written(number.number)} {what}"),
                direct=direct,
                taken_by=number.reclaimed_by or order.case_no,
                renewal_due=number.renewal_due,
            )
            return audit.record(session, order.case_no, order.step, taken)

    @activity.defn
    def end_quarantines(self, order: AsOf) -> int:
        """Free the numbers whose quarantine has ended by that day (5.3); returns how many."""
        today = day_of(order.at)
        with self._sessions.begin() as session:
            resting = (Number.status == NumberStatus.QUARANTINED) & (Number.quarantined_until < today)
            # Their cases first: what undoes a case has it, and waits for its numbers.
            cases = select(Number.reclaimed_by).where(resting).distinct().order_by(Number.reclaimed_by)
            for case_no in session.scalars(cases).all():
                if case_no:
                    audit.lock(session, case_no)
            rested = session.scalars(
                select(Number).where(resting).order_by(Number.number).with_for_update(key_share=True)
            ).all()
            for number in rested:
                number.status, number.holder = NumberStatus.FREE, Holder.NOBODY
                ended, number.quarantined_until = number.quarantined_until, None
                text = f"Number {written(number.number)} is free: its quarantine ended {ended}"
                step = f"quarantine-{number.number}-{ended}"
                held = [h for h in holds.standing(session, number.agent_id) if h.number == number.number]
                holds.lift(session, held, order.at, step)
                done = audit.Done(line=audit.line(order.at, "enforce", text))
                audit.record(session, number.reclaimed_by, step, done)
            return len(rested)

    @activity.defn
    def renewals_due(self, order: AsOf) -> list[Renewal]:
        """The numbers in direct service that have to be renewed within the policy's notice (3.3)."""
        today = day_of(order.at)
        until = today + timedelta(days=in_force(today).service_failure.renewal_notice)
        with self._sessions() as session:
            due = session.scalars(
                select(Number)
                .where(
                    Number.holder == Holder.PLATFORM, Number.status.in_(_IN_USE), Number.renewal_due <= until
                )
                .order_by(Number.renewal_due, Number.number)
            )
            return [Renewal(number=number.number, due=number.renewal_due) for number in due]

    @activity.defn
    def renew_number(self, order: RenewNumber) -> audit.Done:
        """Put a renewal on record. Raises `Refused` for a number that isn't in direct service."""
        with self._sessions.begin() as session:
            # The case before its number, as everywhere, or two wait for each other.
            taken_by = session.scalar(select(Number.reclaimed_by).where(Number.number == order.number))
            if taken_by:
                audit.lock(session, taken_by)
            number = session.get(Number, order.number, with_for_update={"key_share": True})
            direct = number and number.holder is Holder.PLATFORM and number.status in _IN_USE
            if number is None or taken_by is None or number.reclaimed_by != taken_by or not direct:
                raise Refused(f"number {written(order.number)} is not in direct service")
            step = f"renewal-{order.number}-{order.due}"
            if done := audit.recorded(session, taken_by, step, audit.Done):
                return done
            number.renewal_due = order.until
            text = f"Number {written(order.number)} renewed, next renewal {order.until}"
            done = audit.Done(line=audit.line(order.at, order.by, text))
            return audit.record(session, taken_by, step, done)


def _number_of(session: Session, case_no: str) -> Number:
    case = session.get_one(Case, case_no)
    return session.get_one(Number, case.number, with_for_update={"key_share": True})


def _hold(
    session: Session,
    order: Step,
    case: Case,
    kind: Hold,
    numbers: Sequence[str] = (),
    until: date | None = None,
) -> list[Number]:
    """Let the case hold these numbers, or its own; returns those whose status or holder has changed."""
    held = numbers or [case.number]
    holds.place(
        session,
        case_no=case.case_no,
        step=order.step,
        kind=kind,
        agent_id=case.agent_id,
        at=order.at,
        numbers=held,
        until=until,
    )
    return holds.bring_numbers(session, case.agent_id, held)


def _done(session: Session, order: Step, number: Number, what: str) -> audit.Done:
    line = audit.line(order.at, order.by, f"Number {written(number.number)} {what}")
    return audit.record(session, order.case_no, order.step, audit.Done(line=line))
