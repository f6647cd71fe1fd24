"""The demo: the sample registry and feed, the officers' part played through the desk, weeks in seconds.

The policy and the Chinese calendar are the real ones; only the clock of each case is moved on, on a real
Temporal server.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.live import Live
from rich.table import Table
from temporalio.client import Client

from registry import importer
from registry.session import Sessions
from rulebook.money import ZERO, yuan
from rulebook.vocabulary import Kind, Stage, workflow_id, written
from starter import archive, connect, desk, local, monitor, serve
from starter.cli import show
from starter.settings import Settings
from starter.virtual_time import VirtualTime
from workflows.messages import (
    Dismiss,
    Extend,
    Message,
    PaymentReceived,
    RectificationReported,
    Story,
    Verify,
)

SAMPLES = Path(__file__).parent.parent.parent / "samples"
HOME = Path(".enforce-demo")
OFFICER = "李敏"
ENFORCE = Path(sys.argv[0])


class Violation:
    """One violation of the feed, whose time and officer are played."""

    def __init__(
        self, client: Client, virtual: VirtualTime, on_record: Sessions, settings: Settings, number: str
    ) -> None:
        self.number = number
        self.told: Story | None = None
        self._client, self._time, self._on_record, self._settings = client, virtual, on_record, settings
        self._id = workflow_id(Kind.SECONDARY_SALE, number)
        self._payments = 0

    async def look(self) -> Story:
        """The case as it stands now."""
        case = await self._case()
        if case.open:
            self.told = await desk.story_when(
                self._client, self._id, lambda told: told.stage is not Stage.OPENING
            )
        else:
            self.told = await asyncio.to_thread(archive.story, self._on_record, case.case_no)
        return self.told

    async def _case(self) -> desk.Case:
        return await desk.find(self._client, self._id)

    async def days(self, days: float) -> None:
        """Let so many days pass."""
        await self._time.forward(self._id, timedelta(days=days))
        await self.look()

    async def hours_before_deadline(self, hours: float) -> None:
        """Let time pass until shortly before the deadline."""
        told = await self.look()
        if told.deadline:
            await self._time.until(self._id, told.deadline.at - timedelta(hours=hours))
        await self.look()

    async def deadline_passes(self) -> None:
        """Let the limit run out."""
        await self.hours_before_deadline(-1)

    async def rectified(self, statement: str) -> None:
        """The agent reports rectification."""
        await self._act("rectified", RectificationReported(by="agent", statement=statement))

    async def verify(self, passed: bool, reason: str = "") -> None:
        """The officer has checked it."""
        await self._act("verify", Verify(officer=OFFICER, passed=passed, reason=reason))

    async def extend(self, working_days: int, reason: str) -> None:
        """The officer gives more time."""
        await self._act("extend", Extend(officer=OFFICER, working_days=working_days, reason=reason))

    async def dismiss(self, reason: str) -> None:
        """The officer finds no ground."""
        await self._act("dismiss", Dismiss(officer=OFFICER, reason=reason))

    async def paid(self, amount: str) -> None:
        """Money comes in."""
        self._payments += 1
        reference = f"ICBC-{self.number}-{self._payments}"
        payment = desk.understood(PaymentReceived, reference=reference, amount=amount)
        await desk.pay(self._client, self._settings.task_queue, await self._case(), payment)
        await self.look()

    async def _act(self, command: str, message: Message) -> None:
        await desk.act(self._client, await self._case(), command, message)
        await self.look()


Fate = Callable[[Violation], Awaitable[None]]


async def rectified_in_time(case: Violation) -> None:
    """Rectified and verified on the second day."""
    await case.days(1.2)
    await case.rectified("已收回号码，恢复登记客户使用")
    await case.days(0.3)
    await case.verify(passed=True)


async def irregular_rectified_at_once(case: Violation) -> None:
    """Irregular business: one working day, and it is enough."""
    await case.days(0.2)
    await case.rectified("号码已停用并办理注销")
    await case.verify(passed=True)


async def second_try(case: Violation) -> None:
    """The first rectification fails verification, the second passes."""
    await case.days(0.8)
    await case.rectified("已处理")
    await case.verify(passed=False, reason="回拨仍由原使用人接听")
    await case.days(0.7)
    await case.rectified("已重新办理实名登记，附凭证")
    await case.verify(passed=True)


async def verified_after_the_deadline(case: Violation) -> None:
    """Rectified on the last evening, verified two days later: the officer's delay costs nothing."""
    await case.hours_before_deadline(2)
    await case.rectified("今晚已恢复登记客户使用")
    await case.days(2)
    await case.verify(passed=True)


async def failed_then_paid_in_two_parts(case: Violation) -> None:
    """Verification fails, the limit ends: fined, and paid in two parts."""
    await case.days(1)
    await case.rectified("已整改")
    await case.verify(passed=False, reason="号码仍在网页上公示为第三方热线")
    await case.deadline_passes()
    await case.days(1)
    await case.paid("400.00")
    await case.days(1)
    await case.paid("600.00")


async def first_offence_paid(case: Violation) -> None:
    """No reaction, then the fine for a first offence is paid."""
    await case.deadline_passes()
    await case.days(2)
    await case.paid("1000")


async def second_offence_overpaid(case: Violation) -> None:
    """The same agent again: twice the fine, and 500 paid too much."""
    await case.deadline_passes()
    await case.days(1)
    await case.paid("2500")


async def third_offence_never_paid(case: Violation) -> None:
    """The same agent a third time: never paid, the account is shut down."""
    await case.deadline_passes()
    await case.deadline_passes()


async def never_paid(case: Violation) -> None:
    """No reaction, no payment: the account is shut down, all numbers are taken back."""
    await case.deadline_passes()
    await case.deadline_passes()


async def reported_twice(case: Violation) -> None:
    """Two sources report it: one case, with both as evidence."""
    await case.days(1)
    await case.rectified("已终止转租，恢复登记客户使用")
    await case.verify(passed=True)


async def no_ground(case: Violation) -> None:
    """An officer finds no ground and dismisses the case after the fine: the fine is void."""
    await case.deadline_passes()
    await case.days(0.5)
    await case.dismiss("登记信息已于举报前依法变更，投诉不成立")


async def extended(case: Violation) -> None:
    """Two more working days for a typhoon, and rectified within them."""
    await case.hours_before_deadline(5)
    await case.extend(2, "台风停工")
    await case.days(1.5)
    await case.rectified("复工后已完成整改")
    await case.verify(passed=True)


async def paid_too_late(case: Violation) -> None:
    """Irregular, never rectified, paid only after the shutdown: the debt falls, the shutdown stays."""
    await case.deadline_passes()
    await case.deadline_passes()
    await case.paid("600")


# Each line is one story: the violations of one agent are played one after the other.
STORIES: tuple[tuple[tuple[str, Fate], ...], ...] = (
    (("4007192389", rectified_in_time),),
    (("4008263063", irregular_rectified_at_once),),
    (("4009386796", second_try),),
    (("4009471452", verified_after_the_deadline),),
    (("4001925397", failed_then_paid_in_two_parts),),
    (
        ("4000043734", first_offence_paid),
        ("4001969160", second_offence_overpaid),
        ("4000979157", third_offence_never_paid),
    ),
    (("4007355571", never_paid),),
    (("4007257198", reported_twice),),
    (("4009616054", no_ground),),
    (("4008142169", extended),),
    (("4007815675", paid_too_late),),
)


def run(*, stay: bool) -> None:
    """Play the demo; with `stay`, keep the servers up until Ctrl-C. Raises `Refused` if one runs already."""
    started = time.monotonic()
    settings = Settings(home=HOME)
    out = show.console()
    out.print(f"starting PostgreSQL and Temporal in {HOME.resolve()}")
    with local.servers(settings, time_skipping=True, afresh=True) as temporal:
        out.print(f"Temporal Web UI: {temporal.web}")
        asyncio.run(_play(settings, temporal.web, started, stay=stay))


async def _play(settings: Settings, web: str, started: float, *, stay: bool) -> None:
    out = show.console()
    async with serve.cases(settings) as client:
        on_record = connect.on_record(settings)
        rows = importer.read(importer.decode((SAMPLES / "registry.csv").read_bytes()))
        with on_record.begin() as session:
            loaded = importer.load(session, rows, datetime.now(UTC), OFFICER)
        out.print(f"registry: {loaded.agents_added} agents, {loaded.numbers_added} numbers")
        feed = Path(shutil.copy(SAMPLES / "reports.jsonl", settings.home))
        taken = await monitor.take_in(client, on_record, settings.task_queue, feed)
        show.taken(feed, taken)

        virtual = VirtualTime(client)
        stories = [
            [(Violation(client, virtual, on_record, settings, number), fate) for number, fate in story]
            for story in STORIES
        ]
        playing = [case for story in stories for case, _ in story]
        fates = {case.number: (fate.__doc__ or "").strip() for story in stories for case, fate in story}
        await asyncio.gather(*(case.look() for case in playing))
        with Live(console=out, auto_refresh=False, transient=True) as live:

            def draw() -> None:
                if out.is_terminal:
                    live.update(_table(playing, fates), refresh=True)

            async def tell(story: Sequence[tuple[Violation, Fate]]) -> None:
                for case, fate in story:
                    await fate(case)
                    draw()

            drawing = asyncio.create_task(_often(draw))
            await asyncio.gather(*(tell(story) for story in stories))
            drawing.cancel()
        await asyncio.gather(*(case.look() for case in playing))
        out.print(_table(playing, fates))
        fines = sum((case.told.balance.fine for case in playing if case.told), ZERO)
        money = sum((case.told.balance.paid for case in playing if case.told), ZERO)
        out.print(
            f"{len(playing)} cases, {yuan(fines)} of fines standing, {yuan(money)} paid; "
            f"{time.monotonic() - started:.0f} seconds"
        )
        out.print(
            f"\nWeb UI    {web}\n"
            f"notices   {settings.outbox_folder.resolve()}\n"
            f"by hand   ENFORCE_HOME={HOME} {ENFORCE} case {playing[0].number}",
            soft_wrap=True,
        )
        if stay:
            out.print("Ctrl-C ends the demo")
            await serve.stopped()


async def _often(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(0.2)


def _table(playing: Sequence[Violation], fates: Mapping[str, str]) -> Table:
    sums = ("fine", "paid", "due", "owed_back")
    drawn = show.table(
        "number", "agent", "what happens", "until", "stage", *(s.replace("_", " ") for s in sums)
    )
    for case in playing:
        if case.told is None:
            continue
        drawn.add_row(
            written(case.number),
            show.outside(case.told.agent_name),
            fates[case.number],
            show.when(max(line.at for line in case.told.lines)) if case.told.lines else "",
            show.stage(case.told.stage),
            *(show.amount(getattr(case.told.balance, s)) for s in sums),
        )
    return drawn
