"""The story of an ended case, from the registry: it keeps it for ever, and knows what was paid later."""

from sqlalchemy import select

from activities.filings import shown
from activities.fines import balance
from registry import audit, waits
from registry.models import Case, Filing, Fine, Notice, Number
from registry.session import Sessions
from registry.shown import NoticeShown, Story
from rulebook.vocabulary import FineStatus, written
from starter import lookup
from starter.settings import Refused


def find(on_record: Sessions, named: str) -> lookup.Case:
    """The ended case of that name, for commands on a case that Temporal has forgotten. Raises `Refused`."""
    told = story(on_record, named)
    return lookup.Case(told.workflow_id, "", told.case_no, told.stage, (), open=False, number=told.number)


def story(on_record: Sessions, named: str) -> Story:
    """The story of an ended case by its case number, workflow id or 400 number (then its last case).

    Raises `Refused` where there is none.
    """
    with on_record() as session:
        digits = named.replace("-", "").replace(" ", "")
        case = session.scalar(
            select(Case)
            .where((Case.case_no == named.upper()) | (Case.workflow_id == named) | (Case.number == digits))
            .order_by(Case.closed_at.is_(None), Case.opened_at.desc())
            .limit(1)
        )
        if case is None:
            raise Refused(f"no case {named}, neither with Temporal nor in the registry")
        if case.outcome is None:
            raise Refused(
                f"{case.case_no} is open in the registry, but nothing goes on in it: Temporal has no "
                f"{case.workflow_id}. A new report on {written(case.number)} takes it up again"
            )
        notices = session.scalars(
            select(Notice).where(Notice.case_no == case.case_no).order_by(Notice.notice_no)
        )
        fine = session.scalar(
            select(Fine).where(Fine.case_no == case.case_no, Fine.status != FineStatus.VOID)
        )
        filings = session.scalars(
            select(Filing).where(Filing.case_no == case.case_no).order_by(Filing.filing_no)
        )
        return Story(
            workflow_id=case.workflow_id,
            kind=case.kind,
            number=case.number,
            case_no=case.case_no,
            customer=session.get_one(Number, case.number).customer,
            agent_id=case.agent_id,
            agent_name=case.agent.name,
            stage=case.outcome,
            offence=fine.offence if fine else None,
            awaiting=tuple(sorted(waits.of(session, case.case_no))),
            balance=balance(session, case.case_no),
            notices=tuple(
                NoticeShown(notice_no=n.notice_no, kind=n.kind, served_at=n.served_at, sha256=n.sha256)
                for n in notices
                if n.served_at
            ),
            filings=tuple(map(shown, filings)),
            lines=tuple(audit.trail(session, case.case_no)),
        )
