"""Handing a violation report to its case: the one way in, for the monitor and for officers."""

import asyncio
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from temporalio.client import Client
from temporalio.service import RPCError

from activities import step
from activities.cases import held_number, put_on_record
from registry.models import Case
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import Kind, workflow_id, written
from starter.settings import Refused, Unreachable
from workflows.case import Case as CaseWorkflow
from workflows.fraud import FraudCase
from workflows.messages import CaseStart
from workflows.secondary_sale import SecondarySaleCase
from workflows.service_failure import ServiceFailureCase

CLAUSES: dict[Kind, type[CaseWorkflow]] = {
    clause.kind: clause for clause in (FraudCase, SecondarySaleCase, ServiceFailureCase)
}


class Submitted(NamedTuple):
    """Where a report went; `handled_in` names the case that had taken it before."""

    workflow_id: str
    handled_in: str | None = None


def _record(on_record: Sessions, report: Report) -> str | None:
    with on_record.begin() as session:
        still_open = select(Case.case_no).where(
            Case.number == report.number, Case.kind == report.kind, Case.closed_at.is_(None)
        )
        row = put_on_record(session, report)
        if row.case_no is None and session.scalar(still_open) is None:
            held_number(session, report.number)
        return row.case_no


async def submit(client: Client, on_record: Sessions, task_queue: str, report: Report) -> Submitted:
    """Put a report on record and hand it to its case, which it starts if none is open.

    1. It is on record before Temporal hears of it, and bears a case number once a case has taken it: a
       report that was handled is not sent again.
    2. After a crash between the two it is sent again; the case knows reports by source and id.
    3. Signal-with-start is one act of the Temporal server: of two reports at once, one starts the case and
       the other joins it.

    Raises `Refused` for a number that is not on record or not in an agent's hands, and for a report id that
    came before with other content; `Unreachable` if it could not be handed over: then it is safe to repeat.
    """
    case_id = workflow_id(report.kind, report.number)
    try:
        handled_in = await asyncio.to_thread(_record, on_record, report)
    except step.Refused as refused:
        raise Refused(refused.message) from refused
    except OperationalError as error:
        raise Unreachable(f"the registry does not answer: {error.orig}") from error
    if handled_in is None:
        try:
            await client.start_workflow(
                CLAUSES[report.kind].__name__,
                CaseStart(),
                id=case_id,
                task_queue=task_queue,
                start_signal="report_received",
                start_signal_args=[report],
                static_summary=f"{report.kind.label} · {written(report.number)}",
            )
        except RPCError as error:
            raise Unreachable(f"Temporal does not take report {report.key}: {error.message}") from error
    return Submitted(case_id, handled_in)
