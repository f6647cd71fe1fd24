"""Looking cases up with Temporal, and reading what they tell of themselves."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from registry.shown import Story
from rulebook.vocabulary import Awaiting, Kind, Number400, workflow_id
from starter.settings import Refused, Unreachable
from workflows import attributes, names

ANSWER_WITHIN = 20  # seconds
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


async def find(client: Client, named: str) -> Case:
    """The case of that case number, workflow id or 400 number.

    Of a workflow id or number it is the open case, else the last one. Raises `NotKept` where Temporal has
    none, `Refused` where more than one is meant.
    """
    if _CASE_NO.fullmatch(named.upper()):
        if numbered := await first(client, f"CaseNo = '{named.upper()}' AND {_CASE_TYPES}"):
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


async def first(client: Client, query: str) -> Case | None:
    """The first case that Temporal's visibility finds; None where it finds none."""
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


async def beside(client: Client, case_no: str) -> list[Case]:
    """What goes on beside a case or after it, while it does: serious circumstances, appeal, restitution."""
    ids = (f"{kind}{case_no}" for kind in BESIDE)
    found = await asyncio.gather(*(described(client, one) for one in ids))
    return [proceeding for proceeding in found if proceeding and proceeding.open]


def handle(client: Client, case: Case) -> WorkflowHandle[Any, Any]:
    """What Temporal reaches a case by: that run of it."""
    return client.get_workflow_handle(case.workflow_id, run_id=case.run_id)


def away(error: BaseException) -> Unreachable:
    """What to say when Temporal doesn't answer."""
    return Unreachable(f"Temporal does not answer: {error}")


async def story(client: Client, case: Case) -> Story:
    """All that a case says of itself. Raises `Unreachable` where no worker tells of it."""
    try:
        # Not `wait_for`: before Python 3.12 it takes no notice of a Ctrl-C that comes with the answer.
        async with asyncio.timeout(ANSWER_WITHIN):
            told: Story = await handle(client, case).query("story", result_type=Story)
    except (TimeoutError, RPCError, WorkflowQueryFailedError) as error:
        why = "no worker answers: start one with `enforce up` or `enforce worker`"
        raise Unreachable(f"{case.workflow_id}: {why}") from error
    return told


async def story_when(client: Client, case_id: str, holds: Callable[[Story], bool]) -> Story:
    """The story of a case as soon as this holds of it, or as it is after a while if it doesn't come to."""
    give_up = asyncio.get_running_loop().time() + ANSWER_WITHIN
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
