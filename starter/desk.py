"""What officers do to cases, through Temporal: each command is carried out once, and answered."""

import asyncio
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.advice import command
from rulebook.money import yuan
from rulebook.vocabulary import Awaiting, written
from starter.lookup import ANSWER_WITHIN, RENEWALS, Case, away, find, first, handle
from starter.settings import Refused, Unreachable
from workflows import names
from workflows.messages import (
    Answer,
    LatePaymentStart,
    Message,
    OfficerAct,
    PaidLate,
    PaymentReceived,
    Renewed,
)
from workflows.story import plain

M = TypeVar("M", bound=BaseModel)


async def act(client: Client, case: Case, command: str, message: Message) -> str:
    """Carry out an officer's command on a case; returns the answer. Raises `Refused` with the reason.

    A workflow task that fails under way (a worker dies, a message comes in as the case completes) takes the
    command with it; it is asked for again, and under one id it is carried out once.
    """
    command_id = f"{command}-{uuid4()}"
    give_up = asyncio.get_running_loop().time() + ANSWER_WITHIN
    while True:
        update = handle(client, case).execute_update(command, message, id=command_id, result_type=Answer)
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
                f"{case.workflow_id}: no worker answered within {ANSWER_WITHIN} seconds. The command may "
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
        pending = (await handle(client, case).describe()).raw_description.pending_activities
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
    if late.owed_back:
        told += f"; once it is given back: {command(Awaiting.REFUND, case.case_no, case.number)}"
    if late.in_time:
        told += f"; it was paid in time: {command(Awaiting.REINSTATEMENT, case.case_no, case.number)}"
    return told


async def after(client: Client, task_queue: str, act: OfficerAct) -> str:
    """Carry out an officer's act on a case that has ended (1.4, 6.2); returns the answer."""
    summary = f"{act.act} after {act.case_no}, by {act.officer}"
    named = "-".join(filter(None, (act.act, act.reference, act.case_no)))
    answer = await _carry_out(client, task_queue, names.AFTER_CASE, Answer, act, named, summary)
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
        return await asyncio.wait_for(running, ANSWER_WITHIN)
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
    if found := await first(client, f"{RENEWALS} AND WorkflowId STARTS_WITH 'renewal-{number}-'"):
        return await act(client, found, "renewed", message)
    raise Refused(f"no renewal of {written(number)} is waiting; `enforce renewals` lists those that are")
