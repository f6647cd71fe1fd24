"""Mending what the registry and Temporal disagree in: as far as that is safe, and safe to do again."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.limits import TAKEN_UP, take_up
from activities.step import Step
from registry import audit
from registry.models import AuditLine
from registry.session import Sessions
from rulebook.vocabulary import written
from starter import reports
from starter.lookup import APPEAL, RESTITUTION
from starter.reconcile import LOST, Disagreement, Finding, Run, What
from starter.settings import Refused
from workflows import names
from workflows.messages import AppealStart, CaseStart, LookAgain, RestitutionStart
from workflows.story import reported


class Mending:
    """Mends, in the name of an officer, what two databases disagree in."""

    def __init__(self, client: Client, on_record: Sessions, task_queue: str, officer: str) -> None:
        self._client = client
        self._on_record = on_record
        self._task_queue = task_queue
        self._officer = officer

    async def mend(self, found: Disagreement) -> Finding:
        """Mend one of them, as far as that is safe. Raises `Refused` with the reason where it can't be."""
        finding = found.finding
        match finding.what:
            case What.NUMBERING:
                await asyncio.to_thread(self._move_numbering, found.serial)
            case What.ENDED | What.AHEAD:
                await self._look(found)
            case What.UNKNOWN | What.BEHIND | What.STRANDED if finding.outcome == "to-mend":
                await self._begin_again(found)
            case What.BESIDE if found.start:
                await self._begin_beside(found.start)
            case What.LOST:
                await self._note(found)
        mended = "mended" if finding.outcome == "to-mend" else finding.outcome
        return finding.model_copy(update={"outcome": "left" if finding.commands else mended})

    def _move_numbering(self, serial: int) -> None:
        with self._on_record.begin() as session:
            session.execute(
                text("select setval('case_numbers', greatest(:s, last_value)) from case_numbers"),
                {"s": serial},
            )
            said = f"Case numbers up to {serial} are left out: Temporal knew them"
            self._record(session, None, f"numbering-{serial}", said)

    def _record(self, session: Session, case_no: str | None, step: str, said: str) -> None:
        known = select(AuditLine.id).where(
            AuditLine.case_no.is_not_distinct_from(case_no), AuditLine.step == step
        )
        if session.scalar(known) is None:
            line = audit.line(datetime.now(UTC), self._officer, said)
            audit.record(session, case_no, step, audit.Done(line=line))

    async def _look(self, found: Disagreement) -> None:
        assert found.run
        handle = self._client.get_workflow_handle(found.run.workflow_id, run_id=found.run.run_id)
        try:
            await handle.signal("calendar_changed", LookAgain())
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended meanwhile
                raise

    async def _begin_again(self, found: Disagreement) -> None:
        """End the run that is wrong, and begin the case again; in an order in which a crash loses nothing."""
        if not found.new:
            raise Refused(f"{found.finding.workflow_id}: no report of it is left: report it anew")
        await asyncio.to_thread(self._take_up, found)
        if found.run and found.run.running:
            await self._end(found.run, "the record was restored; the case begins again from it")
        first, *more = found.new
        if not found.empty:
            try:
                await self._client.start_workflow(
                    names.CLAUSES[first.kind],
                    CaseStart(),
                    id=found.finding.workflow_id,
                    task_queue=self._task_queue,
                    static_summary=f"{first.kind.label} · {written(first.number)}",
                    static_details=reported(first),
                )
            except WorkflowAlreadyStartedError as error:
                raise Refused(
                    f"{found.finding.workflow_id}: a report has begun it meanwhile; compare once more"
                ) from error
        handle = self._client.get_workflow_handle(found.finding.workflow_id)
        for name, content in found.signals:  # before the report: the case opens on it, and they count
            await handle.signal(name, content)
        for report in (first, *more):
            await reports.start(self._client, self._task_queue, report)
        if not found.row:
            await self._note(found)

    def _take_up(self, found: Disagreement) -> None:
        """Put on record that a case is begun again, and its reports."""
        if found.new:
            became = reports.record(self._on_record, found.new)
            if refused := next((one for one in became if isinstance(one, Refused)), None):
                raise refused
        if found.row is None:
            return
        before = found.run.run_id if found.run else found.row.run_id
        with self._on_record.begin() as session:
            order = Step(
                case_no=found.row.case_no,
                step=f"{TAKEN_UP}{before}",
                at=datetime.now(UTC),
                by=self._officer,
                opened=found.row.opened_at,
            )
            said = "Taken up again from the record"
            if found.finding.lost:
                said += f", which has lost: {' / '.join(found.finding.lost)}"
            take_up(session, order, said)

    async def _begin_beside(self, start: AppealStart | RestitutionStart) -> None:
        appeals = isinstance(start, AppealStart)
        with suppress(WorkflowAlreadyStartedError):
            await self._client.start_workflow(
                names.APPEAL if appeals else names.RESTITUTION,
                start,
                id=f"{APPEAL if appeals else RESTITUTION}{start.case_no}",
                task_queue=self._task_queue,
                static_summary=f"{'申诉 · appeal' if appeals else '返还 · restitution'} · {start.case_no}",
            )

    async def _end(self, run: Run, why: str) -> None:
        handle = self._client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
        try:
            await handle.terminate(reason=f"{self._officer}: {why}")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended meanwhile
                raise

    async def _note(self, found: Disagreement) -> None:
        """Put on record what the record has lost, so that it is told once."""
        assert found.run
        if found.run.running and found.row is None:
            await self._end(found.run, "the record was restored, and doesn't know it")
        run, case_no = found.run, found.row.case_no if found.row else None
        said = f"Lost from the record of {run.case_no}, {written(found.finding.number)}, {run.workflow_id}: "
        said += " / ".join(found.finding.lost)

        def note() -> None:
            with self._on_record.begin() as session:
                self._record(session, case_no, f"{LOST}{run.run_id}", said)

        await asyncio.to_thread(note)
