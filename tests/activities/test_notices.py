"""Letters: what they state, that they are served once, and the deadlines that hang on them (rulebook 4)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from sqlalchemy import select
from temporalio.testing import ActivityEnvironment

from activities.cases import Cases, JoinReport
from activities.channels import Channel, Letter, Outbox
from activities.letters import environment
from activities.limits import DeadlineReckoned, ExtendLimit, Limits, ReckonDeadline
from activities.notices import (
    Notices,
    NoticeServed,
    ServeNotice,
)
from activities.step import Serious
from registry import audit
from registry.models import CalendarDay, Notice, Number
from registry.session import Sessions
from rulebook.money import Balance
from rulebook.vocabulary import Business, Kind, NoticeKind, Stage, written
from rulebook.working_days import Calendar
from tests.activities.conftest import OPENED, Steps
from tests.registry.conftest import at_once
from tests.world import a_report, an_agent, shanghai, wording

RECTIFY = NoticeKind.RECTIFICATION_ORDER
FACTS = "登记客户为乙公司，实际由丙某使用"
DECEIT = "冒充客服骗取验证码"
COMPLAINT = "客户三次报修无人处理"
SERIOUS = Serious(reasons="受害人众多", proposed_by="李敏", approved_by="赵军")


class Breaks:
    """A channel that breaks so many times: before it delivers, or after."""

    def __init__(self, outbox: Outbox, times: int, *, delivers: bool) -> None:
        self.outbox, self.times, self.delivers = outbox, times, delivers
        self.delivered: list[bytes] = []

    def deliver(self, letter: Letter) -> str:
        self.times -= 1
        if self.times >= 0 and not self.delivers:
            raise ConnectionError
        receipt = self.outbox.deliver(letter)
        self.delivered.append(letter.content)
        if self.times >= 0:
            raise ConnectionError
        return receipt


@dataclass(frozen=True)
class Post:
    """The notices of one registry, and the outbox where they arrive."""

    on_record: Sessions
    folder: Path

    def notices(self, channel: Channel | None = None) -> Notices:
        return Notices(self.on_record, channel or Outbox(self.folder), "compliance@platform.example", 5)

    def serve(
        self,
        case_no: str,
        kind: NoticeKind,
        at: datetime = OPENED,
        channel: Channel | None = None,
        **said: Any,
    ) -> NoticeServed:
        """Serve a notice that was asked for when the case was opened, at an attempt of the server's."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, current_attempt_scheduled_time=at.astimezone(UTC))
        order = ServeNotice(case_no=case_no, step=f"notice-{kind}", at=OPENED, kind=kind, **said)
        return environment.run(self.notices(channel).serve_notice, order)

    def reckon(self, case_no: str, step: str = f"notice-{RECTIFY}") -> DeadlineReckoned:
        order = ReckonDeadline(case_no=case_no, step=step, at=shanghai("2026-03-09"))
        return Limits(self.on_record).reckon_deadline(order)

    def extend(self, case_no: str, working_days: int, step: str = "extend-1") -> DeadlineReckoned:
        order = ExtendLimit(
            case_no=case_no,
            step=step,
            at=shanghai("2026-02-13"),
            by="李敏",
            notice_step=f"notice-{RECTIFY}",
            working_days=working_days,
            reason="洪水",
        )
        return Limits(self.on_record).extend_limit(order)

    def letter(self, served: NoticeServed) -> EmailMessage:
        content = (self.folder / f"{served.notice_no}.eml").read_bytes()
        return message_from_bytes(content, policy=policy.default)

    def on_file(self) -> list[Notice]:
        with self.on_record() as session:
            return list(session.scalars(select(Notice).order_by(Notice.notice_no)))

    def told(self, case_no: str) -> list[str]:
        with self.on_record() as session:
            return [line.text for line in audit.trail(session, case_no)]

    def arrange(self, day: str, works: bool) -> None:
        with self.on_record.begin() as session:
            session.add(
                CalendarDay(day=date.fromisoformat(day), closing=False, works=works, reason="arranged")
            )


@pytest.fixture
def post(on_record: Sessions, tmp_path: Path) -> Post:
    return Post(on_record, tmp_path)


@pytest.fixture
def held(on_record: Sessions) -> list[str]:
    """The numbers of an agent."""
    return an_agent(on_record, numbers=3, agent_id="A7", name="甲通信有限公司", email="a7@agent.example")


@pytest.fixture
def case_no(steps: Steps, held: list[str]) -> str:
    return steps.open(a_report(held[0], facts=FACTS, report_id="R-1")).case_no


@pytest.fixture
def fraud_no(steps: Steps, held: list[str]) -> str:
    return steps.open(a_report(held[0], kind=Kind.FRAUD, facts=DECEIT, report_id="R-1")).case_no


@pytest.fixture
def failure_no(steps: Steps, held: list[str]) -> str:
    report = a_report(held[0], kind=Kind.SERVICE_FAILURE, facts=COMPLAINT, report_id="R-1")
    return steps.open(report).case_no


def states(letter: EmailMessage, *parts: str) -> None:
    """The letter states all of this, in this order."""
    text, place = wording(letter), 0
    for part in parts:
        assert part in text[place:], f"{part} is missing (here) in:\n{text}"
        place = text.index(part, place) + len(part)


def test_the_order_to_rectify_states_the_rule_the_facts_the_demand_and_the_deadline(
    post: Post, case_no: str, held: list[str]
) -> None:
    letter = post.letter(post.serve(case_no, RECTIFY, working_days=3))
    assert (letter["From"], letter["To"]) == ("compliance@platform.example", "a7@agent.example")
    assert letter["Subject"] == f"责令整改通知书 {case_no}-N1"
    assert letter["Message-ID"].startswith(f"<{case_no}-N1")
    assert letter["Date"].datetime == OPENED
    states(
        letter,
        "责令整改通知书",
        f"文书编号：{case_no}-N1",
        f"案件编号：{case_no}",
        "2026年2月12日",
        "甲通信有限公司（代理商编号 A7）",
        "2017年2月16日公布",
        "第2条",
        written(held[0]),
        f"乙{held[0]}商贸有限公司（实名凭证 91310000MA1FL0000X）",
        "中国电信",
        f"1. {FACTS}（来源：monitor，编号 R-1）",
        "请停止该号码的转售使用",
        "3 个工作日，至 2026年2月24日 24:00 止（北京时间，Asia/Shanghai）",
        "首次违规罚款人民币 1,000.00 元，再次违规罚款 2,000.00 元以上（规定第2.3条）",
        "如何申诉",
        f"{case_no}-N1",
        "Order to rectify",
        "clause 2)",
        written(held[0]),
        FACTS,
        "Limit: 3 working days, until 2026-02-24 24:00 (Asia/Shanghai).",
        "CNY 1,000.00 for a first offence, CNY 2,000.00 or more",
        "How to appeal",
        f"{case_no}-N1",
    )
    assert "暂定" not in wording(letter)


def test_irregular_business_is_to_be_stopped_at_once(post: Post, steps: Steps, held: list[str]) -> None:
    case_no = steps.open(a_report(held[0], Business.IRREGULAR)).case_no
    served = post.serve(case_no, RECTIFY, working_days=1)
    states(
        post.letter(served),
        "最终用户业务不合规，请立即整改",
        "1 个工作日，至 2026年2月13日 24:00 止",
        "stop the resale of the number at once",
        "Limit: 1 working day, until 2026-02-13 24:00 (Asia/Shanghai)",
    )


def test_the_order_to_rectify_names_all_that_was_reported(
    post: Post, on_record: Sessions, case_no: str, held: list[str]
) -> None:
    further = a_report(held[0], facts="第二份证据", source="工信部", report_id="R-2")
    joined = JoinReport(case_no=case_no, step="report-2", at=OPENED, report=further)
    Cases(on_record).join_report(joined)
    served = post.serve(case_no, RECTIFY, working_days=3)
    states(
        post.letter(served), f"1. {FACTS}", "2. 第二份证据（来源：工信部，编号 R-2）", "1. ", "2. 第二份证据"
    )


def test_the_punishment_notice_states_the_fine_when_and_how_to_pay_and_what_follows(
    post: Post, steps: Steps, case_no: str
) -> None:
    steps.pay(case_no, "400.10", "B1")
    steps.fine(case_no)
    letter = post.letter(post.serve(case_no, NoticeKind.PUNISHMENT, shanghai("2026-09-30"), working_days=5))
    assert letter["Subject"] == f"处罚通知书 {case_no}-N1"
    states(
        letter,
        "处罚通知书",
        "2017年2月16日公布",
        "第2.3条",
        FACTS,
        "罚款人民币 1,000.00 元（大写：壹仟元整）。此为贵司第 1 次违反本条规定",
        "已收到 400.10 元，尚应缴纳 599.90 元（大写：伍佰玖拾玖元玖角）",
        "5 个工作日，至 2026年10月13日 24:00 止（北京时间，Asia/Shanghai）",
        f"附言注明案件编号 {case_no}",
        "关停贵司账户并收回名下全部号码（规定第2.5条）",
        "如何申诉",
        "Punishment notice",
        "clause 2.3",
        "Fine: CNY 1,000.00, your offence no. 1 under this clause.",
        "Received: CNY 400.10; still due: CNY 599.90.",
        "Limit: 5 working days, until 2026-10-13 24:00 (Asia/Shanghai) (2.4)",
        "How to pay",
        case_no,
        "all its numbers are taken back (2.5)",
        "How to appeal",
    )


def test_the_shutdown_notice_states_what_was_taken_and_what_stays_due(
    post: Post, steps: Steps, case_no: str, held: list[str]
) -> None:
    steps.fine(case_no)
    steps.pay(case_no, "0.01", "B1")
    steps.shut_down(case_no)
    steps.reclaim(case_no)
    served = post.serve(case_no, NoticeKind.SHUTDOWN, shanghai("2026-03-10", "00:05"), clause="2.5")
    letter = post.letter(served)
    assert letter["Subject"] == f"账户关停及号码收回通知书 {case_no}-N1"
    states(
        letter,
        "第2.5条",
        FACTS,
        "2026年3月10日 起关停",
        "号码 3 个，号码静置 30 日",
        *map(written, sorted(held)),
        "罚款人民币 1,000.00 元（大写：壹仟元整），已缴 0.01 元",
        "尚欠 999.99 元（大写：玖佰玖拾玖元玖角玖分）",
        f"附言注明案件编号 {case_no}",
        "如何申诉",
        "Account shut down, numbers taken back",
        "clause 2.5",
        "as of 10 March 2026. 3 numbers are taken back",
        "30 days",
        "Fine CNY 1,000.00, paid CNY 0.01: CNY 999.99 stays due",
        case_no,
        "How to appeal",
    )


def test_the_punishment_notice_of_a_fraud_states_freeze_suspension_fine_deadline_and_what_may_follow(
    post: Post, steps: Steps, fraud_no: str, held: list[str]
) -> None:
    steps.pay(fraud_no, "0.10", "B1")
    steps.fine(fraud_no)
    letter = post.letter(post.serve(fraud_no, NoticeKind.PUNISHMENT, working_days=5))
    assert (letter["To"], letter["Subject"]) == ("a7@agent.example", f"处罚通知书 {fraud_no}-N1")
    states(
        letter,
        "2017年2月16日公布",
        "第1条",
        written(held[0]),
        f"1. {DECEIT}（来源：monitor，编号 R-1）",
        f"冻结涉案号码 {written(held[0])}，立即生效（规定第1.1条）",
        "暂停贵司账户",
        "（规定第1.2条）",
        "罚款人民币 30,000.00 元（大写：叁万元整）。此为贵司第 1 次违反本条规定（规定第1.3条）",
        "已收到 0.10 元，尚应缴纳 29,999.90 元（大写：贰万玖仟玖佰玖拾玖元玖角）",
        "5 个工作日，至 2026年2月26日 24:00 止（北京时间，Asia/Shanghai）",
        f"附言注明案件编号 {fraud_no}",
        "涉案号码继续冻结",
        "（规定第1.4条）",
        "关停贵司账户并收回名下全部号码（规定第1.5条）",
        "情节严重",
        "（规定第1.6条）",
        "如何申诉",
        "Punishment notice",
        "clause 1)",
        DECEIT,
        f"The number {written(held[0])} is frozen at once (1.1)",
        "Your account is suspended",
        "Fine: CNY 30,000.00, your offence no. 1 under this clause (1.3).",
        "Received: CNY 0.10; still due: CNY 29,999.90.",
        "Limit: 5 working days, until 2026-02-26 24:00 (Asia/Shanghai) (1.3)",
        fraud_no,
        "(1.4)",
        "(1.5)",
        "(1.6)",
        "How to appeal",
    )


def test_the_shutdown_notice_of_a_fraud_states_its_own_clause(
    post: Post, steps: Steps, fraud_no: str
) -> None:
    steps.fine(fraud_no)
    steps.reclaim(fraud_no)
    letter = post.letter(post.serve(fraud_no, NoticeKind.SHUTDOWN, clause="1.5"))
    states(
        letter,
        "诈骗一案",
        "第1.5条",
        DECEIT,
        "尚欠 30,000.00 元（大写：叁万元整）",
        "case of fraud",
        "clause 1.5",
    )


def test_the_permanent_closure_states_the_finding_what_was_taken_and_what_is_filed(
    post: Post, steps: Steps, fraud_no: str, held: list[str]
) -> None:
    steps.fine(fraud_no)
    steps.suspend(fraud_no)
    steps.close_account(fraud_no)
    steps.reclaim(fraud_no)
    served = post.serve(fraud_no, NoticeKind.PERMANENT_CLOSURE, shanghai("2026-03-10"), serious=SERIOUS)
    letter = post.letter(served)
    assert letter["To"] == "a7@agent.example"
    assert letter["Subject"] == f"永久关闭账户及取消代理资格通知书 {fraud_no}-N1"
    states(
        letter,
        "第1.6条",
        DECEIT,
        "【情节严重的认定理由】受害人众多",
        "2026年3月10日 起永久关闭",
        "取消贵司代理资格",
        "号码 3 个，号码静置 30 日",
        *map(written, sorted(held)),
        "备案",
        "社会公告",
        "公安、司法机关",
        "罚款人民币 30,000.00 元（大写：叁万元整），已缴 0.00 元",
        "尚欠 30,000.00 元（大写：叁万元整），仍应缴纳",
        f"附言注明案件编号 {fraud_no}",
        "如何申诉",
        "Account closed for good",
        "clause 1.6",
        "Reasons: 受害人众多",
        "as of 10 March 2026, and your agency qualification is cancelled",
        "3 numbers are reclaimed",
        *map(written, sorted(held)),
        "with each operator and with MIIT",
        "CNY 30,000.00 stays due",
        "How to appeal",
    )


def test_the_order_to_serve_the_customer_states_the_complaint_the_demand_and_the_deadline(
    post: Post, failure_no: str, held: list[str]
) -> None:
    letter = post.letter(post.serve(failure_no, NoticeKind.SERVICE_ORDER, working_days=3))
    assert (letter["To"], letter["Subject"]) == ("a7@agent.example", f"限期服务通知书 {failure_no}-N1")
    states(
        letter,
        "2017年2月16日公布",
        "第3.1条",
        written(held[0]),
        f"乙{held[0]}商贸有限公司",
        COMPLAINT,
        "请在期限内为上述客户提供服务",
        "不予罚款（规定第3.2条）",
        "3 个工作日，至 2026年2月24日 24:00 止（北京时间，Asia/Shanghai）",
        "平台收回该号码，直接为客户提供服务",
        "续费（规定第3.3条）",
        "如何申诉",
        "Order to serve the customer",
        "clause 3.1",
        COMPLAINT,
        "Limit: 3 working days, until 2026-02-24 24:00 (Asia/Shanghai).",
        "(3.3)",
        "How to appeal",
    )


def test_agent_and_customer_are_each_told_that_the_number_is_served_directly(
    post: Post, steps: Steps, failure_no: str, held: list[str]
) -> None:
    steps.take_back(failure_no)
    number, day = written(held[0]), shanghai("2026-02-25")
    to_agent, to_customer = (
        post.letter(post.serve(failure_no, kind, day))
        for kind in (NoticeKind.TAKE_BACK, NoticeKind.TAKE_BACK_CUSTOMER)
    )
    assert (to_agent["To"], to_agent["Subject"]) == ("a7@agent.example", f"号码收回通知书 {failure_no}-N1")
    states(
        to_agent,
        "甲通信有限公司（代理商编号 A7）",
        "第3.3条",
        COMPLAINT,
        f"自 2026年2月25日 起，收回号码 {number}。本案仅收回该号码",
        "由平台直接服务",
        "续费由平台自行负责",
        "下次续费日：2038年12月1日",
        "不予罚款",
        "如何申诉",
        "clause 3.3",
        f"The number {number} is taken back as of 25 February 2026",
        "Next renewal date: 1 December 2038",
        "How to appeal",
    )
    assert (to_customer["To"], to_customer["Subject"]) == (
        f"office@{held[0]}.example",
        f"服务变更告知书 {failure_no}-N2",
    )
    states(
        to_customer,
        f"致：乙{held[0]}商贸有限公司",
        "甲通信有限公司",
        "第3.3条",
        number,
        "中国电信",
        "自 2026年2月25日 起，由平台直接为贵司提供服务",
        "号码不变",
        "下次续费日：2038年12月1日",
        f"写明文书编号 {failure_no}-N2",
        f"To: 乙{held[0]}商贸有限公司",
        number,
        "As of 25 February 2026 the platform serves you directly",
        "Next renewal date: 1 December 2038",
    )
    private = ("王芳", "代理商编号", "申诉", "appeal", COMPLAINT)
    assert [said for said in private if said in wording(to_customer)] == []
    assert [notice.recipient for notice in post.on_file()] == [to_agent["To"], to_customer["To"]]


@pytest.mark.parametrize("debt", [True, False])
def test_a_case_that_another_one_overtook_says_which_and_what_stays_due(
    post: Post, steps: Steps, case_no: str, debt: bool
) -> None:
    if debt:
        steps.fine(case_no)
        steps.pay(case_no, "0.01", "B1")
    served = post.serve(case_no, NoticeKind.CLOSING, outcome=Stage.OVERTAKEN, overtaken_by="FR-2026-00007")
    letter = post.letter(served)
    states(letter, "结案通知书", "已由案件 FR-2026-00007 收回", "第7.2条", "by case FR-2026-00007", "(7.2)")
    owed = (
        "尚欠 999.99 元（大写：玖佰玖拾玖元玖角玖分），作为债务仍应缴纳",
        f"附言注明案件编号 {case_no}",
        "CNY 999.99 stays due as a debt",
    )
    nothing = ("无需再采取任何行动", "Nothing more is asked of you")
    states(letter, *(owed if debt else nothing))
    assert [said for said in (nothing if debt else owed) if said in wording(letter)] == []


def test_a_fraud_that_was_paid_says_that_account_and_number_await_an_officer(
    post: Post, steps: Steps, fraud_no: str
) -> None:
    steps.settle(fraud_no)
    letter = post.letter(post.serve(fraud_no, NoticeKind.CLOSING, outcome=Stage.SETTLED))
    states(
        letter,
        "诈骗一案（规定第1条）",
        "罚款人民币 30,000.00 元（大写：叁万元整）已缴清（规定第1.4条",
        "涉案号码继续冻结，直至合规人员决定解冻（规定第1.4条）",
        "case of fraud (clause 1) is closed",
        "The fine of CNY 30,000.00 is paid (1.4",
        "the number stays frozen until an officer unfreezes it (1.4)",
    )


def test_a_customer_that_was_served_after_all_ends_the_case_without_a_fine(
    post: Post, failure_no: str
) -> None:
    letter = post.letter(post.serve(failure_no, NoticeKind.CLOSING, outcome=Stage.RECTIFIED))
    states(letter, "服务失职一案（规定第3条）", "已为客户提供服务，不予罚款（规定第3.2条）", "no fine (3.2)")


@pytest.mark.parametrize(
    ("outcome", "paid", "zh", "en"),
    [
        (Stage.RECTIFIED, None, "已在期限内完成整改，不予罚款（规定第2.2条）", "rectified in time"),
        (
            Stage.SETTLED,
            "1000",
            "罚款人民币 1,000.00 元（大写：壹仟元整）已缴清",
            "The fine of CNY 1,000.00 is paid",
        ),
        (Stage.SETTLED, "1000.5", "应退还贵司人民币 0.50 元（大写：伍角）", "CNY 0.50 is owed back to you"),
        (Stage.DISMISSED, None, "理由：号码登记有误", "dismissed (5.2): 号码登记有误."),
        (
            Stage.DISMISSED,
            "400",
            "应退还贵司人民币 400.00 元（大写：肆佰元整）",
            "CNY 400.00 is owed back to you",
        ),
    ],
)
def test_the_closing_notice_states_how_the_case_ended_and_what_is_owed_back(
    post: Post, steps: Steps, case_no: str, outcome: Stage, paid: str | None, zh: str, en: str
) -> None:
    if paid:
        steps.fine(case_no)
        steps.pay(case_no, paid, "B1")
    if outcome is Stage.DISMISSED:
        steps.void(case_no)
    served = post.serve(case_no, NoticeKind.CLOSING, outcome=outcome, reason="号码登记有误")
    letter = post.letter(served)
    assert served.deadline is None
    assert letter["Subject"] == f"结案通知书 {case_no}-N1"
    states(letter, "结案通知书", FACTS, zh, "如何申诉", "Case closed", FACTS, en, "How to appeal")
    assert ("退还" in wording(letter)) == (paid not in (None, "1000"))


def test_a_provisional_deadline_is_marked_so_in_the_letter(post: Post, case_no: str) -> None:
    year = next(year for year in range(2026, 2100) if not Calendar().published(year))
    served = post.serve(case_no, RECTIFY, shanghai(f"{year}-03-01"), working_days=3)
    assert served.deadline
    assert served.deadline.provisional
    assert post.on_file()[0].provisional
    states(post.letter(served), "为暂定期限", "只会顺延，不会提前", "provisional: it can only move later")


@pytest.mark.parametrize("template", ["罚款 {{ fine_amount }} 元", "{{ case.fine }}", "{{ fine.amount }}"])
def test_a_letter_with_something_unknown_in_it_is_an_error_and_no_gap(template: str) -> None:
    with pytest.raises(UndefinedError):
        environment().from_string(template).render(case=object())


def test_a_notice_about_a_fine_is_never_sent_without_one(post: Post, case_no: str) -> None:
    with pytest.raises((UndefinedError, TypeError), match=r"StrictUndefined|undefined"):
        post.serve(case_no, NoticeKind.PUNISHMENT, working_days=5)
    assert not post.on_file()
    assert not list(post.folder.iterdir())


HOSTILE = [
    "甲公司\r\nBcc: evil@x.example\r\n\r\n罚款已免除",
    "甲公司\n\n【整改期限】999 个工作日\n",
    "甲\u2028乙\u2029丙\x85丁\x0b戊\x0c己\x1e庚",
    "\u202e司公甲\u202c\u2066\u200b\ufeff\u200d",
    "\x1b[2J\x07\x7f\x9b",
    "{{ 7*7 }}{% for x in range(9) %}{{ case.agent.email }}{% endfor %}{#",
    "=?utf-8?q?=0D=0ABcc=3A_evil=40x=2Eexample?=",
    ".\r\nQUIT\r\n--\r\nFrom someone",
]


@pytest.mark.parametrize(
    ("kind", "violation"),
    [
        (RECTIFY, Kind.SECONDARY_SALE),
        (NoticeKind.CLOSING, Kind.SECONDARY_SALE),
        (NoticeKind.SHUTDOWN, Kind.SECONDARY_SALE),
        (NoticeKind.PUNISHMENT, Kind.SECONDARY_SALE),
        (NoticeKind.PUNISHMENT, Kind.FRAUD),
        (NoticeKind.PERMANENT_CLOSURE, Kind.FRAUD),
        (NoticeKind.SERVICE_ORDER, Kind.SERVICE_FAILURE),
        (NoticeKind.TAKE_BACK, Kind.SERVICE_FAILURE),
        (NoticeKind.TAKE_BACK_CUSTOMER, Kind.SERVICE_FAILURE),
    ],
)
def test_nothing_that_comes_from_outside_forges_a_header_or_a_line(
    post: Post, steps: Steps, kind: NoticeKind, violation: Kind
) -> None:
    harmless = _everywhere("甲公司", kind, post, steps, violation)
    for hostile in HOSTILE:
        forged = _everywhere(hostile, kind, post, steps, violation)
        assert _headers(forged) == _headers(harmless), hostile
        assert len(_body(forged)) == len(_body(harmless)), hostile
        assert [line for line in _body(forged) if not line.isprintable()] == [], hostile


def test_text_from_outside_is_shown_and_never_carried_out(post: Post, steps: Steps) -> None:
    formula = "{{ 7*191919 }}{% raw %}"
    text = "\n".join(_body(_everywhere(formula, RECTIFY, post, steps)))
    assert text.count(formula) == 12
    assert "1343433" not in text


@pytest.mark.parametrize("kind", [NoticeKind.TAKE_BACK, NoticeKind.TAKE_BACK_CUSTOMER])
def test_no_address_adds_a_recipient(post: Post, on_record: Sessions, steps: Steps, kind: NoticeKind) -> None:
    forged = "a@agent.example\r\nBcc: evil@x.example"
    [number] = an_agent(on_record, email=forged)
    with on_record.begin() as session:
        session.get_one(Number, number).customer_email = forged
    case_no = steps.open(number, kind=Kind.SERVICE_FAILURE).case_no
    letter = post.letter(post.serve(case_no, kind))
    assert not {"Bcc", "Cc"} & set(letter.keys())
    assert len(letter.get_all("To", [])) == 1


def test_no_line_of_a_letter_is_longer_than_mail_allows(post: Post, steps: Steps) -> None:
    letter = _everywhere("长" * 4000, RECTIFY, post, steps)
    assert max(map(len, letter.split(b"\r\n"))) <= 998


def _everywhere(
    said: str, kind: NoticeKind, post: Post, steps: Steps, violation: Kind = Kind.SECONDARY_SALE
) -> bytes:
    """A letter in which all that comes from outside says the same."""
    [number] = an_agent(post.on_record, name=said, contact=said)
    with post.on_record.begin() as session:
        held = session.get_one(Number, number)
        held.customer = held.certificate = held.operator = said
    case_no = steps.open(a_report(number, kind=violation, facts=said)).case_no
    if kind is NoticeKind.PUNISHMENT:
        steps.fine(case_no)
    serious = Serious(reasons=said, proposed_by=said, approved_by=said)
    served = post.serve(
        case_no, kind, working_days=3, outcome=Stage.DISMISSED, reason=said, clause="2.5", serious=serious
    )
    return (post.folder / f"{served.notice_no}.eml").read_bytes()


def _headers(letter: bytes) -> list[str]:
    return message_from_bytes(letter, policy=policy.default).keys()


def _body(letter: bytes) -> list[str]:
    text: str = wording(message_from_bytes(letter, policy=policy.default))
    return text.replace("\r\n", "\n").split("\n")


def test_the_sum_on_record_is_that_of_the_letter_on_record_and_in_the_outbox(
    post: Post, case_no: str
) -> None:
    served = post.serve(case_no, RECTIFY, working_days=3)
    [notice] = post.on_file()
    sent = (post.folder / f"{served.notice_no}.eml").read_bytes()
    assert sent == notice.content
    assert hashlib.sha256(sent).hexdigest() == notice.sha256 == served.sha256
    assert (notice.recipient, notice.receipt) == ("a7@agent.example", f"outbox: {served.notice_no}.eml")


def test_a_notice_is_served_once_however_often_it_is_tried(post: Post, case_no: str) -> None:
    first = post.serve(case_no, RECTIFY, working_days=3)
    again = post.serve(case_no, RECTIFY, shanghai("2026-03-20"), working_days=3)
    assert again == first
    [notice] = post.on_file()
    assert notice.served_at == OPENED
    assert post.told(case_no)[1:] == [
        f"Notice {case_no}-N1 served: rectification-order, limit ends 2026-02-24 24:00 (Asia/Shanghai)"
    ]


def test_the_notices_of_a_case_are_numbered_in_their_order(post: Post, case_no: str) -> None:
    served = [
        post.serve(case_no, kind, working_days=days, outcome=Stage.RECTIFIED)
        for kind, days in ((RECTIFY, 3), (NoticeKind.CLOSING, None))
    ]
    assert [notice.notice_no for notice in served] == [f"{case_no}-N1", f"{case_no}-N2"]


def test_a_crash_after_delivery_sends_the_same_letter_once_more(post: Post, case_no: str) -> None:
    channel = Breaks(Outbox(post.folder), times=1, delivers=True)
    with pytest.raises(ConnectionError):
        post.serve(case_no, RECTIFY, channel=channel, working_days=3)
    post.serve(case_no, RECTIFY, shanghai("2026-02-12", "23:59"), channel, working_days=3)
    first, second = channel.delivered
    assert first == second
    [notice] = post.on_file()
    assert notice.content == first
    assert len(list(post.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("delivers", "retried", "last_day", "zh"),
    [
        (True, shanghai("2026-02-12", "23:59"), date(2026, 2, 24), "2026年2月24日 24:00"),
        (True, shanghai("2026-02-13", "00:00"), date(2026, 2, 25), "2026年2月25日 24:00"),
        (False, shanghai("2026-03-02"), date(2026, 3, 5), "2026年3月5日 24:00"),
    ],
)
def test_the_clock_starts_on_the_day_on_which_the_letter_was_served_at_last(
    post: Post, case_no: str, delivers: bool, retried: datetime, last_day: date, zh: str
) -> None:
    channel = Breaks(Outbox(post.folder), times=1, delivers=delivers)
    with pytest.raises(ConnectionError):
        post.serve(case_no, RECTIFY, channel=channel, working_days=3)
    served = post.serve(case_no, RECTIFY, retried, channel, working_days=3)
    [notice] = post.on_file()
    assert served.deadline
    assert served.deadline.last_day == notice.last_day == last_day
    assert (notice.served_at, served.notice_no) == (retried, f"{case_no}-N1")
    assert (post.folder / f"{case_no}-N1.eml").read_bytes() == notice.content
    states(post.letter(served), zh, last_day.isoformat())


def test_two_different_letters_never_bear_the_same_message_id(post: Post, case_no: str) -> None:
    channel = Breaks(Outbox(post.folder), times=1, delivers=True)
    with pytest.raises(ConnectionError):
        post.serve(case_no, RECTIFY, channel=channel, working_days=3)
    post.serve(case_no, RECTIFY, shanghai("2026-02-13"), channel, working_days=3)
    first, second = (message_from_bytes(letter)["Message-ID"] for letter in channel.delivered)
    assert first != second


def test_a_notice_that_cannot_be_delivered_starts_no_clock(post: Post, case_no: str) -> None:
    with pytest.raises(ConnectionError):
        post.serve(case_no, RECTIFY, channel=Breaks(Outbox(post.folder), 1, delivers=False), working_days=3)
    [notice] = post.on_file()
    assert notice.served_at is None
    assert len(post.told(case_no)) == 1
    with pytest.raises(ValueError, match="sets no limit that runs"):
        post.reckon(case_no)


def test_a_notice_served_on_the_spot_counts_from_the_time_of_its_case(post: Post, case_no: str) -> None:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True)
    order = ServeNotice(case_no=case_no, step="notice", at=OPENED, kind=RECTIFY, working_days=3)
    served = environment.run(post.notices().serve_notice, order)
    assert served.deadline
    assert (served.line.at, served.deadline.last_day) == (OPENED, date(2026, 2, 24))


@pytest.mark.parametrize(
    ("day", "works", "last_day", "told"),
    [
        ("2026-02-13", False, "2026-02-25", 1),  # a storm: the limit moves later
        ("2026-02-22", True, "2026-02-24", 0),  # a day made up: what was promised stays
        ("2026-03-02", False, "2026-02-24", 0),
    ],
)
def test_a_deadline_computed_anew_moves_later_or_not_at_all(
    post: Post, case_no: str, day: str, works: bool, last_day: str, told: int
) -> None:
    post.serve(case_no, RECTIFY, working_days=3)
    post.arrange(day, works)
    first, again = post.reckon(case_no), post.reckon(case_no)
    assert first.deadline == again.deadline
    assert first.deadline.last_day == post.on_file()[0].last_day == date.fromisoformat(last_day)
    assert len(post.told(case_no)) == 2 + told


def test_whoever_computes_a_deadline_anew_is_told_what_the_registry_knows_of_money_and_end(
    post: Post, steps: Steps, case_no: str
) -> None:
    post.serve(case_no, RECTIFY, working_days=3)
    steps.fine(case_no)
    steps.pay(case_no, "400", "B1")
    known = post.reckon(case_no)
    assert known.balance == Balance(fine=Decimal(1000), paid=Decimal(400))
    assert known.outcome is None
    steps.close(case_no, Stage.DISMISSED)
    assert post.reckon(case_no).outcome is Stage.DISMISSED


def test_a_limit_is_extended_by_working_days_once(post: Post, case_no: str) -> None:
    post.serve(case_no, RECTIFY, working_days=3)
    first, again = post.extend(case_no, 2), post.extend(case_no, 2)
    assert first == again
    assert first.deadline.last_day == date(2026, 2, 26)
    assert post.told(case_no)[-1] == (
        "Limit extended by 2 working days (洪水): limit ends 2026-02-26 24:00 (Asia/Shanghai)"
    )
    assert post.extend(case_no, 1, "extend-2").deadline.last_day == date(2026, 2, 27)
    assert post.reckon(case_no).deadline.last_day == date(2026, 2, 27)


def test_a_limit_extended_and_computed_anew_at_the_same_moment_is_extended(post: Post, case_no: str) -> None:
    post.serve(case_no, RECTIFY, working_days=3)
    post.arrange("2026-02-13", works=False)
    calls: list[Callable[[], DeadlineReckoned]] = [
        lambda: post.reckon(case_no),
        lambda: post.extend(case_no, 2),
    ]
    at_once(post.on_record, select(Notice), *calls)
    assert post.on_file()[0].last_day == date(2026, 2, 27)
