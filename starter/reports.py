"""Handing a violation report to its case: the one way in, for the monitor and for officers."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import step
from activities.cases import in_agents_hands, same_violation
from registry.models import Case, Number, ReportRow
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import workflow_id, written
from starter.settings import Refused, Unreachable
from workflows import names
from workflows.messages import CaseStart
from workflows.story import reported


class Submitted(NamedTuple):
    """Where a report went; `handled_in` names the case that had taken it before."""

    workflow_id: str
    handled_in: str | None = None


def record(on_record: Sessions, reports: Sequence[Report]) -> list[str | Refused | None]:
    """Put reports on record, in one transaction; for each, the case that had taken it before, or why not.

    A number is kept from being taken back until the transaction ends, as when a case is opened (7.2). Raises
    `sqlalchemy.exc.SQLAlchemyError`, and then none is on record.
    """
    with on_record.begin() as session:
        keys = [(report.source, report.report_id) for report in reports]
        named = tuple_(ReportRow.source, ReportRow.report_id)
        before = {
            (row.source, row.report_id): row
            for row in session.scalars(select(ReportRow).where(named.in_(keys)).order_by(ReportRow.id))
        }
        wanted = {report.number for report in reports}
        # In the order of the numbers, so that no two of these wait for each other.
        held = select(Number).where(Number.number.in_(wanted)).order_by(Number.number)
        numbers = {row.number: row for row in session.scalars(held.with_for_update(read=True))}
        unclosed = select(Case.number, Case.kind).where(Case.number.in_(wanted), Case.closed_at.is_(None))
        still_open = {(number, kind) for number, kind in session.execute(unclosed)}
        became: list[str | Refused | None] = []
        new = []
        for key, report in zip(keys, reports, strict=True):
            row = before.get(key)
            try:
                if row is not None:
                    same_violation(report, row)
                if (row is None or row.case_no is None) and (report.number, report.kind) not in still_open:
                    in_agents_hands(report.number, numbers.get(report.number))
            except step.Refused as refused:
                became.append(Refused(refused.message))
                continue
            became.append(row.case_no if row else None)
            if row is None:
                payload = report.model_dump(mode="json")
                new.append({"source": report.source, "report_id": report.report_id, "payload": payload})
        if new:
            session.execute(insert(ReportRow).values(new).on_conflict_do_nothing())
    return became


async def start(client: Client, task_queue: str, report: Report) -> str:
    """Hand a report that is on record to its case, which it starts if none is open; returns its workflow id.

    Signal-with-start is one act of the Temporal server: of two reports at once, one starts the case and the
    other joins it. Raises `Unreachable` if it could not be handed over: then it is safe to repeat.
    """
    case_id = workflow_id(report.kind, report.number)
    try:
        await client.start_workflow(
            names.CLAUSES[report.kind],
            CaseStart(),
            id=case_id,
            task_queue=task_queue,
            start_signal="report_received",
            start_signal_args=[report],
            static_summary=f"{report.kind.label} · {written(report.number)}",
            static_details=reported(report),
        )
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise Refused(f"Temporal refuses the report: {error.message}") from error
        raise Unreachable(f"Temporal does not take report {report.key}: {error.message}") from error
    except RuntimeError as error:  # a client that was never connected
        raise Unreachable(f"Temporal does not take report {report.key}: {error}") from error
    return case_id


async def submit(client: Client, on_record: Sessions, task_queue: str, report: Report) -> Submitted:
    """Put a report on record and hand it to its case.

    1. It is on record before Temporal hears of it, and bears a case number once a case has taken it: a
       report that was handled is not sent again.
    2. After a crash between the two it is sent again; the case knows reports by source and id.

    Raises `Refused` for a number that is not on record or not in an agent's hands, and for a report id that
    came before with other content; `Unreachable` if it could not be handed over: then it is safe to repeat.
    """
    try:
        [became] = await asyncio.to_thread(record, on_record, [report])
    except OperationalError as error:
        raise Unreachable(f"the registry does not answer: {error.orig}") from error
    if isinstance(became, Refused):
        raise became
    if became is None:
        return Submitted(await start(client, task_queue, report))
    return Submitted(workflow_id(report.kind, report.number), became)
