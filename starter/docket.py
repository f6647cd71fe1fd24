"""The docket: lists of cases, and of what waits, as Temporal's visibility has them."""

import asyncio
from datetime import date, datetime, timedelta

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from rulebook.deadlines import Deadline
from rulebook.vocabulary import Awaiting, Kind, Number400, Stage
from starter.lookup import RENEWALS, away
from workflows import attributes, names

_LISTED = [*names.CLAUSES.values(), *names.BESIDE]


class Entry(BaseModel):
    """One case in a list, as its search attributes have it."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    case_no: str | None
    kind: Kind
    number: str
    agent: str | None
    stage: Stage | None
    deadline: datetime | None
    fine_yuan: int | None
    offence: int | None
    awaiting: tuple[Awaiting, ...]
    opened_at: datetime
    ended_at: datetime | None
    status: str

    @property
    def then(self) -> str:
        """What follows when the limit ends and nothing has happened (2.3, 2.5, 3.3, 1.5)."""
        if Awaiting.VERIFICATION in self.awaiting:
            return "held back until it is verified"
        return _THEN.get((self.kind, self.stage), "") if self.stage else ""


_THEN = {
    (Kind.SECONDARY_SALE, Stage.RECTIFICATION): "the agent is fined",
    (Kind.SERVICE_FAILURE, Stage.RECTIFICATION): "the number is taken back",
    (Kind.SECONDARY_SALE, Stage.PAYMENT): "the account is shut down",
    (Kind.FRAUD, Stage.PAYMENT): "the account is shut down",
}


class Filter(BaseModel):
    """Which cases to list; what is None doesn't matter.

    `due_on` is the last day of the limit, or before; `due_from` that day, or after. `failed` are those whose
    workflow has failed or was ended by force: nothing goes on in them.
    """

    model_config = ConfigDict(frozen=True)

    ended: bool | None = False
    kind: Kind | None = None
    stage: Stage | None = None
    agent: str | None = None
    number: Number400 | None = None
    awaiting: Awaiting | None = None
    due_on: date | None = None
    due_from: date | None = None
    failed: bool = False

    def query(self) -> str:
        """The filter in Temporal's language for visibility, which the Web UI takes too."""
        types = [names.CLAUSES[self.kind]] if self.kind else _LISTED
        wanted = [f"WorkflowType IN ({', '.join(map(repr, types))})"]
        if self.ended is not None:
            wanted.append(f"ExecutionStatus {'!=' if self.ended else '='} 'Running'")
        for key, value in (
            (attributes.STAGE, self.stage),
            (attributes.AGENT, self.agent),
            (attributes.NUMBER, self.number),
            (attributes.AWAITING, self.awaiting),
        ):
            if value is not None:
                wanted.append(f"{key.name} = '{_quoted(value)}'")
        if self.failed:
            wanted.append("ExecutionStatus IN ('Failed', 'TimedOut', 'Terminated')")
        # A minute around the instant: the development server's visibility misses one that is equal.
        if self.due_on is not None:
            after = Deadline(last_day=self.due_on).at + timedelta(minutes=1)
            wanted.append(f"{attributes.DEADLINE.name} < '{after.isoformat()}'")
        if self.due_from is not None:
            before = Deadline(last_day=self.due_from).at - timedelta(minutes=1)
            wanted.append(f"{attributes.DEADLINE.name} > '{before.isoformat()}'")
        return " AND ".join(wanted)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


async def cases(client: Client, which: Filter, limit: int) -> tuple[list[Entry], int]:
    """The cases of that kind, the newest first, at most `limit`; and how many there are."""
    query = which.query()

    async def listed() -> list[Entry]:
        return [_entry(execution) async for execution in client.list_workflows(query, limit=limit)]

    try:
        entries, counted = await asyncio.gather(listed(), client.count_workflows(query))
    except RPCError as error:
        raise away(error) from error
    return entries, counted.count if len(entries) == limit else len(entries)


def _entry(execution: WorkflowExecution) -> Entry:
    shown = execution.typed_search_attributes
    kind, _, number = execution.id.rpartition("-")
    case_no = shown.get(attributes.CASE_NO) or ""
    return Entry(
        workflow_id=execution.id,
        run_id=execution.run_id,
        case_no=case_no or None,
        kind=next((one for one in Kind if kind == one or case_no.startswith(f"{one.prefix}-")), Kind.FRAUD),
        number=shown.get(attributes.NUMBER) or number,
        agent=shown.get(attributes.AGENT),
        stage=Stage(stage) if (stage := shown.get(attributes.STAGE)) else None,
        deadline=shown.get(attributes.DEADLINE),
        fine_yuan=shown.get(attributes.FINE_YUAN),
        offence=shown.get(attributes.OFFENCE),
        awaiting=tuple(Awaiting(a) for a in shown.get(attributes.AWAITING) or ()),
        opened_at=execution.start_time,
        ended_at=execution.close_time,
        status=execution.status.name.lower() if execution.status else "unknown",
    )


class Waiting(BaseModel):
    """A renewal that waits for an officer, since it came up."""

    model_config = ConfigDict(frozen=True)

    number: str
    due: date
    since: datetime


async def renewals(client: Client) -> list[Waiting]:
    """The renewals of direct service that wait for an officer, the most urgent first (3.3).

    Raises `Unreachable`.
    """
    waiting = []
    try:
        listed = [execution async for execution in client.list_workflows(RENEWALS)]
    except RPCError as error:
        raise away(error) from error
    for execution in listed:
        _, number, due = execution.id.split("-", 2)
        due_on = date.fromisoformat(due)
        waiting.append(Waiting(number=number, due=due_on, since=execution.start_time))
    return sorted(waiting, key=lambda renewal: (renewal.due, renewal.number))
