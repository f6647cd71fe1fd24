"""What the history of a workflow tells of its case: readable without a worker."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from activities.cases import CaseOpened
from registry.shown import Line
from rulebook.report import Report
from workflows.messages import PaymentReceived

_NOT_RECORDED = ("reckon_deadline", "find_case", "find_any_case")
"""Steps whose answer bears a line that they haven't put on record."""

_STARTED_WITH = {"payment": "paid", "appeal": "appeal", "dismissal": "dismiss"}
"""The command that a workflow after the end of a case was started with, by where it stands in its input."""


class Said(BaseModel):
    """A message that came in, as it was understood: a signal, or an officer's command."""

    name: str
    content: dict[str, Any]


class Told(BaseModel):
    """What a history tells: of which case, its story, what came in, how far the record was looked at."""

    case_no: str = ""
    opened: CaseOpened | None = None
    lines: list[Line] = []
    reports: list[Report] = []
    said: list[Said] = []
    looked_at: int = 0

    @property
    def payments(self) -> list[PaymentReceived]:
        """The payments that came in, each reference once."""
        came = [one.content for one in self.said if one.name in ("payment_received", "paid")]
        understood = [payment for content in came if (payment := _payment(content))]
        return list({payment.reference: payment for payment in understood}.values())


def told(history: WorkflowHistory) -> Told:
    """Read a history."""
    tells, scheduled = Told(), dict[int, str]()
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            asked = event.activity_task_scheduled_event_attributes
            scheduled[event.event_id] = asked.activity_type.name
            for order in _objects(asked.input.payloads):
                tells.case_no = tells.case_no or str(order.get("case_no", ""))
        for name, content in _said(event):
            _hear(tells, name, content)
        for step, answer in _answers(event, scheduled):
            _take(tells, step, answer)
    return tells


def _said(event: HistoryEvent) -> Iterator[tuple[str, dict[str, Any]]]:
    if event.HasField("workflow_execution_started_event_attributes"):
        for start in _objects(event.workflow_execution_started_event_attributes.input.payloads):
            yield from (("report_received", report) for report in start.get("reports", ()))
            yield from ((name, start[what]) for what, name in _STARTED_WITH.items() if what in start)
            if "reasons" in start:
                yield "serious", {"officer": start.get("officer"), "reason": start["reasons"]}
            if "act" in start:
                yield start["act"], start
    if event.HasField("workflow_execution_signaled_event_attributes"):
        signal = event.workflow_execution_signaled_event_attributes
        yield from ((signal.signal_name, content) for content in _objects(signal.input.payloads))
    if event.HasField("workflow_execution_update_accepted_event_attributes"):
        update = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
        yield from ((update.name, content) for content in _objects(update.args.payloads))


def _hear(tells: Told, name: str, content: dict[str, Any]) -> None:
    if name != "report_received":
        tells.said.append(Said(name=name, content=content))
        return
    try:
        tells.reports.append(Report.model_validate(content))
    except ValidationError:
        return  # the case has refused it too


def _answers(event: HistoryEvent, scheduled: Mapping[int, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if event.HasField("activity_task_completed_event_attributes"):
        done = event.activity_task_completed_event_attributes
        step = scheduled[done.scheduled_event_id]
        yield from ((step, answer) for answer in _objects(done.result.payloads))
    if event.HasField("marker_recorded_event_attributes"):
        details = event.marker_recorded_event_attributes.details
        if {"data", "result"} <= details.keys():  # of a step on the spot
            [what] = _objects(details["data"].payloads)
            step = str(what.get("activity_type"))
            yield from ((step, answer) for answer in _objects(details["result"].payloads))


def _take(tells: Told, step: str, answer: dict[str, Any]) -> None:
    opened = answer if step == "find_case" else answer.get("opened")
    if isinstance(opened, dict):
        tells.opened = CaseOpened.model_validate(opened)
        tells.case_no = tells.opened.case_no
        if step == "open_case":
            tells.lines.append(tells.opened.line)
    if step == "reckon_deadline":
        tells.looked_at = answer.get("lines", 0)
    if "line" in answer and step not in _NOT_RECORDED:
        tells.lines.append(Line.model_validate(answer["line"]))


def _objects(payloads: Any) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        content = _content(payload)
        if isinstance(content, dict):
            yield content


def _content(payload: Payload) -> object:
    try:
        return json.loads(payload.data)
    except ValueError:
        return None


def _payment(content: dict[str, Any]) -> PaymentReceived | None:
    try:
        return PaymentReceived.model_validate(content)
    except ValidationError:
        return None
