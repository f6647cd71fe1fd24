"""Where the registry and Temporal disagree after a restore: found, and mended where that is safe.

Both know of a case: the registry what was done, Temporal what comes next. Restored to different moments, one
has forgotten what the other still knows. No worker is needed to compare them, nor to mend: what is read are
histories and rows, and what is begun waits for a worker.

Nobody is punished early: a case that is begun again does over what its record has lost, counts its limit anew
in full, and hears once more of payments and rectifications. Nobody is fined twice: what is on record is not
done again.
"""

import asyncio
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.filings import shown
from activities.fines import to_refund
from activities.limits import TAKEN_UP
from registry.models import Appeal, AuditLine, Case, Filing, Payment, ReportRow, Wait
from registry.session import Sessions, snapshot
from registry.shown import Line, Raised
from rulebook.money import ZERO
from rulebook.report import Report
from rulebook.vocabulary import Awaiting, FilingStatus, Kind, NoticeKind, one_line
from starter import history
from starter.history import Told
from starter.lookup import APPEAL, RESTITUTION, SERIOUS, away, described
from workflows import attributes, names
from workflows.messages import AppealReceived, AppealStart, RestitutionStart

_AROUND = (*names.BESIDE, names.LATE_PAYMENT, names.AFTER_CASE)
_AT_ONCE = 20
_GOES_ON = {
    Awaiting.APPEAL: APPEAL,
    **dict.fromkeys((Awaiting.APPROVAL, Awaiting.FILING), SERIOUS),
    **dict.fromkeys(
        (Awaiting.REFUND, Awaiting.SUBSTITUTE, Awaiting.WITHDRAWAL, Awaiting.REVIEW), RESTITUTION
    ),
}
"""In which workflow, by the beginning of its id, officers do what waits beside a case or after it."""

_AS_SIGNALS = {"rectified": "rectification_reported", "bounced": "notice_bounced"}
LOST = "lost-"
"""The step, before the id of a run, in which it was put on record what the record has lost of it."""


class What(StrEnum):
    """In what the two disagree."""

    NUMBERING = "numbering"
    UNKNOWN = "unknown"
    BEHIND = "behind"
    STRANDED = "stranded"
    ENDED = "ended"
    AHEAD = "ahead"
    LOST = "lost"
    BESIDE = "beside"


class Finding(BaseModel):
    """One disagreement. `lost` are the lines that the record lacks, `commands` what is left to type.

    `outcome`: `to-mend` and `mended` by this command; `heals` by itself once workers run; `left` to officers.
    """

    model_config = ConfigDict(frozen=True)

    what: What
    case_no: str = ""
    workflow_id: str = ""
    number: str = ""
    text: str
    outcome: Literal["to-mend", "mended", "heals", "left"]
    lost: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of a workflow, as Temporal has it, and what its history tells."""

    workflow_id: str
    run_id: str
    type: str
    running: bool
    terminated: bool
    begun: datetime
    case_no: str
    told: Told

    @property
    def kind(self) -> Kind | None:
        """The kind of violation, if it is the workflow of a case itself."""
        return next((kind for kind, name in names.CLAUSES.items() if name == self.type), None)


@dataclass
class Disagreement:
    """A finding, and what mends it."""

    finding: Finding
    row: Case | None = None
    run: Run | None = None
    empty: Run | None = None
    new: list[Report] = field(default_factory=list)
    signals: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    start: AppealStart | RestitutionStart | None = None
    serial: int = 0


async def runs(client: Client, task_queue: str, progress: Callable[[int, int], None]) -> list[Run]:
    """All workflows about cases that Temporal has, with what their histories tell. Raises `Unreachable`."""
    types = ", ".join(map(repr, (*names.CLAUSES.values(), *_AROUND)))
    query = f"WorkflowType IN ({types}) AND TaskQueue = '{task_queue}'"
    try:
        listed = [one async for one in client.list_workflows(query)]
    except RPCError as error:
        raise away(error) from error
    at_once, read = asyncio.Semaphore(_AT_ONCE), 0

    async def one(execution: Any) -> Run | None:
        nonlocal read
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            async with at_once:
                told = history.told(await handle.fetch_history())
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:  # its retention has ended meanwhile
                return None
            raise away(error) from error
        finally:
            read += 1
            progress(read, len(listed))
        return Run(
            workflow_id=execution.id,
            run_id=execution.run_id,
            type=execution.workflow_type,
            running=execution.status is WorkflowExecutionStatus.RUNNING,
            terminated=execution.status is WorkflowExecutionStatus.TERMINATED,
            begun=execution.start_time,
            case_no=told.case_no or execution.typed_search_attributes.get(attributes.CASE_NO) or "",
            told=told,
        )

    found = await asyncio.gather(*map(one, listed))
    return sorted((run for run in found if run), key=lambda run: run.begun)


class Comparison:
    """The registry as of one moment, beside what Temporal has told before it."""

    def __init__(self, session: Session, known: Sequence[Run]) -> None:
        self._session = session
        self._known = known
        self._cases = {case.case_no: case for case in session.scalars(select(Case))}
        self._open = {case.workflow_id: case for case in self._cases.values() if case.closed_at is None}
        self._paid = set(session.scalars(select(Payment.reference)))
        settled = session.scalars(
            select(AuditLine.step).where(
                AuditLine.step.startswith(LOST) | AuditLine.step.startswith(TAKEN_UP)
            )
        )
        self._settled = {step.removeprefix(LOST).removeprefix(TAKEN_UP) for step in settled}
        self._recorded = self._lines({line.at for run in known for line in run.told.lines})

    def _lines(self, moments: Collection[datetime]) -> set[Line]:
        """Those of the lines at these moments that are on record."""
        found: set[Line] = set()
        in_order = sorted(moments)
        for start in range(0, len(in_order), 5000):
            lines = select(AuditLine.at, AuditLine.actor, AuditLine.text)
            rows = self._session.execute(lines.where(AuditLine.at.in_(in_order[start : start + 5000])))
            found |= {_line(at, by, said) for at, by, said in rows}
        return found

    def disagreements(self) -> Iterator[Disagreement]:
        """All of them: what has to be mended first comes first."""
        yield from self._numbering()
        of_id: dict[str, list[Run]] = defaultdict(list)
        for run in self._known:
            of_id[run.workflow_id].append(run)
        for workflow_id in sorted({*of_id, *self._open}):
            yield from self._of_one(workflow_id, of_id[workflow_id])
        yield from self._beside({run.workflow_id for run in self._known if run.running})

    def _numbering(self) -> Iterator[Disagreement]:
        [(last, called)] = self._session.execute(text("select last_value, is_called from case_numbers"))
        given = max((_serial(run.case_no) for run in self._known), default=0)
        if given > (last if called else last - 1):
            said = f"the next case would get number {last + called}, and Temporal knows numbers up to {given}"
            yield Disagreement(Finding(what=What.NUMBERING, text=said, outcome="to-mend"), serial=given)

    def _of_one(self, workflow_id: str, of_id: Sequence[Run]) -> Iterator[Disagreement]:
        running = next((run for run in of_id if run.running), None)
        stands = self._open.get(workflow_id)
        used: Run | None = running
        if running is None or running.kind is None:
            if stands:
                used = next((run for run in reversed(of_id) if self._row(run) is stands), None)
                yield self._stranded(stands, used)
        elif running.told.opened is None:
            used = None
            if stands and not running.told.reports:
                used = next((run for run in reversed(of_id) if self._row(run) is stands), None)
                yield self._stranded(stands, used, running)
        elif (row := self._row(running)) is None:
            yield self._unknown(running, stands)
        elif row.closed_at is not None:
            said = f"ended on record as {row.outcome}, and goes on in Temporal: it is told to look"
            yield Disagreement(_about(What.ENDED, row, said, "to-mend"), row=row, run=running)
            if stands:
                said = (
                    f"open on record, but Temporal still has {row.case_no} in its place: once that has ended"
                )
                again = ("enforce reconcile --mend",)
                yield Disagreement(_about(What.STRANDED, stands, said, "left", commands=again))
        elif lost := self._lost(running):
            said = f"{len(lost)} of its steps are lost from the record: it is begun again from the record"
            yield self._again(What.BEHIND, said, row, running, lost)
        elif self._ahead(row, running):
            said = "the record has steps that Temporal has forgotten: none is done again; it is told to look"
            yield Disagreement(_about(What.AHEAD, row, said, "heals"), row=row, run=running)
        for run in of_id:
            if run is not used or run.kind is None:
                yield from self._gone(run, stands, running)

    def _row(self, run: Run) -> Case | None:
        """The row of the case that a run is about; None where another case bears its number."""
        row = self._cases.get(run.case_no)
        opened = run.told.opened
        return row if row and opened and opened.line.at == row.opened_at else None

    def _lost(self, run: Run) -> list[Line]:
        lines = (_line(line.at, line.by, line.text) for line in run.told.lines)
        return [line for line in lines if line not in self._recorded]

    def _ahead(self, row: Case, run: Run) -> bool:
        """Whether the record has lines that no workflow of Temporal knows, and this one has not looked at."""
        lines = select(AuditLine.at, AuditLine.actor, AuditLine.text).where(
            AuditLine.case_no == row.case_no,
            AuditLine.serial > max(run.told.looked_at, 1),
            AuditLine.step.not_like("review-%"),
            AuditLine.step.not_like(f"notice-{NoticeKind.FINE_LOWERED}%"),
            AuditLine.step.not_like("%-undeliverable"),
        )
        if row.lines <= len(run.told.lines):
            return False
        on_record = {_line(*line) for line in self._session.execute(lines)}
        known = {
            _line(line.at, line.by, line.text)
            for other in self._known
            if other.case_no == row.case_no
            for line in other.told.lines
        }
        return bool(on_record - known)

    def _stranded(self, row: Case, last: Run | None, empty: Run | None = None) -> Disagreement:
        lost = self._lost(last) if last else []
        said = "open on record, with nothing going on in it: it is begun again from the record"
        return self._again(What.STRANDED, said, row, last, lost, empty)

    def _unknown(self, run: Run, stands: Case | None) -> Disagreement:
        lost = self._lost(run)
        said = "goes on in Temporal, and is not on record: "
        if stands:
            said += f"it ends, and {stands.case_no} of the same number is begun again from the record"
        else:
            said += "it ends, and its reports are handed in again, as a new case"
        return self._again(What.UNKNOWN, said, stands, run, lost)

    def _again(
        self,
        what: What,
        said: str,
        row: Case | None,
        run: Run | None,
        lost: Sequence[Line],
        empty: Run | None = None,
    ) -> Disagreement:
        """A case that is begun again, with what came in and is lost from the record."""
        told = run.told if run else Told()
        number = row.number if row else told.opened.number if told.opened else ""
        case_no = run.case_no if run and what is What.UNKNOWN else row.case_no if row else ""
        signals, commands = _left_over(told, lost, number, self._paid, same=what is not What.UNKNOWN)
        finding = Finding(
            what=what,
            case_no=case_no,
            workflow_id=row.workflow_id if row else run.workflow_id if run else "",
            number=number,
            text=said,
            outcome="to-mend",
            lost=tuple(map(_told, lost)),
            commands=tuple(commands),
        )
        keys = [(one.source, one.report_id) for one in told.reports]
        on_record = set()
        if keys:
            rows = self._session.execute(
                select(ReportRow.source, ReportRow.report_id).where(
                    ReportRow.source.in_([source for source, _ in keys]),
                    ReportRow.report_id.in_([named for _, named in keys]),
                )
            )
            on_record = {(source, named) for source, named in rows}
        new = told.reports
        if row:
            first = select(ReportRow.payload).where(ReportRow.case_no == row.case_no).order_by(ReportRow.id)
            payload = self._session.scalar(first.limit(1))
            of_case = [Report.model_validate(payload)] if payload else []
            new = of_case + [one for one in new if (one.source, one.report_id) not in on_record]
        return Disagreement(finding, row=row, run=run, empty=empty, new=new, signals=signals)

    def _gone(self, run: Run, stands: Case | None, running: Run | None) -> Iterator[Disagreement]:
        """What the record has lost of a run that has ended, or that goes on beside its case."""
        if run.run_id in self._settled or (run.running and run.kind):
            return
        lost = self._lost(run)
        if not lost:
            return
        if run.kind and run.terminated and not stands and not running and self._row(run) is None:
            yield self._unknown(run, None)  # reconcile itself was cut off
            return
        row = self._row(run) or (self._cases.get(run.case_no) if run.told.opened is None else None)
        said = f"{run.workflow_id}, which {'goes on' if run.running else 'has ended'} in Temporal: "
        said += f"{len(lost)} of its steps are lost from the record"
        if run.running and row is None:
            said += "; it ends"
        number = row.number if row else run.told.opened.number if run.told.opened else ""
        _, commands = _left_over(run.told, lost, run.case_no, self._paid, same=True)
        commands = [
            *(
                f"enforce paid {run.case_no} {one.amount} --reference {shlex.quote(one.reference)}"
                + (f" --on {one.on}" if one.on else "")
                for one in run.told.payments
                if one.reference not in self._paid and row
            ),
            *commands,
        ]
        finding = Finding(
            what=What.LOST,
            case_no=run.case_no,
            workflow_id=run.workflow_id,
            number=number,
            text=said,
            outcome="left",
            lost=tuple(map(_told, lost)),
            commands=tuple(commands),
        )
        yield Disagreement(finding, row=row, run=run)

    def _beside(self, running: set[str]) -> Iterator[Disagreement]:
        """What waits on record for officers, and nothing goes on in which they could do it."""
        waits = select(Wait).where(Wait.ended_at.is_(None), Wait.what.in_(_GOES_ON)).order_by(Wait.id)
        told = set[str]()
        for wait in self._session.scalars(waits):
            case = self._cases[wait.case_no]
            workflow_id = f"{_GOES_ON[wait.what]}{case.case_no}"
            # As long as the case itself goes on, it looks at the record, and begins what is left after it.
            on_its_own = wait.what in (Awaiting.APPROVAL, Awaiting.FILING)
            goes_on = not on_its_own and case.workflow_id in running
            if wait.what is Awaiting.REFUND and not to_refund(self._session, case.case_no):
                continue  # it owes back, and was not undone: nothing has to go on for that
            if workflow_id in running | told or goes_on or (case.closed_at is None and not on_its_own):
                continue
            told.add(workflow_id)
            said = f"{wait.what} waits on record, and Temporal has no {workflow_id}: "
            if on_its_own:
                commands = (f"enforce serious {case.case_no} --reason '...'",)
                said += "found serious once more, it begins again; nothing is done twice"
                finding = _about(What.BESIDE, case, said, "left", commands)
            else:
                finding = _about(What.BESIDE, case, said + "it is begun again from the record", "to-mend")
            left = self._appeal(case) if wait.what is Awaiting.APPEAL else self._restitution(case)
            finding = finding.model_copy(update={"workflow_id": workflow_id})
            yield Disagreement(finding, row=case, start=None if on_its_own else left)

    def _appeal(self, case: Case) -> AppealStart:
        pending = select(Appeal).where(Appeal.case_no == case.case_no, Appeal.decided_at.is_(None))
        appeal = self._session.scalars(pending).one()
        said = AppealReceived(by=appeal.filed_by, statement=appeal.statement, evidence=tuple(appeal.evidence))
        return AppealStart(case_no=case.case_no, appeal=said)

    def _restitution(self, case: Case) -> RestitutionStart:
        """What is left to officers after the case was undone, as the record has it."""
        rows = self._session.execute(
            select(AuditLine.step, AuditLine.result).where(AuditLine.case_no == case.case_no)
        )
        results: dict[str, dict[str, Any]] = {step: answer for step, answer in rows}  # noqa: C416
        lost = {number for result in results.values() for number in result.get("lost", ())}
        reviews = select(AuditLine.case_no).where(AuditLine.step == f"review-after-{case.case_no}")
        reviewed = set(self._session.scalars(reviews))
        raised = map(Raised.model_validate, results.get("fine-void", {}).get("raised", ()))
        filings = select(Filing).where(
            Filing.case_no == case.case_no, Filing.status == FilingStatus.WITHDRAWING
        )
        return RestitutionStart(
            case_no=case.case_no,
            refund=sum((payment.amount for payment in to_refund(self._session, case.case_no)), ZERO),
            lost=tuple(sorted(number for number in lost if f"substitute-{number}" not in results)),
            filings=tuple(map(shown, self._session.scalars(filings.order_by(Filing.filing_no)))),
            raised=tuple(one for one in raised if one.case_no not in reviewed),
        )


def _line(at: datetime, by: str, said: str) -> Line:
    return Line(at=at.astimezone(UTC), by=by, text=said)


def _told(line: Line) -> str:
    return f"{line.at.isoformat(timespec='minutes')} {line.by}: {line.text}"


def _serial(case_no: str) -> int:
    serial = case_no.rpartition("-")[2]
    return int(serial) if serial.isdigit() else 0


def _about(what: What, case: Case, said: str, outcome: Any, commands: tuple[str, ...] = ()) -> Finding:
    return Finding(
        what=what,
        case_no=case.case_no,
        workflow_id=case.workflow_id,
        number=case.number,
        text=said,
        outcome=outcome,
        commands=commands,
    )


def _left_over(
    told: Told, lost: Sequence[Line], named: str, paid: Collection[str], *, same: bool
) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """What came in and is lost: facts, which can be sent again, and commands, for officers to type again."""
    signals = [
        ("payment_received", one.model_dump(mode="json"))
        for one in told.payments
        if one.reference not in paid
    ]
    began = {"rectification_reported": "Rectification reported", "customer_confirmed": "Served, the customer"}
    if same:
        began["notice_bounced"] = "Notice "
    again: dict[str, dict[str, Any]] = {}
    commands = []
    for said in told.said:
        signal = _AS_SIGNALS.get(said.name, said.name)
        if signal in began and any(line.text.startswith(began[signal]) for line in lost):
            again[signal] = said.content
        elif (typed := _typed(said.name, said.content, named)) and _is_lost(said.content, lost):
            commands.append(typed)
    return [*signals, *again.items()], commands


def _is_lost(content: dict[str, Any], lost: Iterable[Line]) -> bool:
    by = content.get("officer") or content.get("by")
    why = one_line(str(content.get("reason") or content.get("statement") or content.get("reference") or ""))
    return any(line.by == by and why in line.text for line in lost)


def _typed(name: str, content: dict[str, Any], case: str) -> str:
    """The command of an officer, as it would be typed; "" where there is none."""
    reason = f"--reason {shlex.quote(str(content.get('reason') or '...'))}"
    how = {
        "hold": reason,
        "dismiss": reason,
        "serious": reason,
        **dict.fromkeys(("resume", "reopen", "unfreeze"), ""),
        "extend": f"{content.get('working_days')} {reason}",
        "verify": "--pass" if content.get("passed") else f"--fail {reason}",
        "appeal": f"--statement {shlex.quote(str(content.get('statement')))}",
        "refunded": f"--reference {shlex.quote(str(content.get('reference')))}",
        "decide": f"{'--uphold' if content.get('upheld') else '--overturn'} {reason}",
    }
    return f"enforce {name} {case} {how[name]}".strip() if name in how else ""


async def compare(
    client: Client, on_record: Sessions, task_queue: str, progress: Callable[[int, int], None]
) -> list[Disagreement]:
    """All in which the two disagree. Raises `Unreachable`.

    Temporal is read first: what it tells of was on record before, and what the registry has more may have
    come in between, so that is looked at once more.
    """
    known = await runs(client, task_queue, progress)

    def compared() -> list[Disagreement]:
        with snapshot(on_record) as session:
            return list(Comparison(session, known).disagreements())

    found = await asyncio.to_thread(compared)
    return [one for one in found if not await _has_gone(client, one)]


async def _has_gone(client: Client, found: Disagreement) -> bool:
    """Whether a disagreement was one of the moment."""
    what = found.finding.what
    if what not in (What.STRANDED, What.BESIDE, What.ENDED, What.AHEAD) or found.finding.commands:
        return False
    now = await described(client, found.finding.workflow_id)
    goes_on = now is not None and now.open
    if what in (What.STRANDED, What.BESIDE):
        return goes_on and not (found.empty and now and found.empty.run_id == now.run_id)
    return not goes_on
