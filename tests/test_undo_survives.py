"""The worker, killed outright in each step of an undo: what a case did is undone, each effect once (5.2)."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

from sqlalchemy import text
from temporalio.client import Client, WorkflowUpdateStage

from registry.models import AuditLine, Fine, HoldRow, Notice, Payment
from registry.session import Sessions
from rulebook.vocabulary import Awaiting, FineStatus, Kind, Stage
from starter.virtual_time import VirtualTime
from tests.conftest import rounds
from tests.processes import a_worker, env_of
from tests.workflows.any_order import pay_late
from tests.workflows.fates import Played, Violation, play
from tests.workflows.what_stands import Standing
from tests.world import CaseInTime, World, an_agent

STEPS = 11
# The first two steps are in the history before they are done: after a crash, the server waits for a minute
# before it has them done again.
KILLED_IN = range(rounds(2, 0), STEPS)
SERIOUS = Violation(Kind.FRAUD, "shut down, then closed for good")
RUN = re.compile("[0-9a-f]{8}-[0-9a-f-]{27}")

# The step of an undo that comes after so many others waits, its work done but not committed.
HOLD_UP = """
create table held_up (case_no text, after integer);
create function hold_up() returns trigger language plpgsql as $$
begin
    if exists (
        select from held_up where held_up.case_no = new.case_no and held_up.after = (
            select count(*) - 1 from audit_trail as done where done.case_no = new.case_no and done.id >= (
                select max(id) from audit_trail as appealed
                where appealed.case_no = new.case_no and appealed.step like 'appeal-%'
            )
        )
    ) then
        perform pg_advisory_xact_lock_shared(400);
    end if;
    return new;
end $$;
create trigger hold_up before insert on audit_trail for each row execute function hold_up();
"""


@contextmanager
def _held_up(on_record: Sessions) -> Iterator[None]:
    """What is to be held up waits until the context ends."""
    with on_record() as holding:
        holding.execute(text("select pg_advisory_xact_lock(400)"))
        yield
        with on_record.begin() as session:
            session.execute(text("delete from held_up"))


async def _all_wait(on_record: Sessions, steps: int) -> None:
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    for _ in range(600):
        with on_record() as session:
            if session.execute(waiting).scalar_one() == steps:
                return
        await asyncio.sleep(0.05)  # nothing tells when they wait
    raise TimeoutError(f"less than {steps} steps are held up")


async def _appealed(world: World, numbers: list[str], after: int) -> tuple[Played, CaseInTime]:
    """A case that did all that a case can do, and its appeal, to be held up after so many steps."""
    case = Played(world, SERIOUS, numbers)
    await play((case, case.acts))
    assert case.taken == case.acts
    assert await pay_late(world, case.case_no, f"b-{case.case_no}", Decimal(5000))
    with world.on_record.begin() as session:
        session.execute(text("insert into held_up values (:no, :n)"), {"no": case.case_no, "n": after})
    return case, await world.appeal_after(case.case_no, on="2038-04-01")


async def _overturn(appeal: CaseInTime) -> None:
    said = {"officer": "张伟", "upheld": False, "reason": "已复核"}
    await appeal.handle.start_update("decide", said, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="decide")


async def test_an_undo_survives_a_worker_that_is_killed_in_any_of_its_steps(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    world = World(client, VirtualTime(client), on_record, "undo-killed", tmp_path / "outbox")
    env = env_of(world, database_url)
    with on_record.begin() as session:
        session.execute(text(HOLD_UP))
    agents = [an_agent(on_record, 2, ("中国电信", "中国移动")) for _ in KILLED_IN]
    before = [Standing.of(on_record, numbers) for numbers in agents]
    async with AsyncExitStack() as first_life:
        await first_life.enter_async_context(a_worker(env))
        with _held_up(on_record):
            appealed = [_appealed(world, *one) for one in zip(agents, KILLED_IN, strict=True)]
            played = await asyncio.gather(*appealed)
            await asyncio.gather(*(_overturn(appeal) for _, appeal in played))
            await _all_wait(on_record, len(KILLED_IN))
            await first_life.aclose()
    cases = [case for case, _ in played]
    assert [len(_undone(world, case)) for case in cases] == list(KILLED_IN)

    async with a_worker(env):
        ended = await asyncio.gather(*(appeal.handle.result() for _, appeal in played))
        left = await asyncio.gather(*(world.restitution(case.case_no).story() for case in cases))

    assert {one.outcome for one in ended} == {Stage.OVERTURNED}
    assert [Standing.of(on_record, numbers) for numbers in agents] == before
    assert {story.awaiting for story in left} == {(Awaiting.REFUND, Awaiting.WITHDRAWAL)}
    steps = {tuple(_undone(world, case)) for case in cases}
    assert [len(set(each)) for each in steps] == [STEPS]
    lifted = {(hold.case_no, hold.lifted_by) for hold in world.rows(HoldRow)}
    assert lifted == {(case.case_no, case.case_no) for case in cases}
    assert {fine.status for fine in world.rows(Fine)} == {FineStatus.VOID}
    assert all(payment.refund_due_at for payment in world.rows(Payment))
    told = [letter["Subject"].partition(" ")[0] for letter in world.letters()]
    assert told.count("申诉成立及处理撤销通知书") == len(KILLED_IN)
    assert len(told) == len(world.rows(Notice))


def _undone(world: World, case: Played) -> list[str]:
    """The steps of the case from the decision of its appeal on."""
    trail = [line for line in world.rows(AuditLine) if line.case_no == case.case_no]
    steps = [RUN.sub("", line.step) for line in trail]
    return steps[steps.index("appeal-") + 1 :]
