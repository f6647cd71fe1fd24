"""What the letters about deadlines, appeals and undone cases say in each situation (rulebook 4 and 5)."""

from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from activities.filings import Filings, MoveFiling, PrepareFilings, WithdrawFilings
from activities.fines import Fines, ReviewFine
from activities.letters import LANGUAGES, TEMPLATES
from activities.numbers import AsOf, Numbers
from activities.step import Serious
from activities.undoing import LiftHold, UndoCase, Undoing
from registry.models import Number
from registry.session import Sessions
from rulebook.deadlines import Deadline
from rulebook.vocabulary import FilingStatus, Kind, NoticeKind, Stage, written
from tests.activities.conftest import OPENED, Steps
from tests.activities.test_notices import HOSTILE, Post
from tests.world import a_report, an_agent, shanghai, wording

CAUSES = ("extended", "held", "resumed", "appeal", "calendar")
LIMIT = Deadline(last_day=shanghai("2026-03-20").date())
UNDONE = shanghai("2026-03-12")
FACTS = "登记客户为乙公司，实际由丙某使用"


@pytest.fixture
def post(on_record: Sessions, tmp_path: Path) -> Post:
    return Post(on_record, tmp_path)


@pytest.fixture
def held(on_record: Sessions) -> list[str]:
    """The numbers of an agent."""
    return sorted(
        an_agent(on_record, numbers=3, agent_id="A7", name="甲通信有限公司", email="a7@agent.example")
    )


@pytest.fixture
def case_no(steps: Steps, held: list[str]) -> str:
    return steps.open(a_report(held[0], facts=FACTS)).case_no


@pytest.fixture
def fraud_no(steps: Steps, held: list[str]) -> str:
    """A case of fraud that has frozen its number and suspended the account."""
    case_no = steps.open(held[0], kind=Kind.FRAUD).case_no
    steps.freeze(case_no)
    steps.suspend(case_no)
    steps.fine(case_no)
    return case_no


def says(post: Post, case_no: str, kind: NoticeKind, **said: Any) -> str:
    """The text of a letter that is served to the agent or customer."""
    return wording(post.letter(post.serve(case_no, kind, UNDONE, **said)))


def in_order(text: str, *parts: str) -> None:
    """The text says all of this, in this order."""
    place = 0
    for part in parts:
        assert part in text[place:], f"{part} is missing (here) in:\n{text}"
        place = text.index(part, place) + len(part)


def undo(on_record: Sessions, case_no: str, outcome: Stage = Stage.OVERTURNED) -> tuple[str, ...]:
    """Undo a case as its workflow does; returns the numbers that are lost."""
    who: dict[str, Any] = {"case_no": case_no, "at": UNDONE, "by": "赵军"}
    found = Undoing(on_record).undo_case(UndoCase(**who, step="undo", outcome=outcome, text="undone"))
    lost: tuple[str, ...] = ()
    for effect in found.effects:
        if effect.what == "hold":
            order = LiftHold(**who, step=f"undo-{effect.step}", of=effect.step)
            lost += Undoing(on_record).lift_hold(order).lost
        elif effect.what == "filings":
            Filings(on_record).withdraw_filings(WithdrawFilings(**who, step="undo-filings", reason="有误"))
        else:
            Steps(on_record).void(case_no)
    return lost


def undone(post: Post, case_no: str, outcome: Stage = Stage.OVERTURNED) -> str:
    """The letter that tells the agent that its case is undone."""
    lost = undo(post.on_record, case_no, outcome)
    return says(post, case_no, NoticeKind.UNDONE, outcome=outcome, reason="号码登记有误", lost=lost)


def test_every_kind_of_notice_has_its_letter_in_both_languages() -> None:
    written_for = {
        language: {file.name for file in TEMPLATES.glob(f"{language}/**/*.j2")} for language in LANGUAGES
    }
    wanted = {f"{kind}.txt.j2" for kind in NoticeKind}
    assert {language: wanted - there for language, there in written_for.items()} == {"zh": set(), "en": set()}


# 4.2 to 4.4: a deadline is restated


@pytest.mark.parametrize(
    ("cause", "title", "zh", "en"),
    [
        ("extended", "期限延长通知书", "经合规人员决定，延长期限（规定第4.4条）", "extended the limit (4.4)"),
        (
            "resumed",
            "期限恢复计算通知书",
            "自恢复之日的次日起继续计算（规定第4.4条）",
            "count from the day after (4.4)",
        ),
        ("calendar", "期限重新计算通知书", "工作日历有变", "computed anew (4.2)"),
    ],
)
def test_a_deadline_that_has_moved_is_restated_with_why_and_until_when(
    post: Post, case_no: str, cause: str, title: str, zh: str, en: str
) -> None:
    served = post.serve(case_no, NoticeKind.DEADLINE, cause=cause, limit=LIMIT, reason="台风停工")
    letter = post.letter(served)
    assert (letter["To"], letter["Subject"]) == ("a7@agent.example", f"{title} {case_no}-N1")
    in_order(
        wording(letter),
        "第4条",
        FACTS,
        zh,
        "说明：台风停工",
        "【现行整改期限】至 2026年3月20日 24:00 止（北京时间，Asia/Shanghai）",
        "如何申诉",
        en,
        "Note: 台风停工",
        "Limit to rectify: now until 2026-03-20 24:00 (Asia/Shanghai).",
        "How to appeal",
    )
    assert [said for said in ("暂定", "停止计算期间", "stands still") if said in wording(letter)] == []


def test_a_deadline_that_the_calendar_moves_is_promised_never_to_move_earlier(
    post: Post, case_no: str
) -> None:
    text = says(post, case_no, NoticeKind.DEADLINE, cause="calendar", limit=LIMIT)
    in_order(text, "只会顺延，不会提前（规定第4.3条）", "only moves later, never earlier (4.3)")
    assert [said for said in ("说明：", "Note:") if said in text] == []


@pytest.mark.parametrize(
    ("cause", "title", "zh", "en"),
    [
        ("held", "期限中止通知书", "经合规人员决定，停止计算期限（规定第4.4条）", "stopped the clock (4.4)"),
        (
            "appeal",
            "申诉受理及期限中止通知书",
            "在作出决定之前，停止计算期限",
            "Until then the clock stands still (4.4)",
        ),
    ],
)
def test_while_the_clock_stands_still_what_is_left_is_kept_and_no_day_is_named(
    post: Post, case_no: str, cause: str, title: str, zh: str, en: str
) -> None:
    letter = post.letter(post.serve(case_no, NoticeKind.DEADLINE, cause=cause))
    assert letter["Subject"] == f"{title} {case_no}-N1"
    in_order(
        wording(letter),
        zh,
        "【整改期限】现停止计算，剩余的工作日予以保留",
        "另行书面告知新的期限",
        en,
        "Limit to rectify: it stands still. The working days that are left are kept",
    )
    assert [said for said in ("24:00", "现行") if said in wording(letter)] == []


def test_an_appeal_is_acknowledged_and_goes_to_an_officer_who_had_no_part(post: Post, case_no: str) -> None:
    text = says(post, case_no, NoticeKind.DEADLINE, cause="appeal", reason="appeal A1 is pending")
    in_order(text, "申诉已收到，由未经办本案的合规人员审理", "第5.1条", "had no part in this case", "(5.1)")
    assert [said for said in ("如何申诉", "How to appeal", "pending") if said in text] == []


@pytest.mark.parametrize(
    ("kind", "fined", "zh", "en"),
    [
        (Kind.SECONDARY_SALE, False, "【现行整改期限】", "Limit to rectify"),
        (Kind.SECONDARY_SALE, True, "【现行缴款期限】", "Limit to pay"),
        (Kind.FRAUD, True, "【现行缴款期限】", "Limit to pay"),
        (Kind.SERVICE_FAILURE, False, "【现行服务期限】", "Limit to serve the customer"),
    ],
)
def test_a_restated_deadline_says_what_it_is_for(
    post: Post, steps: Steps, held: list[str], kind: Kind, fined: bool, zh: str, en: str
) -> None:
    case_no = steps.open(held[0], kind=kind).case_no
    if fined:
        steps.fine(case_no)
    in_order(says(post, case_no, NoticeKind.DEADLINE, cause="extended", limit=LIMIT), zh, en)


@pytest.mark.parametrize("kind", [NoticeKind.DEADLINE, NoticeKind.APPEAL_DECISION])
def test_a_provisional_deadline_is_marked_so(post: Post, case_no: str, kind: NoticeKind) -> None:
    provisional = LIMIT.model_copy(update={"provisional": True})
    text = says(post, case_no, kind, cause="extended", limit=provisional, reason="见附件")
    in_order(
        text, "为暂定期限", "只会顺延，不会提前", "2026-03-20 24:00", "provisional: it can only move later"
    )


# 5.1: an appeal that doesn't succeed


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_the_decision_that_a_case_stands_gives_reasons_and_the_deadline_that_runs_again(
    post: Post, case_no: str, limit: Deadline | None
) -> None:
    served = post.serve(
        case_no, NoticeKind.APPEAL_DECISION, upheld=True, reason="回拨仍由丙某接听", limit=limit
    )
    letter = post.letter(served)
    assert (letter["To"], letter["Subject"]) == ("a7@agent.example", f"申诉决定书 {case_no}-N1")
    in_order(
        wording(letter),
        "由未经办本案的合规人员审理",
        "第5.1条",
        FACTS,
        "【决定】申诉不成立，本案处理予以维持",
        "【理由】回拨仍由丙某接听",
        "如何申诉",
        "by an officer who had no part in the case",
        "clause 5.1",
        "the case stands",
        "Reasons: 回拨仍由丙某接听",
        "How to appeal",
    )
    runs_again = ("【整改期限】", "2026年3月20日 24:00", "Limit to rectify", "2026-03-20 24:00")
    assert [said in wording(letter) for said in runs_again] == [limit is not None] * 4


# 5.2: undone


def test_a_case_that_was_overturned_says_all_that_is_undone_and_apologizes(
    post: Post, steps: Steps, case_no: str, held: list[str]
) -> None:
    steps.fine(case_no)
    steps.pay(case_no, "400.10", "B1")
    steps.shut_down(case_no)
    steps.reclaim(case_no)
    text = undone(post, case_no)
    in_order(
        text,
        "申诉成立及处理撤销通知书",
        "甲通信有限公司",
        "未经办本案的合规人员审理，申诉成立",
        "第5.2条",
        "致以歉意",
        "【撤销理由】号码登记有误",
        "不计入违规次数（规定第5.5条）",
        "罚款人民币 1,000.00 元（大写：壹仟元整）作废",
        "应退还贵司人民币 400.10 元（大写：肆佰元壹角），将按原付款路径退回",
        "账户可正常使用",
        "下列号码退还贵司",
        *map(written, held),
        "无需再采取任何行动",
        "Appeal won, case undone",
        "clause 5.2",
        "We apologize",
        "Reasons: 号码登记有误",
        "does not count as an offence (5.5)",
        "The fine of CNY 1,000.00 is void",
        "CNY 400.10 is owed back to you",
        "you can use it as before",
        "These numbers are yours again",
        *map(written, held),
        "Nothing more is asked of you",
    )
    not_done = ("冻结", "代理资格恢复", "静置", "因案件", "备案", "freeze", "qualification", "substitute")
    assert [said for said in not_done if said in text] == []


def test_a_case_that_was_dismissed_before_it_did_anything_says_no_more_than_that(
    post: Post, case_no: str
) -> None:
    text = undone(post, case_no, Stage.DISMISSED)
    in_order(
        text,
        "案件撤销通知书",
        "经复核予以撤销",
        "【撤销理由】号码登记有误",
        "不计入违规次数",
        "is dismissed",
        "does not count as an offence",
    )
    not_done = (
        "申诉成立",
        "作废",
        "退还",
        "账户",
        "冻结",
        "公告",
        "void",
        "owed back",
        "account",
        "yours",
        "appeal",
    )
    assert [said for said in not_done if said in text.replace("代理商", "")] == []


@pytest.mark.parametrize("kept", ["suspended", "shut down", "closed"])
def test_an_account_that_another_case_keeps_is_said_to_be_kept_by_that_case(
    post: Post, steps: Steps, held: list[str], fraud_no: str, kept: str
) -> None:
    other = steps.open(held[1], kind=Kind.FRAUD).case_no
    steps.suspend(other)
    if kept == "shut down":
        steps.shut_down(other)
    if kept == "closed":
        steps.close_account(other)
    text = undone(post, fraud_no)
    state = {"suspended": "暂停", "shut down": "关停", "closed": "永久关闭"}[kept]
    in_order(text, f"因案件 {other}，账户仍为{state}状态", f"it stays {kept} by case {other}")
    assert [said for said in ("账户可正常使用", "as before") if said in text] == []


def test_a_freeze_is_said_to_be_lifted(post: Post, fraud_no: str, held: list[str]) -> None:
    text = undone(post, fraud_no)
    in_order(
        text,
        f"号码 {written(held[0])} 的冻结解除。",
        f"The freeze of {written(held[0])} by this case is lifted.",
    )


def test_a_number_that_another_case_keeps_frozen_is_said_to_stay_so(
    post: Post, steps: Steps, fraud_no: str, held: list[str]
) -> None:
    steps.settle(fraud_no)
    again = steps.open(held[0], kind=Kind.FRAUD).case_no
    steps.freeze(again)
    text = undone(post, again)
    in_order(text, f"因案件 {fraud_no}，该号码仍予冻结", f"it stays frozen by case {fraud_no}")


def test_a_number_that_is_returned_while_another_case_keeps_it_frozen_is_said_to_be_both(
    post: Post, steps: Steps, held: list[str], fraud_no: str
) -> None:
    other = steps.open(held[1]).case_no
    steps.reclaim(other)
    text = undone(post, other)
    in_order(
        text,
        "下列号码退还贵司",
        f"{written(held[0])}（因案件 {fraud_no} 仍予冻结）",
        f"{written(held[1])}\n",
        "These numbers are yours again",
        f"{written(held[0])} (stays frozen by case {fraud_no})",
        f"{written(held[1])}\n",
    )


def test_numbers_that_have_left_quarantine_are_said_to_be_lost_and_a_substitute_is_offered(
    post: Post, steps: Steps, case_no: str, held: list[str]
) -> None:
    steps.reclaim(case_no)
    with post.on_record.begin() as session:
        gone = session.get_one(Number, held[2])
        gone.quarantined_until = UNDONE.date().replace(day=1)
    Numbers(post.on_record).end_quarantines(AsOf(at=UNDONE))
    text = undone(post, case_no)
    in_order(
        text,
        "下列号码退还贵司",
        written(held[0]),
        written(held[1]),
        "不再为贵司保留，无法退还；我部将提供替代号码",
        written(held[2]),
        "These numbers are yours again",
        written(held[0]),
        written(held[1]),
        "can't be returned. We will offer you a substitute",
        written(held[2]),
    )


def test_numbers_that_another_case_has_taken_too_are_said_to_stay_with_the_platform(
    post: Post, steps: Steps, case_no: str, held: list[str]
) -> None:
    other = steps.open(held[1]).case_no
    for case in (case_no, other):
        steps.shut_down(case)
        steps.reclaim(case)
    text = undone(post, case_no)
    in_order(
        text,
        "因他案仍由平台持有",
        f"{written(held[0])}（案件 {other}）",
        f"{written(held[2])}（案件 {other}）",
        "the platform keeps them by another one",
        f"{written(held[0])} (case {other})",
    )
    assert [said for said in ("退还贵司", "yours again") if said in text] == []


def _closed_for_good(post: Post, steps: Steps, case_no: str, said: str = "受害人众多") -> None:
    """Close the account in a case, and bring all its filings but one to their recipients."""
    steps.close_account(case_no)
    steps.reclaim(case_no)
    who: dict[str, Any] = {"case_no": case_no, "at": OPENED, "by": "王芳"}
    serious = Serious(reasons=said, proposed_by="李敏", approved_by="王芳")
    filings = Filings(post.on_record)
    *sent, waived = filings.prepare_filings(PrepareFilings(**who, step="filings", serious=serious)).filings
    for filing, status in [(f, FilingStatus.SUBMITTED) for f in sent] + [(waived, FilingStatus.WAIVED)]:
        filings.move_filing(
            MoveFiling(**who, step=filing.filing_no, filing_no=filing.filing_no, status=status, reason="x")
        )


def test_what_was_filed_is_said_to_be_taken_back_and_the_announcement_corrected(
    post: Post, steps: Steps, fraud_no: str
) -> None:
    _closed_for_good(post, steps, fraud_no)
    text = undone(post, fraud_no)
    in_order(
        text,
        "账户可正常使用",
        "贵司代理资格恢复",
        "中国电信：致函撤回",
        "工业和信息化部：致函撤回",
        "社会公告：发布更正公告",
        "you can use it as before",
        "Your agency qualification is restored",
        "中国电信: asked in writing to cancel it",
        "MIIT: asked in writing to cancel it",
        "Public announcement: a correction is published",
    )
    assert [said for said in ("公安", "security") if said in text] == []
    assert [text.count(said) for said in ("材料撤回", "is taken back")] == [1, 1]


def test_what_was_never_filed_is_said_to_be_withdrawn(post: Post, steps: Steps, fraud_no: str) -> None:
    serious = Serious(reasons="受害人众多", proposed_by="李敏", approved_by="王芳")
    order = PrepareFilings(case_no=fraud_no, step="filings", at=OPENED, serious=serious)
    Filings(post.on_record).prepare_filings(order)
    text = undone(post, fraud_no)
    in_order(text, "中国电信：已撤回", "社会公告：已撤回", "MIIT: withdrawn", "announcement: withdrawn")
    assert [said for said in ("更正", "correction") if said in text] == []


def test_the_customer_is_told_that_its_agent_serves_it_again(
    post: Post, steps: Steps, held: list[str]
) -> None:
    case_no = steps.open(held[0], kind=Kind.SERVICE_FAILURE).case_no
    steps.take_back(case_no)
    to_agent = undone(post, case_no)
    served = post.serve(case_no, NoticeKind.UNDONE_CUSTOMER, UNDONE, outcome=Stage.OVERTURNED)
    letter = post.letter(served)
    assert letter["To"] == f"office@{held[0]}.example"
    assert letter["Subject"] == f"服务恢复告知书 {case_no}-N2"
    number = written(held[0])
    in_order(to_agent, "下列号码退还贵司", number, "These numbers are yours again", number)
    in_order(
        wording(letter),
        f"致：乙{held[0]}商贸有限公司",
        "第5.2条",
        "致以歉意",
        number,
        "自 2026年3月12日 起，恢复由代理商 甲通信有限公司 为贵司提供服务",
        "号码不变，使用不受影响",
        "续费由该代理商负责办理",
        "下次续费日：2038年12月1日",
        f"To: 乙{held[0]}商贸有限公司",
        number,
        "As of 12 March 2026 the agent 甲通信有限公司 serves you again",
        "The number stays the same, and so does its use.",
        "the agent handles its renewals. Next renewal date: 1 December 2038",
    )
    private = ("王芳", "代理商编号", "申诉", "appeal", "号码登记有误")
    assert [said for said in private if said in wording(letter)] == []


# 5.5: a fine that an undone case had raised


@pytest.fixture
def raised(steps: Steps, held: list[str], case_no: str) -> str:
    """A case whose fine counted an earlier one that was undone since."""
    steps.settle(case_no)
    second = steps.open(held[1]).case_no
    steps.fine(second)
    undo(steps.on_record, case_no)
    return second


@pytest.mark.parametrize(
    ("paid", "zh", "en"),
    [
        (
            "0.10",
            "已缴 0.10 元，尚应缴纳 999.90 元（大写：玖佰玖拾玖元玖角）；此前告知的缴款期限不变",
            "still due: CNY 999.90, within the limit that you were told",
        ),
        ("1000", "已缴 1,000.00 元，罚款已缴清。\n", "Paid: CNY 1,000.00, so the fine is settled.\n"),
        ("2000", "应退还贵司人民币 1,000.00 元（大写：壹仟元整）", "CNY 1,000.00 is owed back to you"),
    ],
)
def test_a_lowered_fine_says_why_what_it_is_now_and_what_is_due_or_owed_back(
    post: Post, steps: Steps, case_no: str, raised: str, paid: str, zh: str, en: str
) -> None:
    steps.pay(raised, paid, "B2")
    review = {"case_no": raised, "step": "review", "at": UNDONE, "because_of": case_no, "reason": "前案撤销"}
    Fines(post.on_record).review_fine(ReviewFine(**review, lower=True))
    text = says(post, raised, NoticeKind.FINE_LOWERED, because_of=case_no, reason="前案撤销")
    in_order(
        text,
        "罚款减少通知书",
        f"曾将案件 {case_no} 计入违规次数",
        "第5.5条",
        "罚款减少为人民币 1,000.00 元（大写：壹仟元整）。此为贵司第 1 次违反本条规定",
        "【变更理由】前案撤销",
        zh,
        "如何申诉",
        f"counted case {case_no}",
        "clause 5.5",
        "lowered to CNY 1,000.00, your offence no. 1",
        "Reasons: 前案撤销",
        en,
        "How to appeal",
    )
    how_to_pay = (f"附言注明案件编号 {raised}", "How to pay", "尚应缴纳", "still due")
    assert [said in text for said in how_to_pay] == [paid == "0.10"] * 4


def test_a_lowered_fine_of_a_case_that_has_ended_names_no_limit(
    post: Post, steps: Steps, case_no: str, raised: str
) -> None:
    steps.close(raised, Stage.SHUT_DOWN)
    text = says(post, raised, NoticeKind.FINE_LOWERED, because_of=case_no, reason="前案撤销")
    assert "How to pay" in text
    assert [said for said in ("期限不变", "within the limit") if said in text] == []


# Text from outside

_LETTERS = [
    *((NoticeKind.DEADLINE, cause) for cause in CAUSES),
    (NoticeKind.APPEAL_DECISION, ""),
    (NoticeKind.UNDONE, "dismissed"),
    (NoticeKind.UNDONE, "overturned"),
    (NoticeKind.UNDONE_CUSTOMER, ""),
    (NoticeKind.FINE_LOWERED, ""),
]


@pytest.mark.parametrize(("kind", "cause"), _LETTERS)
def test_nothing_that_comes_from_outside_forges_a_header_or_a_line(
    post: Post, steps: Steps, kind: NoticeKind, cause: str
) -> None:
    harmless = _everywhere("甲公司", kind, cause, post, steps)
    for hostile in HOSTILE:
        forged = _everywhere(hostile, kind, cause, post, steps)
        assert forged.keys() == harmless.keys(), hostile
        lines = _lines(forged)
        assert len(lines) == len(_lines(harmless)), hostile
        assert [line for line in lines if not line.isprintable()] == [], hostile


def _lines(letter: Any) -> list[str]:
    text = wording(letter)
    return text.replace("\r\n", "\n").split("\n")


def _everywhere(said: str, kind: NoticeKind, cause: str, post: Post, steps: Steps) -> Any:
    """A letter in which all that comes from outside says the same."""
    [number, _] = an_agent(post.on_record, numbers=2, name=said, contact=said)
    with post.on_record.begin() as session:
        held = session.get_one(Number, number)
        held.customer = held.certificate = held.operator = said
    violation = Kind.SERVICE_FAILURE if kind is NoticeKind.UNDONE_CUSTOMER else Kind.FRAUD
    case_no = steps.open(a_report(number, kind=violation, facts=said)).case_no
    if violation is Kind.FRAUD:
        steps.freeze(case_no)
        steps.suspend(case_no)
        steps.fine(case_no)
    if kind is NoticeKind.UNDONE:
        _closed_for_good(post, steps, case_no, said)
        undo(post.on_record, case_no)
    served = post.serve(
        case_no,
        kind,
        cause=cause,
        outcome=Stage(cause) if kind is NoticeKind.UNDONE else None,
        reason=said,
        because_of=said,
        limit=LIMIT,
        lost=(number,),
    )
    return message_from_bytes((post.folder / f"{served.notice_no}.eml").read_bytes(), policy=policy.default)
