"""What officers do when a case is contested: appeals, dismissals, holds, and what is left after an undo."""

from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from rulebook.vocabulary import Awaiting
from starter.desk import Ended, act, after
from starter.lookup import (
    APPEAL,
    DISMISSAL,
    REINSTATEMENT,
    RESTITUTION,
    Case,
    beside,
    described,
    told_or_failed,
)
from starter.settings import Refused
from workflows import names
from workflows.messages import (
    AppealReceived,
    AppealStart,
    Decide,
    Dismiss,
    DismissalStart,
    Message,
    NoticeBounced,
    OfficerAct,
    Refunded,
    ReinstatementStart,
    ServedByHand,
)


async def appeal(client: Client, task_queue: str, case: Case, message: AppealReceived) -> str:
    """Record the agent's appeal (5.1), also against a case that has ended; returns the answer."""
    if case.open:
        try:
            return await act(client, case, "appeal", message)
        except Ended:
            pass
    start = AppealStart(case_no=case.case_no, appeal=message)
    handle = await _begin(client, task_queue, names.APPEAL, start, f"{APPEAL}{case.case_no}", "申诉 · appeal")
    told = await told_or_failed(client, handle, lambda told: bool(told.awaiting or told.stage.ended))
    line = next((line.text for line in reversed(told.lines) if line.text.startswith("Appeal ")), "recorded")
    return f"{case.case_no}: {line.partition(':')[0]} is recorded; another officer has to decide"


async def decide(client: Client, case: Case, decision: Decide) -> str:
    """Decide the appeal that is pending, during the case or after it; returns the answer."""
    if case.open:
        try:
            return await act(client, case, "decide", decision)
        except Ended:
            pass
    proceeding = await described(client, f"{APPEAL}{case.case_no}")
    if proceeding is None or not proceeding.open:
        raise Refused(f"{case.case_no}: no appeal is pending")
    return await act(client, proceeding, "decide", decision)


async def dismiss(client: Client, task_queue: str, case: Case, dismissal: Dismiss) -> str:
    """Dismiss a case (5.2), also one that has ended: what it did is undone; returns the answer."""
    if case.open:
        try:
            return await act(client, case, "dismiss", dismissal)
        except Ended:
            pass
    start = DismissalStart(case_no=case.case_no, dismissal=dismissal)
    handle = await _begin(
        client, task_queue, names.DISMISSAL, start, f"{DISMISSAL}{case.case_no}", "撤销 · dismissal"
    )
    await told_or_failed(client, handle, lambda told: told.stage.undone)
    return f"{case.case_no}: Case dismissed; what it did is undone"


async def reinstate(client: Client, task_queue: str, case: Case, start: ReinstatementStart) -> str:
    """Take the shutdown of a case back (6.3), or let it be; returns the answer."""
    handle = await _begin(
        client,
        task_queue,
        names.REINSTATEMENT,
        start,
        f"{REINSTATEMENT}{case.case_no}",
        "恢复 · reinstatement",
    )
    told = await told_or_failed(client, handle, lambda told: told.stage.ended)
    done = (line.text for line in told.lines if not line.text.startswith("Notice "))
    return f"{case.case_no}: {'; '.join(done)}"


async def served(client: Client, case: Case, message: ServedByHand) -> str:
    """Record that an officer has served a notice that could not be delivered (4.6); returns the answer."""
    as_it_is = [await described(client, case.workflow_id)] if case.open else []
    for found in [*as_it_is, *await beside(client, case.case_no)]:
        if found and found.open and Awaiting.DELIVERY in found.awaiting:
            return await act(client, found, "served", message)
    raise Refused(f"{case.case_no}: every notice of the case has been delivered")


async def bounced(client: Client, case: Case, message: NoticeBounced) -> str:
    """Record that a notice has bounced (4.6); returns the answer."""
    for found in [*([case] if case.open else []), *await beside(client, case.case_no)]:
        try:
            return await act(client, found, "bounced", message)
        except Ended:
            continue
    raise Refused(f"{case.case_no}: the case has ended: no limit hangs on the letter any more")


async def refunded(client: Client, task_queue: str, case: Case, message: Refunded) -> str:
    """Record what was given back: all that was paid, where a case was undone (5.2), else what it owes (6.2).

    Returns the answer.
    """
    left = await restitution(client, case.case_no)
    if left and Awaiting.REFUND in left.awaiting:
        return await act(client, left, "refunded", message)
    said = OfficerAct(
        case_no=case.case_no, act="refunded", officer=message.officer, reference=message.reference
    )
    return await after(client, task_queue, said)


async def restore(client: Client, case: Case, command: str, message: Message) -> str:
    """Carry out what is left to officers after a case was undone (5.2); returns the answer."""
    found = await restitution(client, case.case_no)
    if found is None:
        raise Refused(f"{case.case_no}: nothing is left to do after it; see `enforce case {case.case_no}`")
    return await act(client, found, command, message)


async def restitution(client: Client, case_no: str) -> Case | None:
    """What is left to officers after a case was undone, while something is."""
    found = await described(client, f"{RESTITUTION}{case_no}")
    return found if found and found.open else None


async def _begin(
    client: Client, task_queue: str, run: Any, start: Message, workflow_id: str, summary: str
) -> WorkflowHandle[Any, Any]:
    try:
        return await client.start_workflow(
            run,
            start,
            id=workflow_id,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            task_queue=task_queue,
            static_summary=f"{summary} · {workflow_id.partition('-')[2]}",
        )
    except WorkflowAlreadyStartedError as error:
        raise Refused(f"{workflow_id} goes on already: it has to be decided first") from error
