"""Rulebook 1.6: what is filed in serious circumstances, with whom, what it says, and what becomes of it."""

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from sqlalchemy import select

from activities.cases import Cases, JoinReport
from activities.filings import FilingMoved, Filings, FilingsPrepared, MoveFiling, PrepareFilings
from activities.step import Refused, Serious
from registry.models import Agent, Filing, Notice, Number, ReportRow
from registry.session import Sessions
from rulebook.vocabulary import LEGAL_MOVES, FilingKind, FilingStatus, Kind, NoticeKind, written
from tests.activities.conftest import OPENED, Steps
from tests.world import a_report, an_agent, shanghai

AT = shanghai("2026-03-10")
SERIOUS = Serious(
    reasons="受害人众多，涉案金额特别巨大",
    evidence=("公安立案决定书 0001", "银行流水"),
    proposed_by="李敏",
    approved_by="王芳",
)
OPERATORS = ["中国电信", "中国移动", "中国联通"]
TO_ALL = [*OPERATORS, "工业和信息化部", "社会公告", "公安机关"]


@dataclass(frozen=True)
class Registry:
    """Filings on record."""

    on_record: Sessions

    def prepare(self, case_no: str, serious: Serious = SERIOUS) -> FilingsPrepared:
        order = PrepareFilings(case_no=case_no, step="filings", at=AT, by="王芳", serious=serious)
        return Filings(self.on_record).prepare_filings(order)

    def move(self, filing_no: str, status: FilingStatus, **said: Any) -> FilingMoved:
        described = {
            "case_no": filing_no.rpartition("-")[0],
            "step": f"{filing_no}-{status}",
            "at": AT,
            "by": "李敏",
        }
        order = MoveFiling.model_validate(described | {"filing_no": filing_no, "status": status} | said)
        return Filings(self.on_record).move_filing(order)

    def to(self, recipient: str) -> Filing:
        with self.on_record() as session:
            return session.execute(select(Filing).where(Filing.recipient == recipient)).scalar_one()


@pytest.fixture
def registry(on_record: Sessions) -> Registry:
    return Registry(on_record)


@pytest.fixture
def held(on_record: Sessions) -> list[str]:
    """The numbers of an agent: two of China Telecom, one each of China Mobile and China Unicom."""
    held = sorted(an_agent(on_record, numbers=4, agent_id="A7", name="甲通信有限公司"))
    with on_record.begin() as session:
        for number, operator in zip(held, ["中国电信", "中国电信", "中国移动", "中国联通"], strict=True):
            session.get_one(Number, number).operator = operator
    return held


@pytest.fixture
def case_no(steps: Steps, held: list[str]) -> str:
    """A case of fraud on two reports, fined and partly paid."""
    report = a_report(held[0], kind=Kind.FRAUD, report_id="R-1", facts="冒充客服骗取验证码")
    case_no = steps.open(report).case_no
    further = a_report(held[0], kind=Kind.FRAUD, report_id="R-2", source="公安", facts="诱导转账")
    Cases(steps.on_record).join_report(JoinReport(case_no=case_no, step="r", at=OPENED, report=further))
    steps.fine(case_no)
    steps.pay(case_no, "0.01", "B1")
    return case_no


@pytest.fixture
def notice(on_record: Sessions, case_no: str) -> Notice:
    """The punishment notice of the case, served, and a draft that never was."""
    described = {"case_no": case_no, "recipient": "a7@agent.example", "content": b"", "drafted_at": OPENED}
    served = Notice(
        **described,
        notice_no=f"{case_no}-N1",
        step="notice-punishment",
        kind=NoticeKind.PUNISHMENT,
        sha256="1" * 64,
        served_at=OPENED,
    )
    draft = Notice(
        **described, notice_no=f"{case_no}-N2", step="draft", kind=NoticeKind.CLOSING, sha256="2" * 64
    )
    with on_record.begin() as session:
        session.add_all([served, draft])
    return served


def states(document: str, *parts: str) -> None:
    """The document states all of this, in this order."""
    place = 0
    for part in parts:
        assert part in document[place:], f"{part} is missing (here) in:\n{document}"
        place = document.index(part, place) + len(part)


def test_there_is_one_filing_for_each_operator_for_miit_the_public_and_the_police(
    on_record: Sessions, registry: Registry, case_no: str
) -> None:
    an_agent(on_record)
    prepared = registry.prepare(case_no)
    assert [filing.recipient for filing in prepared.filings] == TO_ALL
    assert [filing.kind for filing in prepared.filings] == [
        *[FilingKind.OPERATOR] * 3,
        FilingKind.MIIT,
        FilingKind.ANNOUNCEMENT,
        FilingKind.PUBLIC_SECURITY,
    ]
    assert [filing.filing_no for filing in prepared.filings] == [f"{case_no}-F{n}" for n in range(1, 7)]
    assert {filing.status for filing in prepared.filings} == {FilingStatus.PREPARED}
    assert prepared.line.text == f"6 filings prepared: {', '.join(TO_ALL)}"


def test_filings_are_prepared_once_however_often_it_is_tried(
    on_record: Sessions, registry: Registry, case_no: str
) -> None:
    first = registry.prepare(case_no)
    registry.move(first.filings[0].filing_no, FilingStatus.SUBMITTED)
    assert registry.prepare(case_no) == first
    with on_record() as session:
        assert len(session.scalars(select(Filing)).all()) == 6


def test_what_was_taken_back_before_is_filed_too(
    registry: Registry, steps: Steps, held: list[str], case_no: str
) -> None:
    steps.take_back(steps.open(held[3], kind=Kind.SERVICE_FAILURE).case_no)
    steps.reclaim(case_no)
    registry.prepare(case_no)
    assert registry.to("中国联通").attachment["numbers"] == [held[3]]
    assert registry.to("工业和信息化部").attachment["numbers"] == held


def test_an_operator_is_told_of_the_agent_and_of_its_own_numbers_only(
    registry: Registry, held: list[str], case_no: str
) -> None:
    registry.prepare(case_no)
    filing = registry.to("中国电信")
    states(
        filing.document,
        "备案函",
        f"文书编号：{case_no}-F1",
        f"案件编号：{case_no}",
        "2026年3月10日",
        "致：中国电信",
        "2017年2月16日公布",
        "第1.6条",
        "甲通信有限公司（代理商编号 A7）",
        "【立案日期】2026年2月12日",
        "永久关闭该代理商账户",
        "取消其代理资格",
        "罚款人民币 30,000.00 元",
        "共 2 个",
        f"1. {written(held[0])}，实名登记客户：乙{held[0]}商贸有限公司（实名凭证 91310000MA1FL0000X）",
        f"2. {written(held[1])}，",
    )
    assert filing.attachment["numbers"] == held[:2]
    assert written(held[2]) not in filing.document


def test_miit_is_told_of_the_facts_the_finding_and_every_number(
    registry: Registry, held: list[str], case_no: str
) -> None:
    registry.prepare(case_no)
    filing = registry.to("工业和信息化部")
    states(
        filing.document,
        "备案报告",
        "致：工业和信息化部",
        "第1.6条",
        "甲通信有限公司（代理商编号 A7）",
        f"【涉案号码】{written(held[0])}",
        "1. 冒充客服骗取验证码（证据编号 monitor/R-1）",
        "2. 诱导转账（证据编号 公安/R-2）",
        "【情节严重的认定理由】受害人众多，涉案金额特别巨大",
        "罚款人民币 30,000.00 元，已缴 0.01 元，尚欠 29,999.99 元",
        "共 4 个",
        f"1. {written(held[0])}（中国电信），实名登记客户：乙{held[0]}商贸有限公司",
        "实名凭证 91310000MA1FL0000X",
        f"4. {written(held[3])}（中国联通）",
    )


def test_the_police_get_every_piece_of_evidence_and_every_notice_that_was_served_with_its_sum(
    registry: Registry, held: list[str], case_no: str, notice: Notice
) -> None:
    registry.prepare(case_no)
    filing = registry.to("公安机关")
    first, second = filing.attachment["evidence"]
    states(
        filing.document,
        "证据材料",
        "致：公安机关",
        "甲通信有限公司（代理商编号 A7）",
        f"【涉案号码】{written(held[0])}",
        "受害人众多，涉案金额特别巨大",
        "1. 公安立案决定书 0001",
        "2. 银行流水",
        "【认定人】李敏",
        "【批准人】王芳",
        "共 4 个",
        f"4. {written(held[3])}（中国联通）",
        "共 2 项",
        "1. 证据编号 monitor/R-1：冒充客服骗取验证码",
        f"SHA-256：{first['sha256']}",
        "2. 证据编号 公安/R-2：诱导转账",
        f"SHA-256：{second['sha256']}",
        "共 1 份",
        f"1. {notice.notice_no} 处罚通知书 送达日期 2026年2月12日",
        f"SHA-256：{notice.sha256}",
        "尚欠 29,999.99 元",
    )


def test_the_announcement_names_the_agent_and_what_was_decided_and_nobody_else(
    on_record: Sessions, registry: Registry, held: list[str], case_no: str
) -> None:
    registry.prepare(case_no)
    document = registry.to("社会公告").document
    states(
        document,
        "公告",
        "2026年3月10日",
        "代理商 甲通信有限公司 名下号码涉嫌诈骗，情节严重",
        "第1.6条",
        "永久关闭该代理商账户",
        "取消其代理资格",
        "收回其名下全部号码",
        "罚款人民币 30,000.00 元",
    )
    with on_record() as session:
        rows = session.scalars(select(Number)).all()
        contact = session.get_one(Agent, "A7").contact
    private = {"李敏", "王芳", contact, "monitor", "公安/", "验证码", "转账", SERIOUS.reasons, "monitor/R-1"}
    private |= {said for row in rows for said in (row.customer, row.certificate, row.number)}
    private |= {written(number) for number in held}
    assert {said for said in private if said in document} == set()


def _sum_of(content: Any) -> str:
    exact = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(exact.encode()).hexdigest()


def test_every_sum_in_an_attachment_can_be_computed_again_from_the_record(
    on_record: Sessions, registry: Registry, case_no: str, notice: Notice
) -> None:
    prepared = registry.prepare(case_no)
    with on_record() as session:
        filings = session.scalars(select(Filing).order_by(Filing.filing_no)).all()
        reports = session.scalars(select(ReportRow).order_by(ReportRow.id)).all()
    for filing, shown in zip(filings, prepared.filings, strict=True):
        attachment = filing.attachment
        assert _sum_of(attachment) == filing.sha256 == shown.sha256
        assert attachment["document_sha256"] == hashlib.sha256(filing.document.encode()).hexdigest()
        assert [one["sha256"] for one in attachment["evidence"]] == [_sum_of(row.payload) for row in reports]
        assert attachment["notices"] == [{"notice_no": notice.notice_no, "sha256": notice.sha256}]
        assert (attachment["case_no"], attachment["agent_id"]) == (case_no, "A7")
        assert Serious.model_validate(attachment["serious"]) == SERIOUS


HOSTILE = [
    "甲公司\r\n\r\n【处理决定】\n  1. 不予处理。",
    "甲\u2028乙\u2029丙\x85丁\x0b戊\x0c己\x1e庚\u202e辛\x1b[2J",
    "{{ 7*7 }}{% for x in range(9) %}{{ case.agent.email }}{% endfor %}{#",
]


def test_nothing_that_comes_from_outside_forges_a_line_of_a_document(
    on_record: Sessions, registry: Registry, steps: Steps
) -> None:
    harmless = _everywhere("甲公司", on_record, registry, steps)
    for hostile in HOSTILE:
        forged = _everywhere(hostile, on_record, registry, steps)
        assert [len(document.split("\n")) for document in forged] == [
            len(document.split("\n")) for document in harmless
        ], hostile
        assert [line for document in forged for line in document.split("\n") if not line.isprintable()] == []


def _everywhere(said: str, on_record: Sessions, registry: Registry, steps: Steps) -> list[str]:
    """The documents of a case in which all that comes from outside says the same."""
    [number] = an_agent(on_record, name=said, contact=said)
    with on_record.begin() as session:
        held = session.get_one(Number, number)
        held.customer = held.certificate = held.operator = said
    case_no = steps.open(a_report(number, kind=Kind.FRAUD, facts=said)).case_no
    registry.prepare(
        case_no, Serious(reasons=said, evidence=(said, said), proposed_by=said, approved_by=said)
    )
    with on_record() as session:
        filings = select(Filing.document).where(Filing.case_no == case_no).order_by(Filing.filing_no)
        return list(session.scalars(filings))


def test_a_filing_moves_only_as_the_rulebook_allows(
    on_record: Sessions, registry: Registry, case_no: str
) -> None:
    moves = {f"{case_no}-F{n}": move for n, move in enumerate(product(FilingStatus, FilingStatus))}
    with on_record.begin() as session:
        for filing_no, (before, _) in moves.items():
            session.add(
                Filing(
                    filing_no=filing_no,
                    case_no=case_no,
                    kind=FilingKind.OPERATOR,
                    recipient=filing_no,
                    status=before,
                    document="",
                    attachment={},
                    sha256="0" * 64,
                    since=OPENED,
                )
            )
    allowed = set()
    for filing_no, (before, after) in moves.items():
        try:
            moved = registry.move(filing_no, after).filing.status
        except Refused as why:
            assert why.message == f"filing {filing_no} is {before}: it can't become {after}"
        else:
            assert moved is registry.to(filing_no).status is after
            allowed.add((before, after))
    assert allowed == LEGAL_MOVES[FilingStatus]


def test_a_filing_that_was_refused_says_why_until_it_is_submitted_again(
    registry: Registry, case_no: str
) -> None:
    filing_no = registry.prepare(case_no).filings[0].filing_no
    registry.move(filing_no, FilingStatus.SUBMITTED)
    refused = registry.move(filing_no, FilingStatus.REFUSED, reason="附件不全")
    assert refused.line.text == f"Filing {filing_no} to 中国电信 refused (附件不全)"
    assert (refused.line.by, refused.filing.reason) == ("李敏", "附件不全")
    assert registry.to("中国电信").reason == "附件不全"
    registry.move(filing_no, FilingStatus.SUBMITTED, step="again")
    filing = registry.to("中国电信")
    assert (filing.status, filing.reason, filing.since) == (FilingStatus.SUBMITTED, None, AT)


def test_a_move_that_runs_twice_answers_what_it_answered_first(registry: Registry, case_no: str) -> None:
    filing_no = registry.prepare(case_no).filings[0].filing_no
    first = registry.move(filing_no, FilingStatus.SUBMITTED)
    registry.move(filing_no, FilingStatus.ACKNOWLEDGED)
    assert registry.move(filing_no, FilingStatus.SUBMITTED) == first
    assert registry.to("中国电信").status is FilingStatus.ACKNOWLEDGED


def test_a_case_moves_no_filing_but_its_own(
    on_record: Sessions, registry: Registry, steps: Steps, case_no: str
) -> None:
    [number] = an_agent(on_record)
    other = steps.open(number, kind=Kind.FRAUD).case_no
    filing_no = registry.prepare(case_no).filings[0].filing_no
    with pytest.raises(Refused, match=f"case {other} has no filing {filing_no}"):
        registry.move(filing_no, FilingStatus.SUBMITTED, case_no=other)
    with pytest.raises(Refused, match=f"case {case_no} has no filing {case_no}-F99"):
        registry.move(f"{case_no}-F99", FilingStatus.SUBMITTED)
    assert registry.to("中国电信").status is FilingStatus.PREPARED
