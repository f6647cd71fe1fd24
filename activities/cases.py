"""Cases on record: opening, joining further reports, facts of the story, closing."""

from datetime import date
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload
from temporalio import activity

from activities.accounts import reopened_since
from activities.fines import balance, bring_up_if_in_time, bring_up_owed_back
from activities.step import Refused, Step, the_case
from registry import audit, waits
from registry.models import Account, AuditLine, Case, Number, ReportRow, case_numbers
from registry.session import Sessions
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import Awaiting, Holder, Kind, Stage, day_of, workflow_id, written


class OpenCase(BaseModel):
    """Which workflow opens a case, on which report, and when."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    at: AwareDatetime
    report: Report


class CaseOpened(audit.Done):
    """The case as it was opened, with the day of the policy that it keeps (5.4)."""

    case_no: str
    number: str
    customer: str
    agent_id: str
    agent_name: str
    policy: date


class AlreadyHandled(BaseModel):
    """The report belongs to a case that has ended: there is nothing to open."""

    model_config = ConfigDict(frozen=True)

    handled_in: str


class Opening(BaseModel):
    """How the opening ended: one of the two."""

    model_config = ConfigDict(frozen=True)

    opened: CaseOpened | None = None
    already: AlreadyHandled | None = None


class JoinReport(Step):
    """A further report about an open case."""

    report: Report


class FindCase(BaseModel):
    """Ask for a case by its number."""

    model_config = ConfigDict(frozen=True)

    case_no: str


class CaseFound(BaseModel):
    """A case on record: its kind, and as it was opened; `outcome` once it has ended."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    opened: CaseOpened
    outcome: Stage | None


class OthersOpen(BaseModel):
    """Ask for the other open cases of a case's agent; `own` asks for this case too, while it is open."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    own: bool = False


class AddLine(Step):
    """A fact of the story; with it, something begins or ends to wait for an officer (5.7)."""

    text: str
    begins: Awaiting | None = None
    ends: Awaiting | None = None


class CloseCase(Step):
    """How a case ends."""

    outcome: Stage
    text: str


class CaseClosed(audit.Done):
    """How the case has ended: what was put on record first stands."""

    outcome: Stage


def held_number(session: Session, number: str) -> Number:
    """The number, if an agent holds it, so that a case can be opened about it. Raises `Refused` if not.

    It is kept from being taken back until the transaction ends: a shutdown either finds the case, or the case
    finds the number gone (7.2).
    """
    held = select(Number).where(Number.number == number).options(joinedload(Number.agent, innerjoin=True))
    return in_agents_hands(number, session.scalar(held.with_for_update(read=True, of=Number)))


def in_agents_hands(number: str, found: Number | None) -> Number:
    """A number, if it is on record and an agent holds it. Raises `Refused` if not."""
    if found is None:
        raise Refused(f"number {written(number)} is not in the registry")
    if found.holder is not Holder.AGENT:
        until = f" until {found.quarantined_until}" if found.quarantined_until else ""
        raise Refused(f"number {written(number)} is not in an agent's hands: {found.status}{until}")
    return found


def put_on_record(session: Session, report: Report) -> ReportRow:
    """The row of a report, new or as it was, locked until the transaction ends.

    Raises `Refused` if the same source used the same id for another violation: one of the two would be lost.
    """
    payload: dict[str, Any] = report.model_dump(mode="json")
    new = insert(ReportRow).values(source=report.source, report_id=report.report_id, payload=payload)
    # What is there stays as it is: it is written only to be locked, and to be told.
    kept = new.on_conflict_do_update(
        index_elements=[ReportRow.source, ReportRow.report_id], set_={"payload": ReportRow.payload}
    )
    row = session.execute(
        kept.returning(ReportRow), execution_options={"populate_existing": True}
    ).scalar_one()
    same_violation(report, row)
    return row


def same_violation(report: Report, row: ReportRow) -> None:
    """Raise `Refused` if the row of a report is about another violation: one of the two would be lost."""
    known = Report.model_validate(row.payload)
    if (known.kind, known.number) != (report.kind, report.number):
        raise Refused(f"report {report.key} came before, about {workflow_id(known.kind, known.number)}")


class Cases:
    """The activities on cases."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @activity.defn
    def open_case(self, order: OpenCase) -> Opening:
        """Open the case of a report, or say in which case the report was handled already.

        1. A report belongs to at most one case: its row is locked, and a case on it is final.
        2. A case that is still open for the number and kind is adopted: it is this one, opened by an attempt
           that died before it could answer, or by a run that was reset or terminated; this run has it now.
        3. Should two attempts come here at once, the unique index lets one through; the other is retried.

        Raises `Refused` for a number that is not in the registry or not in an agent's hands.
        """
        report = order.report
        with self._sessions.begin() as session:
            row = put_on_record(session, report)
            if row.case_no is not None:
                owner = session.get_one(Case, row.case_no)
                if owner.closed_at is not None:
                    return Opening(already=AlreadyHandled(handled_in=owner.case_no))
            case = session.scalar(
                select(Case).where(
                    Case.number == report.number, Case.kind == report.kind, Case.closed_at.is_(None)
                )
            )
            if case is not None:
                row.case_no, case.run_id = case.case_no, order.run_id
                answer = session.scalar(
                    select(AuditLine.result).where(
                        AuditLine.case_no == case.case_no, AuditLine.step == "open"
                    )
                )
                return Opening(opened=CaseOpened.model_validate(answer))

            number = held_number(session, report.number)
            policy = in_force(day_of(order.at))
            serial = session.execute(select(case_numbers.next_value())).scalar_one()
            case = Case(
                case_no=f"{report.kind.prefix}-{day_of(order.at).year}-{serial:05d}",
                kind=report.kind,
                number=number.number,
                agent_id=number.agent_id,
                workflow_id=order.workflow_id,
                run_id=order.run_id,
                policy=policy.effective,
                opened_at=order.at,
                opened_by=report.reported_by,
            )
            session.add(case)
            session.flush()
            row.case_no = case.case_no
            line = audit.line(
                order.at,
                report.reported_by,
                f"Case {case.case_no} opened on report {report.key}: {report.kind.label}, "
                f"{report.business} business, under the policy of {policy.effective}",
            )
            opened = CaseOpened(
                line=line,
                case_no=case.case_no,
                number=number.number,
                customer=number.customer,
                agent_id=number.agent_id,
                agent_name=number.agent.name,
                policy=policy.effective,
            )
            return Opening(opened=audit.record(session, case.case_no, "open", opened))

    @activity.defn
    def find_case(self, asked: FindCase) -> CaseOpened:
        """A case of fraud as it was opened.

        Raises `Refused` where there is none, or where it was dismissed, its account closed for good or
        reopened since: then it is too late.
        """
        with self._sessions() as session:
            case = session.get(Case, asked.case_no)
            if case is None or case.kind is not Kind.FRAUD:
                raise Refused(f"there is no case of fraud {asked.case_no}")
            if case.outcome and case.outcome.undone:
                raise Refused(f"case {case.case_no} was {case.outcome}")
            if session.scalar(select(Account.closed_by).where(Account.agent_id == case.agent_id)):
                raise Refused(f"the account of agent {case.agent_id} is closed for good already")
            if reopened_since(session, case):
                raise Refused(f"the account of agent {case.agent_id} has been reopened since: too late")
            answer = session.scalar(
                select(AuditLine.result).where(AuditLine.case_no == case.case_no, AuditLine.step == "open")
            )
            return CaseOpened.model_validate(answer)

    @activity.defn
    def find_any_case(self, asked: FindCase) -> CaseFound:
        """A case of any kind, open or ended. Raises `Refused` where there is none."""
        with self._sessions() as session:
            case = the_case(session, asked.case_no)
            answer = session.scalar(
                select(AuditLine.result).where(AuditLine.case_no == case.case_no, AuditLine.step == "open")
            )
            return CaseFound(kind=case.kind, opened=CaseOpened.model_validate(answer), outcome=case.outcome)

    @activity.defn
    def others_open(self, asked: OthersOpen) -> list[str]:
        """The workflow ids of the other open cases of a case's agent (7.2)."""
        with self._sessions() as session:
            agent = select(Case.agent_id).where(Case.case_no == asked.case_no).scalar_subquery()
            others = select(Case.workflow_id).where(Case.agent_id == agent, Case.closed_at.is_(None))
            if not asked.own:
                others = others.where(Case.case_no != asked.case_no)
            return list(session.scalars(others.order_by(Case.case_no)))

    @activity.defn
    def join_report(self, order: JoinReport) -> audit.Done:
        """Add a further report to an open case as evidence; one that was handled elsewhere is left there."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            row = put_on_record(session, order.report)
            if row.case_no not in (None, order.case_no):
                text = f"Report {order.report.key} was handled in {row.case_no} already: not counted again"
            else:
                row.case_no = order.case_no
                text = f"Report {order.report.key} joined the case as evidence"
            line = audit.line(order.at, order.by, text)
            return audit.record(session, order.case_no, order.step, audit.Done(line=line))

    @activity.defn
    def add_line(self, order: AddLine) -> audit.Done:
        """Put a fact of the story on record."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            if order.ends:
                waits.end(session, order.case_no, order.ends, order.at)
            if order.begins:
                waits.begin(session, order.case_no, order.begins, order.at)
            line = audit.line(order.at, order.by, order.text)
            return audit.record(session, order.case_no, order.step, audit.Done(line=line))

    @activity.defn
    def close_case(self, order: CloseCase) -> CaseClosed:
        """Close the case with its outcome; one that is closed already stays as it is.

        It isn't dismissed any more if it has closed the account for good meanwhile (1.6).
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, CaseClosed, order.opened):
                return done
            case = session.get_one(Case, order.case_no)
            outcome, text = order.outcome, order.text
            for_good = select(Account.agent_id).where(Account.closed_by == case.case_no)
            if outcome is Stage.DISMISSED and session.scalar(for_good):
                outcome, text = Stage.CLOSED_FOR_GOOD, "Not dismissed: the account is closed for good"
            case.outcome, case.closed_at = outcome, order.at
            now = balance(session, case.case_no)
            if outcome is Stage.SHUT_DOWN:  # the fine may have come in just before
                bring_up_if_in_time(session, case, now, order.at)
            bring_up_owed_back(session, case, now, order.at)
            for what in (Awaiting.VERIFICATION, Awaiting.RESUMPTION):
                waits.end(session, case.case_no, what, order.at)
            closed = CaseClosed(line=audit.line(order.at, order.by, text), outcome=outcome)
            return audit.record(session, order.case_no, order.step, closed)
