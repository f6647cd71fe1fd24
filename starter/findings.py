"""Serious circumstances of a fraud (1.6), as officers deal with them: a proceeding beside the case."""

from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from registry.shown import Story
from rulebook.vocabulary import Kind
from starter.lookup import SERIOUS, Case, described, story, told_or_failed
from starter.settings import Refused
from workflows import names

if TYPE_CHECKING:
    from workflows.messages import SeriousProposed


async def propose(client: Client, task_queue: str, proposed: "SeriousProposed") -> str:
    """Begin the proceeding that finds the circumstances of a fraud serious (1.6); returns the answer."""
    case_id = f"{SERIOUS}{proposed.case_no}"
    try:
        await client.start_workflow(
            names.SERIOUS_CIRCUMSTANCES,
            proposed,
            id=case_id,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            task_queue=task_queue,
            static_summary=f"情节严重 · serious circumstances · {proposed.case_no}",
        )
    except WorkflowAlreadyStartedError as error:
        raise Refused(f"{proposed.case_no}: serious circumstances are proposed already") from error
    handle = client.get_workflow_handle(case_id)
    told = await told_or_failed(client, handle, lambda told: bool(told.awaiting or told.stage.ended))
    return f"{proposed.case_no}: proposed; it awaits {', '.join(told.awaiting)} by another officer"


async def beside(client: Client, case_no: str) -> Case | None:
    """The proceeding about the serious circumstances of a case, if there is one."""
    return await described(client, f"{SERIOUS}{case_no}")


async def proceeding(client: Client, case: Case) -> Case:
    """The proceeding about the serious circumstances of a case. Raises `Refused` where there is none."""
    found = await beside(client, case.case_no)
    if found is None:
        raise Refused(f"{case.case_no}: serious circumstances are not proposed; see `enforce serious`")
    return found


async def whole_story(client: Client, case: Case) -> Story:
    """The story of a case, with that of the proceeding about its serious circumstances if there is one."""
    told = await story(client, case)
    found = await beside(client, case.case_no) if told.kind is Kind.FRAUD else None
    if found is None:
        return told
    more = await story(client, found)
    return told.model_copy(
        update={
            "awaiting": tuple(sorted({*told.awaiting, *more.awaiting})),
            "notices": (*told.notices, *more.notices),
            "filings": more.filings,
            "lines": tuple(sorted((*told.lines, *more.lines), key=lambda line: line.at)),
        }
    )
