"""What officers do with cases, through Temporal: find, read, command."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.advice import command
from rulebook.money import yuan
from rulebook.vocabulary import Awaiting, Kind, Number400, workflow_id, written
from starter.settings import Refused, Unreachable
from workflows import attributes, names
from workflows.messages import (
    Answer,
    LatePaymentStart,
    Message,
    OfficerAct,
    PaidLate,
    PaymentReceived,
    Renewed,
    Story,
    faults,
)
from workflows.story import plain

M = TypeVar("M", bound=BaseModel)

_ANSWER_WITHIN = 20  # seconds
_CASE_NO = re.compile(r"[A-Z]{2}-[0-9]{4}-[0-9]{5,}")
SERIOUS, APPEAL, DISMISSAL, RESTITUTION = "serious-", "appeal-", "dismissal-", "restitution-"
REINSTATEMENT = "reinstatement-"
BESIDE = (SERIOUS, APPEAL, DISMISSAL, RESTITUTION, REINSTATEMENT)
"""How the ids of what goes on beside a case, or after it, begin."""
RENEWALS = f"WorkflowType = '{names.RENEWAL_DUE}' AND ExecutionStatus = 'Running'"
_CASE_TYPES = f"WorkflowType IN ({', '.join(map(repr, names.CLAUSES.values()))})"


class NotKept(Refused):
    """Temporal knows no such case (any more); the registry may."""


class Case(NamedTuple):
    """One case: its workflow, and which run of it."""

    workflow_id: str
    run_id: str
    case_no: str
    stage: str
    awaiting: tuple[Awaiting, ...]
    open: bool
    number: str


def understood(model: type[M], **said: Any) -> M:
    """A message or report as the officer gave it. Raises `Refused` with what is wrong with it."""
    try:
        return model.model_validate(said)
    except ValidationError as error:
        raise Refused(faults(error)) from error


async def find(client: Client, named: str) -> Case:
    """The case of that case number, workflow id or 400 number.

    Of a workflow id or number it is the open case, else the last one. Raises `NotKept` where Temporal has
    none, `Refused` where more than one is meant.
    """
    if _CASE_NO.fullmatch(named.upper()):
        if numbered := await _first(client, f"CaseNo = '{named.upper()}' AND {_CASE_TYPES}"):
            return numbered
        raise NotKept(f"Temporal has no case {named.upper()}")
    ids = _workflow_ids(named)
    found = [case for case in await asyncio.gather(*(described(client, i) for i in ids)) if case]
    meant = [case for case in found if case.open] or found
    if not meant:
        raise NotKept(f"Temporal has no case {named}")
    if len(meant) > 1:
        raise Refused(f"{named} has several cases: name one of {', '.join(c.workflow_id for c in meant)}")
    return meant[0]


def _workflow_ids(named: str) -> list[str]:
    try:
        number = TypeAdapter[str](Number400).validate_python(named)
    except ValidationError:
        if not named.startswith((*(f"{kind}-" for kind in Kind), *BESIDE)):
            raise Refused(
                f"{named!r} names no case: give a case number (SS-2026-00042), "
                "a workflow id (secondary-sale-4008001234) or a 400 number"
            ) from None
        return [named]
    return [workflow_id(kind, number) for kind in Kind]


async def described(client: Client, case_id: str) -> Case | None:
    """The case of that workflow id, as Temporal has it now; None where there is none."""
    try:
        return case_of(await client.get_workflow_handle(case_id).describe())
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise away(error) from error


async def _first(client: Client, query: str) -> Case | None:
    try:
        async for execution in client.list_workflows(query, limit=1):
            return case_of(execution)
    except RPCError as error:
        raise away(error) from error
    return None


def case_of(execution: WorkflowExecution) -> Case:
    """The case that a workflow is."""
    shown = execution.typed_search_attributes
    return Case(
        workflow_id=execution.id,
        run_id=execution.run_id,
        case_no=shown.get(attributes.CASE_NO) or "",
        stage=shown.get(attributes.STAGE) or "",
        awaiting=tuple(Awaiting(a) for a in shown.get(attributes.AWAITING) or ()),
        open=execution.status is WorkflowExecutionStatus.RUNNING,
        number=shown.get(attributes.NUMBER) or "",
    )


def _handle(client: Client, case: Case) -> WorkflowHandle[Any, Any]:
    return client.get_workflow_handle(case.workflow_id, run_id=case.run_id)


def away(error: BaseException) -> Unreachable:
    """What to say when Temporal doesn't answer."""
    return Unreachable(f"Temporal does not answer: {error}")


async def story(client: Client, case: Case) -> Story:
    """All that a case says of itself. Raises `Unreachable` where no worker tells of it."""
    query = _handle(client, case).query("story", result_type=Story)
    try:
        told: Story = await asyncio.wait_for(query, _ANSWER_WITHIN)
    except (TimeoutError, RPCError, WorkflowQueryFailedError) as error:
        why = "no worker answers: start one with `enforce up` or `enforce worker`"
        raise Unreachable(f"{case.workflow_id}: {why}") from error
    return told


async def story_when(client: Client, case_id: str, holds: Callable[[Story], bool]) -> Story:
    """The story of a case as soon as this holds of it, or as it is after a while if it doesn't come to."""
    give_up = asyncio.get_running_loop().time() + _ANSWER_WITHIN
    while True:
        told = await story(client, await find(client, case_id))
        if holds(told) or asyncio.get_running_loop().time() > give_up:
            return told
        await asyncio.sleep(0.05)


async def told_or_failed(
    client: Client, proceeding: WorkflowHandle[Any, Any], holds: Callable[[Story], bool]
) -> Story:
    """What a proceeding tells once this holds of it. Raises `Refused` with what it failed with."""
    failing = asyncio.create_task(proceeding.result())
    telling = asyncio.create_task(story_when(client, proceeding.id, holds))
    await asyncio.wait([failing, telling], return_when=asyncio.FIRST_COMPLETED)
    try:
        if failing.done():
            failing.result()
        return await telling
    except WorkflowFailureError as error:
        raise Refused(getattr(error.cause, "message", str(error.cause))) from error
    finally:
        failing.cancel()
        telling.cancel()


async def act(client: Client, case: Case, command: str, message: Message) -> str:
    """Carry out an officer's command on a case; returns the answer. Raises `Refused` with the reason.

    A workflow task that fails under way (a worker dies, a message comes in as the case completes) takes the
    command with it; it is asked for again, and under one id it is carried out once.
    """
    command_id = f"{command}-{uuid4()}"
    give_up = asyncio.get_running_loop().time() + _ANSWER_WITHIN
    while True:
        update = _handle(client, case).execute_update(command, message, id=command_id, result_type=Answer)
        left = give_up - asyncio.get_running_loop().time()
        try:
            answer: Answer = await asyncio.wait_for(update, left)
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            why = cause.message if isinstance(cause, ApplicationError) else str(cause)
            raise Refused(f"{case.case_no or case.workflow_id}: {why}") from error
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            if why := await _fails_with(client, case):
                raise Unreachable(
                    f"{case.case_no or case.workflow_id}: not carried out yet, a step of the case fails and "
                    f"is tried again: {why}"
                ) from error
            raise Unreachable(
                f"{case.workflow_id}: no worker answered within {_ANSWER_WITHIN} seconds. The command may "
                "still be carried out when one is back: look at the case before you repeat it"
            ) from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                ended = await find(client, case.workflow_id)
                raise Ended(
                    f"{case.case_no or case.workflow_id}: the case has ended: {ended.stage}"
                ) from error
            if error.status is not RPCStatusCode.FAILED_PRECONDITION or left < 1:
                raise Unreachable(
                    f"{case.workflow_id}: not carried out, try again in a moment ({error.message})"
                ) from error
            await asyncio.sleep(0.2)
        else:
            return answer.text


async def _fails_with(client: Client, case: Case) -> str:
    """What a step fails with that a case tries again and again; "" where none does."""
    try:
        pending = (await _handle(client, case).describe()).raw_description.pending_activities
    except RPCError:
        return ""
    return next((step.last_failure.message for step in pending if step.last_failure.message), "")


class Ended(Refused):
    """The case has ended: there is nothing left to command."""


async def pay(client: Client, task_queue: str, case: Case, payment: PaymentReceived) -> str:
    """Record a payment on a case, also on one that has ended (6.3); returns the answer."""
    if case.open:
        try:
            return await act(client, case, "paid", payment)
        except Ended:
            pass
    late = await _carry_out(
        client,
        task_queue,
        names.LATE_PAYMENT,
        PaidLate,
        LatePaymentStart(case_no=case.case_no, payment=payment),
        f"late-payment-{payment.reference}",
        f"{yuan(payment.amount)} for {case.case_no}, which has ended",
    )
    stands = "settled"
    if late.due or late.owed_back:
        stands = f"{yuan(late.due)} still due" if late.due else f"{yuan(late.owed_back)} owed back"
    told = f"{case.case_no}: {yuan(payment.amount)} counted; the case has ended, {stands}"
    if late.in_time:
        told += f"; it was paid in time: {command(Awaiting.REINSTATEMENT, case.case_no, case.number)}"
    return told


async def after(client: Client, task_queue: str, act: OfficerAct) -> str:
    """Carry out an officer's act on a case that has ended (1.4); returns the answer."""
    summary = f"{act.act} after {act.case_no}, by {act.officer}"
    answer = await _carry_out(
        client, task_queue, names.AFTER_CASE, Answer, act, f"{act.act}-{act.case_no}", summary
    )
    return f"{act.case_no}: {answer.text}"


async def _carry_out(
    client: Client, task_queue: str, run: str, returns: type[M], what: Message, act_id: str, summary: str
) -> M:
    """Run a short workflow to its end; asked for twice at once, it runs once."""
    running = client.execute_workflow(
        run,
        what,
        result_type=returns,
        id=act_id,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        task_queue=task_queue,
        static_summary=plain(summary[:100]),
    )
    try:
        return await asyncio.wait_for(running, _ANSWER_WITHIN)
    except WorkflowFailureError as error:
        failed = error.cause.cause if isinstance(error.cause, ActivityError) else error.cause
        raise Refused(str(getattr(failed, "message", failed))) from error
    except TimeoutError as error:
        raise Unreachable(
            f"{act_id}: handed over, but no worker is there to carry it out; it will be when one is back"
        ) from error
    except RPCError as error:
        raise away(error) from error


async def renew(client: Client, number: str, message: Renewed) -> str:
    """Record that a number in direct service was renewed (3.3); returns the answer."""
    if found := await _first(client, f"{RENEWALS} AND WorkflowId STARTS_WITH 'renewal-{number}-'"):
        return await act(client, found, "renewed", message)
    raise Refused(f"no renewal of {written(number)} is waiting; `enforce renewals` lists those that are")
