"""Appeals: filed with a statement and evidence, decided by an officer who had no part in the case (5.1)."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.step import Refused, Step, the_case
from registry import audit, waits
from registry.models import Appeal, AuditLine, Case, Evidence
from registry.session import Sessions
from rulebook.policy import in_force
from rulebook.vocabulary import Awaiting, day_of

PROPOSED = "serious-%-proposed"
"""The step in which an officer has found circumstances serious: another one approves (1.6)."""

TOOK_PART = ("verify-%", PROPOSED, "serious-%-close")
"""The steps in which an officer has taken part in punishing: who did may not decide on the appeal (5.1)."""


class FileAppeal(Step):
    """The agent appeals; `evidence` are the hashes of the files that it put before the platform."""

    statement: str
    evidence: tuple[str, ...] = ()


class AppealFiled(audit.Done):
    """The appeal, by its number."""

    appeal_no: str


class DecideAppeal(Step):
    """An officer decides the appeal that is pending; `upheld` says that the case stands."""

    upheld: bool
    reasons: str


class Appeals:
    """The activities on appeals."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def file_appeal(self, order: FileAppeal) -> AppealFiled:
        """Put an appeal on record (5.1).

        One that is pending and says the same is this one, begun again. Raises `Refused` where the case was
        undone, another is pending, evidence is not on record, or the time for it is over: so many days of the
        policy after the case has ended.
        """
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, AppealFiled, order.opened):
                return done
            if case.outcome and case.outcome.undone:
                raise Refused(f"case {case.case_no} was {case.outcome}: there is nothing to appeal against")
            pending = _pending(session, case.case_no)
            if pending and (pending.statement, pending.filed_by) == (order.statement, order.by):
                filed_before = AuditLine.result["appeal_no"].astext == pending.appeal_no
                answer = select(AuditLine.result).where(AuditLine.case_no == case.case_no, filed_before)
                return AppealFiled.model_validate(session.scalar(answer))
            within = in_force(case.policy).appeal.within
            if case.closed_at:
                last_day = day_of(case.closed_at) + timedelta(days=within)
                if day_of(order.at) > last_day:
                    raise Refused(f"too late: an appeal against {case.case_no} was possible until {last_day}")
            if pending:
                raise Refused(f"appeal {pending.appeal_no} is still to be decided")
            unknown = set(order.evidence) - set(
                session.scalars(select(Evidence.sha256).where(Evidence.sha256.in_(order.evidence)))
            )
            if unknown:
                raise Refused(f"no evidence is on record under {', '.join(sorted(unknown))}")
            earlier = session.scalar(
                select(func.count()).select_from(Appeal).where(Appeal.case_no == case.case_no)
            )
            appeal = Appeal(
                appeal_no=f"{case.case_no}-A{(earlier or 0) + 1}",
                case_no=case.case_no,
                statement=order.statement,
                evidence=list(order.evidence),
                filed_at=order.at,
                filed_by=order.by,
            )
            session.add(appeal)
            waits.begin(session, case.case_no, Awaiting.APPEAL, order.at)
            files = f", with {len(order.evidence)} files of evidence" if order.evidence else ""
            text = f"Appeal {appeal.appeal_no}: {order.statement}{files}"
            filed = AppealFiled(line=audit.line(order.at, order.by, text), appeal_no=appeal.appeal_no)
            return audit.record(session, order.case_no, order.step, filed)

    @activity.defn
    def decide_appeal(self, order: DecideAppeal) -> audit.Done:
        """Decide the appeal. Raises `Refused` if none is pending, or the officer had a part in the case."""
        with self._sessions.begin() as session:
            case = the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            appeal = _pending(session, case.case_no)
            if appeal is None:
                raise Refused(f"no appeal against {case.case_no} is pending")
            if part := _part_in(session, case, order.by):
                raise Refused(f"{order.by} {part}: another officer has to decide")
            appeal.decided_at, appeal.decided_by = order.at, order.by
            appeal.upheld, appeal.reasons = order.upheld, order.reasons
            waits.end(session, case.case_no, Awaiting.APPEAL, order.at)
            decided = "the case stands" if order.upheld else "the case is overturned"
            text = f"Appeal {appeal.appeal_no} decided, {decided}: {order.reasons}"
            line = audit.line(order.at, order.by, text)
            return audit.record(session, order.case_no, order.step, audit.Done(line=line))


def _pending(session: Session, case_no: str) -> Appeal | None:
    return session.scalar(select(Appeal).where(Appeal.case_no == case_no, Appeal.decided_at.is_(None)))


def _part_in(session: Session, case: Case, officer: str) -> str:
    """The part that an officer has had in a case, in words; "" if none."""
    if officer == case.opened_by:
        return f"opened case {case.case_no}"
    lines = select(AuditLine.text).where(AuditLine.case_no == case.case_no, AuditLine.actor == officer)
    for steps in TOOK_PART:
        if text := session.scalar(lines.where(AuditLine.step.like(steps)).limit(1)):
            return f"took part in case {case.case_no} ({text[:80]})"
    return ""
