"""Filings in serious circumstances (rulebook 1.6): prepared as documents, each with a status of its own."""

import hashlib
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.fines import balance
from activities.letters import environment
from activities.step import Refused, Serious, Step, standing_case
from registry import audit, waits
from registry.models import Agent, Case, Filing, Fine, Notice, Number, ReportRow
from registry.session import Sessions
from registry.shown import FilingShown
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import LEGAL_MOVES, Awaiting, FilingKind, FilingStatus, FineStatus


class PrepareFilings(Step):
    """Prepare every filing of a case."""

    serious: Serious


class FilingsPrepared(audit.Done):
    """The filings of a case."""

    filings: tuple[FilingShown, ...]


class MoveFiling(Step):
    """An officer says what became of a filing."""

    filing_no: str
    status: FilingStatus
    reason: str = ""


class FilingMoved(audit.Done):
    """The filing as it is now."""

    filing: FilingShown


class WithdrawFilings(Step):
    """Withdraw every filing of a case that is undone."""

    reason: str


class FilingsWithdrawn(audit.Done):
    """The filings of a case; those whose withdrawal an officer has to submit are `withdrawing`."""

    filings: tuple[FilingShown, ...]


class Filings:
    """The activities on filings."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._documents = environment()

    @activity.defn
    def prepare_filings(self, order: PrepareFilings) -> FilingsPrepared:
        """Prepare one filing for each operator of the agent's numbers, for MIIT, the public, the police.

        Each is a document and an attachment for machines, with the evidence and its hashes.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FilingsPrepared, order.opened):
                return done
            case = standing_case(session, order.case_no)
            # Also those that an earlier shutdown or take-back has taken: they are what the operators know.
            numbers = session.scalars(
                select(Number).where(Number.agent_id == case.agent_id).order_by(Number.number)
            ).all()
            operators = sorted({number.operator for number in numbers})
            wanted = [(FilingKind.OPERATOR, name) for name in operators]
            wanted += [(kind, kind.recipient) for kind in FilingKind if kind.recipient]
            filings = []
            for serial, (kind, recipient) in enumerate(wanted, 1):
                filing = Filing(
                    filing_no=f"{case.case_no}-F{serial}",
                    case_no=case.case_no,
                    kind=kind,
                    recipient=recipient,
                )
                concerned = [n for n in numbers if kind is not FilingKind.OPERATOR or n.operator == recipient]
                self._write(session, case, filing, concerned, order)
                filing.status, filing.since = FilingStatus.PREPARED, order.at
                session.add(filing)
                filings.append(shown(filing))
            waits.begin(session, case.case_no, Awaiting.FILING, order.at)
            text = f"{len(filings)} filings prepared: {', '.join(f.recipient for f in filings)}"
            prepared = FilingsPrepared(line=audit.line(order.at, order.by, text), filings=tuple(filings))
            return audit.record(session, order.case_no, order.step, prepared)

    @activity.defn
    def move_filing(self, order: MoveFiling) -> FilingMoved:
        """Move a filing on. Raises `Refused` where its status doesn't allow it."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FilingMoved, order.opened):
                return done
            filing = session.get(Filing, order.filing_no, with_for_update=True)
            if filing is None or filing.case_no != order.case_no:
                raise Refused(f"case {order.case_no} has no filing {order.filing_no}")
            if (filing.status, order.status) not in LEGAL_MOVES[FilingStatus]:
                raise Refused(f"filing {filing.filing_no} is {filing.status}: it can't become {order.status}")
            filing.status, filing.reason, filing.since = order.status, order.reason or None, order.at
            session.flush()
            every = session.scalars(select(Filing.status).where(Filing.case_no == order.case_no))
            if all(status.done for status in every):
                for what in (Awaiting.FILING, Awaiting.WITHDRAWAL):
                    waits.end(session, order.case_no, what, order.at)
            why = f" ({order.reason})" if order.reason else ""
            text = f"Filing {filing.filing_no} to {filing.recipient} {order.status}{why}"
            moved = FilingMoved(line=audit.line(order.at, order.by, text), filing=shown(filing))
            return audit.record(session, order.case_no, order.step, moved)

    @activity.defn
    def withdraw_filings(self, order: WithdrawFilings) -> FilingsWithdrawn:
        """Withdraw the case's filings (5.2): each that went out gets a document that takes it back.

        The announcement's is its correction. What never went out is simply withdrawn; what was waived stays.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, FilingsWithdrawn, order.opened):
                return done
            case = session.get_one(Case, order.case_no)
            filings = session.scalars(
                select(Filing)
                .where(Filing.case_no == case.case_no, Filing.status != FilingStatus.WAIVED)
                .order_by(Filing.filing_no)
                .with_for_update()
            ).all()
            for filing in filings:
                out = filing.status in (FilingStatus.SUBMITTED, FilingStatus.ACKNOWLEDGED)
                if out:
                    public = filing.kind is FilingKind.ANNOUNCEMENT
                    document = f"zh/filing/{'correction' if public else 'withdrawal'}.txt.j2"
                    filing.withdrawal = self._documents.get_template(document).render(
                        filing=filing,
                        case=case,
                        agent=session.get_one(Agent, case.agent_id),
                        reason=order.reason,
                        policy=in_force(case.policy),
                        at=order.at,
                    )
                filing.status = FilingStatus.WITHDRAWING if out else FilingStatus.WITHDRAWN
                filing.since = order.at
            session.flush()
            left = [f for f in filings if f.status is FilingStatus.WITHDRAWING]
            text = f"{len(filings)} filings withdrawn"
            if left:
                waits.begin(session, case.case_no, Awaiting.WITHDRAWAL, order.at)
                text += f"; to be taken back from {', '.join(f.recipient for f in left)}"
            withdrawn = FilingsWithdrawn(
                line=audit.line(order.at, order.by, text), filings=tuple(map(shown, filings))
            )
            return audit.record(session, order.case_no, order.step, withdrawn)

    def _write(
        self, session: Session, case: Case, filing: Filing, numbers: list[Number], order: PrepareFilings
    ) -> None:
        agent = session.get_one(Agent, case.agent_id)
        rows = session.scalars(
            select(ReportRow).where(ReportRow.case_no == case.case_no).order_by(ReportRow.id)
        )
        reports = [evidence(row) for row in rows]
        notices = session.scalars(
            select(Notice)
            .where(Notice.case_no == case.case_no, Notice.served_at.is_not(None))
            .order_by(Notice.notice_no)
        ).all()
        fine = session.scalar(
            select(Fine.amount).where(Fine.case_no == case.case_no, Fine.status != FineStatus.VOID)
        )
        document = self._documents.get_template(f"zh/filing/{filing.kind}.txt.j2").render(
            filing=filing,
            case=case,
            agent=agent,
            numbers=numbers,
            evidence=reports,
            notices=notices,
            fine=fine,
            balance=balance(session, case.case_no),
            serious=order.serious,
            policy=in_force(case.policy),
            at=order.at,
        )
        filing.document = document
        filing.attachment = {
            "filing_no": filing.filing_no,
            "case_no": case.case_no,
            "agent_id": agent.agent_id,
            "numbers": [number.number for number in numbers],
            "evidence": reports,
            "notices": [{"notice_no": n.notice_no, "sha256": n.sha256} for n in notices],
            "serious": order.serious.model_dump(mode="json"),
            "document_sha256": hashlib.sha256(document.encode()).hexdigest(),
        }
        filing.sha256 = hashlib.sha256(audit.canonical(filing.attachment).encode()).hexdigest()


def evidence(row: ReportRow) -> dict[str, Any]:
    """A report as evidence, with the hash of what came in."""
    report = Report.model_validate(row.payload)
    sha256 = hashlib.sha256(audit.canonical(row.payload).encode()).hexdigest()
    return {"key": report.key, "facts": report.facts, "sha256": sha256}


def shown(filing: Filing) -> FilingShown:
    """A filing as the story has it."""
    return FilingShown(
        filing_no=filing.filing_no,
        kind=filing.kind,
        recipient=filing.recipient,
        status=filing.status,
        sha256=filing.sha256,
        reason=filing.reason or "",
    )
