"""The fates of the demo's violations: what agents and officers do in each, as one reads it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from temporalio.client import Client

from registry.session import Sessions
from registry.shown import Story
from rulebook.vocabulary import SHANGHAI, Kind, Stage, workflow_id
from starter import archive, contests, desk, docket, findings, lookup
from starter.cli.options import understood
from starter.virtual_time import VirtualTime
from workflows.appeal import Appeal, Dismissal
from workflows.daily import DailyRound
from workflows.messages import (
    AppealReceived,
    AppealStart,
    Approve,
    Decide,
    Dismiss,
    DismissalStart,
    Extend,
    FilingReported,
    Message,
    OfficerAct,
    PaymentReceived,
    RectificationReported,
    Refunded,
    ReinstatementStart,
    Renewed,
    SeriousProposed,
    Verify,
)
from workflows.reinstatement import Reinstatement

OFFICER, SECOND_OFFICER = "李敏", "王静"


class Played(NamedTuple):
    """Where the demo plays."""

    client: Client
    time: VirtualTime
    on_record: Sessions
    task_queue: str


class Violation:
    """One violation of the feed, whose time and officer are played."""

    def __init__(self, played: "Played", kind: Kind, number: str) -> None:
        self.kind, self.number = kind, number
        self.told: Story | None = None
        self._played, self._id = played, workflow_id(kind, number)
        self._client, self._time = played.client, played.time
        self._payments = 0

    async def look(self) -> Story:
        """The case as it stands now."""
        case = await self._case()
        if case.open:
            self.told = await lookup.story_when(
                self._client, self._id, lambda told: told.stage is not Stage.OPENING
            )
        else:
            self.told = await asyncio.to_thread(archive.story, self._played.on_record, case.case_no)
        return self.told

    async def _case(self) -> lookup.Case:
        return await lookup.find(self._client, self._id)

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
        payment = understood(PaymentReceived, reference=reference, amount=amount)
        await desk.pay(self._client, self._played.task_queue, await self._case(), payment)
        await self.look()

    async def _act(self, command: str, message: Message) -> None:
        await desk.act(self._client, await self._case(), command, message)
        await self.look()

    async def customer_confirms(self, statement: str) -> None:
        """The customer says that it is served; another system passes it on as a signal."""
        handle = self._client.get_workflow_handle(self._id)
        await handle.signal("customer_confirmed", {"statement": statement})
        await handle.result()
        await self.look()

    async def after(self, act: str) -> None:
        """The officer reopens the account, or unfreezes the number."""
        case = await self._case()
        said = understood(OfficerAct, case_no=case.case_no, act=act, officer=OFFICER)
        await desk.after(self._client, self._played.task_queue, said)
        await self.look()

    async def found_serious(self, reasons: str, evidence: str) -> None:
        """An officer finds the circumstances serious, and another approves."""
        case = await self._case()
        said = understood(
            SeriousProposed, case_no=case.case_no, officer=OFFICER, reasons=reasons, evidence=[evidence]
        )
        await findings.propose(self._client, self._played.task_queue, said)
        proceeding = await findings.proceeding(self._client, case)
        await desk.act(self._client, proceeding, "approve", Approve(officer=SECOND_OFFICER))
        await lookup.story_when(self._client, proceeding.workflow_id, lambda told: bool(told.filings))
        await self.look()

    async def appeal(self, statement: str) -> None:
        """The agent appeals while the case is open; its clock stops."""
        await self._act("appeal", AppealReceived(by=OFFICER, statement=statement))

    async def decide(self, *, upheld: bool, reason: str) -> None:
        """Another officer decides the appeal."""
        said = Decide(officer=SECOND_OFFICER, upheld=upheld, reason=reason)
        await contests.decide(self._client, await self._case(), said)
        await self.look()

    async def appeal_afterwards(self, days: float, statement: str) -> None:
        """The agent appeals so many days after the case has ended."""
        case = await self._case()
        said = AppealReceived(by=OFFICER, statement=statement)
        appeal_id = f"appeal-{case.case_no}"
        await self._starts(
            Appeal.run, AppealStart(case_no=case.case_no, appeal=said), appeal_id, self._in_days(days)
        )
        await lookup.story_when(self._client, appeal_id, lambda told: bool(told.awaiting))

    async def dismissed_afterwards(self, days: float, reason: str) -> None:
        """An officer finds, so many days after the case has ended, that it had no ground."""
        case = await self._case()
        said = Dismiss(officer=SECOND_OFFICER, reason=reason)
        dismissal_id = f"dismissal-{case.case_no}"
        await self._starts(
            Dismissal.run,
            DismissalStart(case_no=case.case_no, dismissal=said),
            dismissal_id,
            self._in_days(days),
        )
        await self._client.get_workflow_handle(dismissal_id).result()
        await self.look()

    async def reinstated_afterwards(self, days: float, reason: str) -> None:
        """An officer takes the shutdown back, so many days after it."""
        case = await self._case()
        start = ReinstatementStart(case_no=case.case_no, officer=OFFICER, reason=reason)
        named = f"reinstatement-{case.case_no}"
        await self._starts(Reinstatement.run, start, named, self._in_days(days))
        await self._client.get_workflow_handle(named).result()
        await self.look()

    async def refunded(self) -> None:
        """The officer gives back what was paid."""
        case = await self._case()
        said = understood(Refunded, officer=OFFICER, reference=f"ICBC-R-{self.number}")
        await contests.refunded(self._client, self._played.task_queue, case, said)
        await self.look()

    def _in_days(self, days: float) -> datetime:
        return self._time.now(self._id) + timedelta(days=days)

    async def _starts(self, run: Any, start: Any, named: str, on: datetime) -> None:
        await self._client.start_workflow(
            run,
            args=[] if start is None else [start],
            id=named,
            task_queue=self._played.task_queue,
            start_delay=on - datetime.now(SHANGHAI),
        )
        await self._time.until(named, on + timedelta(seconds=1))

    async def renewal_comes_up(self, on: date) -> None:
        """A daily round finds the renewal of direct service, and the officer renews for a year."""
        morning = datetime.combine(on, time(9), SHANGHAI)
        round_id = f"daily-round-{on}"
        await self._starts(DailyRound.run, None, round_id, morning)
        await self._client.get_workflow_handle(round_id).result()
        for _ in range(100):
            if waiting := await docket.renewals(self._client):
                break
            await asyncio.sleep(0.1)  # the list follows a moment later
        said = understood(Renewed, officer=OFFICER, until=waiting[0].due + timedelta(days=365))
        await desk.renew(self._client, waiting[0].number, said)
        await self.look()

    async def filed(self, refused_once: str) -> None:
        """Every filing is submitted and acknowledged, one of them after having been refused."""
        proceeding = await findings.proceeding(self._client, await self._case())
        for filing in (await lookup.story(self._client, proceeding)).filings:
            again = filing.recipient == refused_once
            for status in ("submitted", *(("refused", "submitted") if again else ()), "acknowledged"):
                reason = "附件缺少通话清单" if status == "refused" else ""
                said = understood(
                    FilingReported, officer=OFFICER, filing_no=filing.filing_no, status=status, reason=reason
                )
                await desk.act(self._client, proceeding, "filing", said)
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
    """Irregular, never rectified, paid only after the shutdown: an officer takes it back, the rest is due."""
    await case.deadline_passes()
    await case.deadline_passes()
    await case.paid("600")
    await case.reinstated_afterwards(2, "已缴纳大部分罚款，余款承诺月内缴清")


async def fraud_paid(case: Violation) -> None:
    """Fraud: frozen, suspended, fined 30,000; paid in time, then reopened and unfrozen."""
    await case.days(2)
    await case.paid("30000")
    await case.after("reopen")
    await case.after("unfreeze")


async def fraud_found_serious(case: Violation) -> None:
    """Fraud, found serious by two officers: closed for good, and filed with everybody concerned."""
    await case.found_serious("涉案金额巨大，受害人众多", "公安机关协查函 2026-1123")
    await case.filed(refused_once="工业和信息化部")


async def overtaken(case: Violation) -> None:
    """The same agent's other case ends with that: nothing more is asked in it."""
    await case.look()


async def served_on_the_last_day(case: Violation) -> None:
    """A complaint: the agent serves its customer on the last day, and the customer confirms."""
    await case.hours_before_deadline(3)
    await case.customer_confirms("绑定电话已变更")


async def taken_back(case: Violation) -> None:
    """A complaint, and still no service: taken back into direct service, and renewed when it is due."""
    await case.deadline_passes()
    await case.renewal_comes_up(date(2027, 1, 20))


async def wrongly_shut_down(case: Violation) -> None:
    """Shut down, and appealed against: overturned, and the agent has everything back."""
    await case.deadline_passes()
    await case.deadline_passes()
    await case.appeal_afterwards(4, "“郑州宏图（二部）”系登记客户的内设部门，附营业执照及任命文件")
    await case.decide(upheld=False, reason="接听方确系登记客户的部门，举报不成立")


async def appealed_in_vain(case: Violation) -> None:
    """Appealed at once, the clock stops; the case stands, and is rectified in what was left."""
    await case.days(0.3)
    await case.appeal("号码系临时转接")
    await case.days(5)
    await case.decide(upheld=True, reason="转接对象并非登记客户，属私自转售")
    await case.days(1.5)
    await case.rectified("已停止转接，恢复登记客户使用")
    await case.verify(passed=True)


async def paid_and_then_dismissed(case: Violation) -> None:
    """Fraud, paid; then found to be a mistake and dismissed: unfrozen, reopened, the money refunded."""
    await case.days(1)
    await case.paid("30000")
    await case.dismissed_afterwards(10, "经公安机关核实，来电号码系被伪造，与该号码无关")
    await case.refunded()


SALE, FRAUD, SERVICE = Kind.SECONDARY_SALE, Kind.FRAUD, Kind.SERVICE_FAILURE

# Each entry is one story: the violations of one agent are played one after the other.
STORIES: tuple[tuple[tuple[Kind, str, Fate], ...], ...] = (
    ((SALE, "4007192389", rectified_in_time),),
    ((SALE, "4008263063", irregular_rectified_at_once),),
    ((SALE, "4009386796", second_try),),
    ((SALE, "4009471452", verified_after_the_deadline),),
    ((SALE, "4001925397", failed_then_paid_in_two_parts),),
    (
        (SALE, "4000043734", first_offence_paid),
        (SALE, "4001969160", second_offence_overpaid),
        (SALE, "4000979157", third_offence_never_paid),
    ),
    ((SALE, "4007355571", never_paid),),
    ((SALE, "4007257198", reported_twice),),
    ((SALE, "4009616054", no_ground),),
    ((SALE, "4008142169", extended),),
    ((SALE, "4007815675", paid_too_late),),
    ((FRAUD, "4008524961", fraud_paid),),
    (
        (FRAUD, "4008357020", fraud_found_serious),
        (SALE, "4009860825", overtaken),
    ),
    ((SALE, "4007144727", wrongly_shut_down),),
    ((SALE, "4007781523", appealed_in_vain),),
    ((FRAUD, "4001090119", paid_and_then_dismissed),),
    ((SERVICE, "4006922861", served_on_the_last_day),),
    ((SERVICE, "4009155101", taken_back),),
)
