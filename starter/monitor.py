"""The monitor: hands each report of the inbox to its case. Several of them share the work."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from temporalio.client import Client

from registry import inbox
from registry.inbox import Outcome
from registry.models import Incoming
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import IncomingStatus, faults, workflow_id
from starter.reports import record, start
from starter.settings import Refused, Unreachable

log = logging.getLogger(__name__)

AT_ONCE = 50
"""How many reports are on their way to Temporal at once."""

_BATCH = 500  # reports kept by one transaction
_LOOK_EVERY = 5.0  # seconds: for what is to be tried again, and should a wake-up be lost
_LOOK_AGAIN = 0.2  # seconds, at what another monitor is about to settle
_LONGEST_PAUSE = 30.0  # seconds, while a server is away


class Taken(NamedTuple):
    """What became of a batch: how many reports ended how, and whether a server was away meanwhile."""

    ended: Counter[IncomingStatus]
    away: Unreachable | None

    @property
    def settled(self) -> int:
        """How many reports have left the inbox."""
        return self.ended.total()


async def share(
    client: Client,
    on_record: Sessions,
    task_queue: str,
    tell: Callable[[Taken], None] = lambda taken: None,
) -> None:
    """Hand over what comes into the inbox, until cancelled; waits, ever longer, for a server that is away.

    Cancelled or killed in the middle, nothing is lost: what was not settled goes to another monitor, and a
    report that its case has already is known there.
    """
    pause = 1.0
    bell = _Bell(on_record)
    try:
        while True:
            bell.hush()
            try:
                taken = await hand_over(client, on_record, task_queue)
            except OperationalError as error:
                taken = Taken(Counter(), Unreachable(f"the registry does not answer: {error.orig}"))
            tell(taken)
            if taken.away:
                log.warning("%s; trying again in %.0f s", taken.away, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = 1.0
                if not taken.settled:
                    await bell.rung(_LOOK_EVERY)
    finally:
        bell.close()


async def settle(
    client: Client,
    on_record: Sessions,
    task_queue: str,
    ids: Sequence[int],
    tell: Callable[[int], None] = lambda settled: None,
) -> dict[IncomingStatus, int]:
    """Hand over reports until these have been settled, by this monitor or another one; returns how.

    Raises `Unreachable` where a server is away.
    """
    while True:
        try:
            taken = await hand_over(client, on_record, task_queue)
            ended = await asyncio.to_thread(_counted, on_record, ids)
        except OperationalError as error:
            raise Unreachable(f"the registry does not answer: {error.orig}") from error
        waiting = ended.pop(IncomingStatus.WAITING, 0)
        tell(len(ids) - waiting)
        if taken.away:
            raise taken.away
        if not waiting:
            return ended
        if not taken.settled:
            await asyncio.sleep(_LOOK_AGAIN)


def _counted(on_record: Sessions, ids: Sequence[int]) -> dict[IncomingStatus, int]:
    with on_record() as session:
        return inbox.counted(session, ids)


async def hand_over(client: Client, on_record: Sessions, task_queue: str) -> Taken:
    """Hand over a batch of reports that no other monitor has.

    1. The rows are kept by a transaction: should this process die, they are free again at once.
    2. The reports are put on record, and each is handed to its case, which takes it once, however often it
       comes (`starter/reports.py`).
    3. What became of each is recorded. When a server is away, the rest stays as it is.

    Raises `sqlalchemy.exc.OperationalError` where the registry doesn't answer.
    """
    batch = _Batch(client, on_record, task_queue)
    session = on_record()
    try:
        rows = await asyncio.to_thread(inbox.claim, session, _BATCH)
        await batch.hand(rows)

        def settle_and_let_go() -> None:
            inbox.settle(session, batch.outcomes)
            inbox.try_later(session, batch.troubled)
            session.commit()

        await asyncio.to_thread(settle_and_let_go)
    finally:
        await asyncio.to_thread(session.close)
    return Taken(Counter(outcome.status for outcome in batch.outcomes), batch.away)


class _Batch:
    """Reports on their way to their cases, and what has become of each so far."""

    def __init__(self, client: Client, on_record: Sessions, task_queue: str) -> None:
        self._client = client
        self._on_record = on_record
        self._task_queue = task_queue
        self._places = asyncio.Semaphore(AT_ONCE)
        self.outcomes: list[Outcome] = []
        self.troubled: list[tuple[int, str]] = []
        self.away: Unreachable | None = None

    async def hand(self, rows: Sequence[Incoming]) -> None:
        """Hand over these reports."""
        understood: list[tuple[Incoming, Report]] = []
        for row in rows:
            try:
                understood.append((row, _understood(row)))
            except ValidationError as error:
                self._refuse(row, faults(error))
            except Refused as refused:
                self._refuse(row, str(refused))
        await self._take(understood)

    async def _take(self, understood: Sequence[tuple[Incoming, Report]]) -> None:
        if not understood:
            return
        try:
            became = await asyncio.to_thread(record, self._on_record, [report for _, report in understood])
        except OperationalError:
            raise
        except SQLAlchemyError as error:
            if len(understood) == 1:
                self._trouble(understood[0][0], error)
            else:  # each by itself, so that the one that makes trouble holds up no other one
                for one in understood:
                    await self._take([one])
            return
        to_start = []
        for (row, report), before in zip(understood, became, strict=True):
            if isinstance(before, Refused):
                self._refuse(row, str(before))
            elif before is None:
                to_start.append(self._start(row, report))
            else:
                self._handed(row, report)
        await asyncio.gather(*to_start)

    async def _start(self, row: Incoming, report: Report) -> None:
        async with self._places:
            if self.away:
                return
            try:
                await start(self._client, self._task_queue, report)
            except Unreachable as error:
                self.away = error
            except Refused as refused:
                self._refuse(row, str(refused))
            else:
                self._handed(row, report)

    def _handed(self, row: Incoming, report: Report) -> None:
        case_id = workflow_id(report.kind, report.number)
        self.outcomes.append(Outcome(row.id, IncomingStatus.HANDED, workflow_id=case_id))

    def _trouble(self, row: Incoming, error: Exception) -> None:
        log.error("report %s/%s makes trouble", row.source, row.report_id, exc_info=error)
        self.troubled.append((row.id, f"{type(error).__name__}: {error}"[:1000]))

    def _refuse(self, row: Incoming, why: str) -> None:
        self.outcomes.append(Outcome(row.id, IncomingStatus.REFUSED, why))


def _understood(row: Incoming) -> Report:
    payload: Any = row.payload
    if not isinstance(payload, dict):
        raise Refused("the payload is no JSON object")
    if why := payload.get("why") if "unreadable" in payload else None:
        raise Refused(str(why))
    named = {"source": row.source, "report_id": row.report_id}
    for name, value in named.items():
        if payload.get(name, value) != value:
            raise Refused(f"{name} is {value!r} in the inbox, and {payload[name]!r} in the report")
    return Report.model_validate(payload | named)


class _Bell:
    """Rings when something has come into the inbox (PostgreSQL's LISTEN)."""

    def __init__(self, on_record: Sessions) -> None:
        self._engine: Engine = on_record.kw["bind"]
        self._connection: Any = None
        self._descriptor = -1
        self._rung = asyncio.Event()

    def hush(self) -> None:
        """Listen for what comes from now on."""
        self._rung.clear()

    async def rung(self, within: float) -> None:
        """Wait until it rings, at most so many seconds; where it can't listen, it only waits."""
        if self._connection is None:
            try:
                self._connection = await asyncio.to_thread(self._listen)
                self._descriptor = self._connection.fileno()
                asyncio.get_running_loop().add_reader(self._descriptor, self._heard)
                within = 0.1  # something may have come in before it listened
            except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error):
                self._connection = None
        try:
            await asyncio.wait_for(self._rung.wait(), within)
        except TimeoutError:
            return

    def _listen(self) -> Any:
        borrowed = self._engine.raw_connection()
        connection: Any = borrowed.driver_connection
        borrowed.detach()
        connection.autocommit = True
        connection.cursor().execute(f"listen {inbox.CHANNEL}")
        return connection

    def _heard(self) -> None:
        try:
            self._connection.poll()
            self._connection.notifies.clear()
        except Exception:  # noqa: BLE001 - whatever broke the connection, the next wait makes a new one
            self.close()
        self._rung.set()

    def close(self) -> None:
        """Listen no more."""
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._connection.close()
            self._connection = None
