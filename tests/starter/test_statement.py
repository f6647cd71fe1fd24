"""A bank statement: every line has one outcome, and every fen is accounted for."""

import asyncio
import csv
import io
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sqlalchemy import select

from registry.models import Account, Case, Fine, Number, Payment
from registry.session import Sessions, snapshot
from rulebook.money import ZERO
from rulebook.vocabulary import FineStatus, Kind, Stage, written
from starter.matching import Counted, Known, Outcome, Record, match, on_record, totals
from starter.settings import Refused
from starter.statement import Line, read
from tests.starter.conftest import Enforce
from tests.starter.screen import CTRL_C, Officer
from tests.world import World, a_report, an_agent, shanghai

HEADINGS = "交易日期,流水号,对方户名,金额,摘要\n"


def the_line(cells: str, headings: str = HEADINGS) -> Line:
    [line] = read(headings + cells + "\n").lines
    return line


# Reading


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
async def test_a_statement_may_come_as_utf_8_or_gbk(enforce: Enforce, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "s.csv").write_bytes((HEADINGS + "2038-01-05,R1,甲通信有限公司,5,罚款\n").encode(encoding))
    told = await enforce("paid", "--from", "s.csv", "--dry-run", "--json")
    assert told.json["lines"][0]["payer"] == "甲通信有限公司", told.err


@pytest.mark.parametrize(
    "headings",
    [
        "交易时间,凭证号,付款人,贷方发生额,附言\n",
        "交易日期,交易流水号,付款方户名,收入金额（元）,备注\n",
        "Date,Reference,Payer,Amount,Remark\n",
        " 交易日期 , 流水号 ,对方户名,贷方金额(元),用途\n",
        "账号：6222 0000,,,,\n起止日期,2038-01-01,2038-01-31,,\n" + HEADINGS,
    ],
)
def test_the_columns_are_told_by_their_headings(headings: str) -> None:
    line = the_line("2038-01-05,R1,甲公司,1000,罚款", headings)
    assert (line.date, line.reference, line.payer, line.amount, line.remark) == (
        *("2038-01-05", "R1", "甲公司"),
        *(Decimal("1000.00"), "罚款"),
    )


def test_a_line_is_named_by_where_it_begins_in_the_file() -> None:
    text = '企业账户明细\n\n交易日期,流水号,金额,摘要\n"a\nb",R1,1,x\n,,,\nc,R2,2,y\n'
    assert [(line.line, line.reference) for line in read(text).lines] == [(4, "R1"), (7, "R2")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no line has the headings of a bank statement"),
        ("日期,说明\n1,2\n", "no line has the headings of a bank statement"),
        ("流水号,金额,贷方金额\nR,1,1\n", "which column has the amount, 金额 and 贷方金额?"),
        ('流水号,金额\nR,"1\n', "line 2: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_statement_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        read(text)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("cell", "amount"),
    [
        ("1000", "1000.00"),
        ('"1,000.00"', "1000.00"),
        ("￥1000", "1000.00"),
        ("¥ 599.9", "599.90"),
        ("１０００．５０", "1000.50"),
        ("1000元", "1000.00"),
        ('="0.01"', "0.01"),
        ("'7", "7.00"),
        ("-5", "-5.00"),
        ("−5.00", "-5.00"),
    ],
)
def test_an_amount_is_understood_as_banks_write_it(cell: str, amount: str) -> None:
    line = the_line(f"2038-01-05,R1,甲公司,{cell},罚款")
    assert (str(line.amount), line.fault) == (amount, "")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1000.001", "no more than 2 decimal places"),
        ("0.00", "greater than 0"),
        ("", "is not given"),
        ("--", "is not given"),
        ("一千", "'一千' is not a number"),
        ("1e3", "'1e3' is not a number"),
        ('"1,00"', "'1,00' is not a number"),
        ("(500.00)", "'(500.00)' is not a number"),
        ("NaN", "'NaN' is not a number"),
        ("99999999999", "no more than 10 digits"),
    ],
)
def test_an_amount_that_is_not_money_to_the_fen_makes_a_malformed_line(cell: str, why: str) -> None:
    [one] = match([the_line(f"2038-01-05,R1,甲公司,{cell},SS-2026-00042")], A_CASE)
    assert (one.outcome, one.line.line) == (Outcome.MALFORMED, 2)
    assert why in one.reason


def test_a_reference_that_a_spreadsheet_has_rounded_is_malformed() -> None:
    [one] = match([the_line("2038-01-05,2.03801E+17,甲公司,5,SS-2026-00042")], A_CASE)
    assert (one.outcome, "has rounded it" in one.reason) == (Outcome.MALFORMED, True)


@pytest.mark.parametrize(
    "cell",
    [
        *("2026-11-20", "2026/11/20", "2026.11.20", "20261120", "2026年11月20日", "２０２６－１１－２０"),
        *("2026-11-20 10:15:09", "2026/11/20 9:05", "20261120 101509", "20261120101509"),
        *("2026-11-20T10:15:09.123", "2026年11月20日 10时15分09秒", '="2026-11-20"', "2026–11–20"),
    ],
)
def test_the_day_on_which_the_bank_had_it_is_understood_as_banks_write_it(cell: str) -> None:
    line = the_line(f"{cell},R1,甲公司,5,罚款")
    assert (line.on, line.fault) == (date(2026, 11, 20), "")


@pytest.mark.parametrize(
    "headings",
    [
        *("交易日期,交易时间", "交易时间,交易日期", "交易日,记账日期", "记账日期,说明", "日期,交易时间"),
        *("交易日期[ Transaction Date ],x", "Posting Date,x", "入账日期,起息日"),
    ],
)
def test_the_day_is_told_by_its_heading(headings: str) -> None:
    first = not headings.startswith("交易时间")
    cells = "2026-11-20,10:15:09" if first else "10:15:09,2026-11-20"
    assert the_line(f"{cells},R1,5", f"{headings},流水号,金额\n").on == date(2026, 11, 20)


@pytest.mark.parametrize("headings", ["流水号,金额", "交易日期,流水号,金额"])
def test_a_payment_without_a_day_is_one_of_the_day_on_which_it_is_recorded(headings: str) -> None:
    line = the_line("R1,5" if headings.startswith("流水号") else ",R1,5", f"{headings}\n")
    assert (line.on, line.fault) == (None, "")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("20/11/2026", "'20/11/2026' is no day: 2026-11-20 would be one"),
        ("11-20", "'11-20' is no day"),
        ("46346", "'46346' is no day"),
        ("昨日", "'昨日' is no day"),
        ("2026-11-20 下午", "is no day"),
        ("202611201", "is no day"),
        ("2026-02-30", "'2026-02-30' is no day of the calendar"),
        ("0000-01-01", "is no day of the calendar"),
    ],
)
def test_a_day_that_can_not_be_read_makes_a_malformed_line(cell: str, why: str) -> None:
    [one] = match([the_line(f"{cell},R1,甲公司,5,SS-2026-00042")], A_CASE)
    assert one.outcome is Outcome.MALFORMED
    assert one.reason.startswith("date: ")
    assert why in one.reason


@pytest.mark.parametrize(
    ("headings", "cells", "outcome"),
    [
        ("流水号,金额", "R1,-1000", Outcome.OUTGOING),
        ("流水号,贷方金额,借方金额", "R1,,1000", Outcome.OUTGOING),
        ("流水号,贷方发生额,借方发生额", "R1,0.00,1000.00", Outcome.OUTGOING),
        ("流水号,收入金额,支出", "R1,-5,", Outcome.OUTGOING),
        ("流水号,借贷标志,金额", "R1,借,1000", Outcome.OUTGOING),
        ("流水号,借贷标志,金额", "R1,贷,1000", Outcome.UNMATCHED),
        ("流水号,贷方发生额,借方发生额", "R1,1000.00,0.00", Outcome.UNMATCHED),
        ("流水号,贷方金额,借方金额", "R1,5,5", Outcome.MALFORMED),
        ("流水号,借贷标志,金额", "R1,冲正,1000", Outcome.MALFORMED),
    ],
)
def test_money_that_goes_out_is_listed_as_such(headings: str, cells: str, outcome: Outcome) -> None:
    [one] = match([the_line(cells, f"{headings}\n")], Record())
    assert one.outcome is outcome


# Matching


def a_case(case_no: str = "SS-2026-00042", due: str = "1000", **said: Any) -> Known:
    described = {"agent_id": "A1", "number": "4008001234"} | said
    return Known(case_no=case_no, due=Decimal(due), **described)


def on_file(*cases: Known, **said: Any) -> Record:
    described = {"agents": {"甲通信有限公司": ("A1",)}} | said
    return Record(cases={case.case_no: case for case in cases}, **described)


A_CASE = on_file(a_case())


def paid(
    line: int = 2, amount: str = "1000", payer: str = "甲通信有限公司", remark: str = "", reference: str = ""
) -> Line:
    """A line as it is after reading."""
    return the_line(f'2038-01-05,{reference or f"R{line}"},{payer},{amount},"{remark}"').model_copy(
        update={"line": line}
    )


@pytest.mark.parametrize(
    ("remark", "how"),
    [
        ("SS-2026-00042", "case number"),
        ("罚款SS-2026-00042缴纳", "case number"),
        ("ss-2026-00042", "case number"),
        ("ＳＳ－２０２６－０００４２", "case number"),
        ("SS - 2026 - 00042", "case number"),
        ("SS—2026—00042", "case number"),
        ("SS 2026 00042 1000", "case number"),
        ("缴 SS-2026-00042-N2 罚款", "notice number"),
        ("SS-2026-00042 400-800-1234", "case number"),
        ("400-800-1234", "400 number"),
        ("号码4008001234罚款", "400 number"),
        ("４００－８００１－２３４", "400 number"),
        ("4008-001-234", "400 number"),
    ],
)
def test_a_line_is_matched_by_the_case_notice_or_400_number_in_its_remark(remark: str, how: str) -> None:
    [one] = match([paid(remark=remark, payer="谁也不认识", amount="3")], A_CASE)
    assert (one.outcome, one.case_no, one.how) == (Outcome.TO_COUNT, "SS-2026-00042", how)


def test_a_line_is_matched_by_an_agent_who_pays_just_what_is_due_in_one_case() -> None:
    [one] = match([paid(payer=" 甲通信有限公司　")], A_CASE)
    assert (one.case_no, one.how) == ("SS-2026-00042", "payer and amount")
    [one] = match([paid(payer="甲（北京）公司")], on_file(a_case(), agents={"甲(北京)公司": ("A1",)}))
    assert one.case_no == "SS-2026-00042"


@pytest.mark.parametrize(
    ("line", "record", "why"),
    [
        (paid(payer="乙公司"), A_CASE, "the payer is no agent"),
        (paid(payer=""), A_CASE, "the payer is no agent"),
        (paid(amount="999.99"), A_CASE, "no case has just ¥999.99 due"),
        (paid(amount="1000.01"), A_CASE, "no case has just ¥1,000.01 due"),
        (paid(remark="SS-2026-00043"), A_CASE, "no case SS-2026-00043 is on record"),
        (paid(payer="乙公司", remark="SS-2026-99999-N1"), A_CASE, "no case SS-2026-99999 is on record"),
        (paid(remark="SS-2026-000421000"), A_CASE, "no case SS-2026-000421000 is on record"),
        (paid(remark="SS-2026-00042 SS-2026-00043"), A_CASE, "the remark names 2 cases"),
        (paid(remark="SS-2026-00042 400-800-9999"), A_CASE, "and 400-800-9999 beside it"),
        (paid(remark="400-800-1234 400-800-9999"), A_CASE, "the remark names 2 numbers"),
        (paid(remark="400-800-9999"), A_CASE, "of 400-800-9999, no case has money due"),
        (
            paid(remark="400-800-1234"),
            on_file(a_case(), a_case("FR-2026-00043")),
            "2 cases have money due: FR-2026-00043, SS-2026-00042",
        ),
        (
            paid(),
            on_file(a_case(), a_case("SS-2026-00043")),
            "2 cases have just ¥1,000.00 due: SS-2026-00042, SS-2026-00043",
        ),
        (
            paid(),
            on_file(a_case(), agents={"甲通信有限公司": ("A1", "A2")}),
            "2 agents have the payer's name: A1, A2",
        ),
    ],
)
def test_nothing_is_guessed(line: Line, record: Record, why: str) -> None:
    [one] = match([line], record)
    assert (one.outcome, one.case_no) == (Outcome.UNMATCHED, "")
    assert why in one.reason


def test_a_case_that_is_named_takes_less_than_is_due_more_and_what_comes_after_the_fine_is_settled() -> None:
    lines = [paid(n, amount, remark="SS-2026-00042") for n, amount in ((2, "0.01"), (3, "5000"), (4, "1"))]
    assert [one.outcome for one in match(lines, A_CASE)] == [Outcome.TO_COUNT] * 3


def test_what_is_due_is_taken_once_by_payer_and_amount() -> None:
    first, second = match([paid(2), paid(3)], A_CASE)
    assert (first.outcome, second.outcome) == (Outcome.TO_COUNT, Outcome.UNMATCHED)
    assert "no case has just ¥1,000.00 due" in second.reason


def test_what_is_due_is_what_the_lines_before_have_left() -> None:
    lines = [paid(2, "400", remark="SS-2026-00042"), paid(3, "1000"), paid(4, "600")]
    assert [one.outcome for one in match(lines, A_CASE)] == [
        *(Outcome.TO_COUNT, Outcome.UNMATCHED, Outcome.TO_COUNT)
    ]


def test_a_reference_counts_once() -> None:
    counted = {"R9": Counted("SS-2026-00042", Decimal("1000.00"))}
    lines = [
        paid(2, reference="R1"),
        paid(3, reference="R1"),
        paid(4, "5", reference="R1"),
        paid(5, reference="R9"),
        paid(6, "999", reference="R9", remark="SS-2026-00042"),
        paid(7, reference=" "),
    ]
    matched = match(lines, on_file(a_case(), payments=counted))
    assert [(one.outcome, one.reason) for one in matched] == [
        (Outcome.TO_COUNT, ""),
        (Outcome.DUPLICATE, "as line 2"),
        (Outcome.UNMATCHED, "the reference came before with other content, on line 2"),
        (Outcome.COUNTED_ALREADY, ""),
        (Outcome.UNMATCHED, "the reference came before with other content, on line 5"),
        (Outcome.UNMATCHED, "without a reference nothing keeps it from being counted twice"),
    ]


def test_of_what_was_counted_as_of_a_later_day_the_statement_says_so() -> None:
    counted = {"R9": Counted("SS-2026-00042", Decimal("1000.00"), date(2038, 1, 8))}
    [one] = match([paid(reference="R9")], on_file(a_case(), payments=counted))
    assert (one.outcome, one.reason) == (
        Outcome.COUNTED_ALREADY,
        "SS-2026-00042, and on record as of 2038-01-08",
    )


@pytest.mark.parametrize(
    "line",
    [paid(amount="999", reference="R9"), paid(remark="SS-2026-00043", reference="R9")],
    ids=["another amount", "another case"],
)
def test_a_reference_that_was_counted_otherwise_is_for_a_colleague(line: Line) -> None:
    counted = {"R9": Counted("SS-2026-00042", Decimal("1000.00"))}
    [one] = match([line], on_file(a_case(), a_case("SS-2026-00043"), payments=counted))
    assert one.outcome is Outcome.UNMATCHED
    assert one.reason == "the reference was counted before otherwise: ¥1,000.00 for SS-2026-00042"


AMOUNTS = st.sampled_from(["1000", "1000", "2000", "999.99", "0.01", "-5", "0", "x"])
CASES = [
    a_case("SS-2026-00001", "1000", agent_id="A1", number="4008000001"),
    a_case("SS-2026-00002", "2000", agent_id="A1", number="4008000001"),
    a_case("SS-2026-00003", "1000", agent_id="A2", number="4008000003"),
    a_case("FR-2026-00004", "0", agent_id="A2", number="4008000004"),
]
RECORD = on_file(
    *CASES,
    agents={"甲": ("A1",), "乙": ("A2",), "丙": ("A3", "A4")},
    payments={"R1": Counted("SS-2026-00002", Decimal("2000.00"))},
)
LINES = st.lists(
    st.builds(
        paid,
        line=st.integers(2, 99),
        amount=AMOUNTS,
        payer=st.sampled_from(["甲", "乙", "丙", "丁", ""]),
        remark=st.sampled_from(
            [
                "",
                "",
                "罚款",
                "SS-2026-00001",
                "SS-2026-00003-N1",
                "400-800-0001",
                "4008000003",
                "SS-2026-09999",
            ]
        ),
        reference=st.sampled_from([*(f"R{n}" for n in range(1, 7)), " "]),
    ),
    max_size=25,
)


@given(LINES)
def test_every_line_has_one_outcome_and_their_sums_are_the_sum_of_the_lines(lines: list[Line]) -> None:
    matched = match(lines, RECORD)
    sums = totals(matched)
    assert [one.line for one in matched] == lines
    assert sum(total.lines for total in sums.values()) == len(lines)
    assert sum((total.amount for total in sums.values()), ZERO) == sum(
        (line.amount or ZERO for line in lines), ZERO
    )


@given(LINES)
def test_no_due_is_counted_twice_and_no_reference(lines: list[Line]) -> None:
    to_count = [one for one in match(lines, RECORD) if one.outcome is Outcome.TO_COUNT]
    references = [one.line.reference for one in to_count]
    assert len(set(references)) == len(references)
    assert "R1" not in references
    for case in CASES:
        left = case.due
        for one in to_count:
            if one.case_no == case.case_no:
                assert one.line.amount
                assert one.how != "payer and amount" or one.line.amount == left
                left = max(left - one.line.amount, ZERO)


# Counting


@dataclass
class Ledger:
    """Cases of the past with a fine, put directly on record; and what lines come in for them."""

    on_record: Sessions
    serial: int = 0
    lines: list[tuple[Outcome, list[str]]] = field(default_factory=list)

    def owing(self, number: str, due: str = "1000", counted: str = "", reference: str = "") -> str:
        """A case that has ended with a fine, of which something may have been paid; its case number."""
        self.serial += 1
        case_no = f"SS-2038-9{self.serial:04}"
        with self.on_record.begin() as session:
            agent_id = session.get_one(Number, number).agent_id
            session.add(
                Case(
                    case_no=case_no,
                    kind=Kind.SECONDARY_SALE,
                    number=number,
                    agent_id=agent_id,
                    workflow_id=f"secondary-sale-{number}",
                    run_id="run",
                    policy=date(2017, 2, 16),
                    opened_at=shanghai("2038-01-04"),
                    opened_by="monitor",
                    outcome=Stage.SHUT_DOWN,
                    closed_at=shanghai("2038-01-20"),
                )
            )
            session.flush()
            session.add(
                Fine(
                    case_no=case_no,
                    step="fine",
                    agent_id=agent_id,
                    kind=Kind.SECONDARY_SALE,
                    offence=1,
                    amount=Decimal(due),
                    set_at=shanghai("2038-01-08"),
                )
            )
            if counted:
                session.add(
                    Payment(
                        reference=reference,
                        case_no=case_no,
                        amount=Decimal(counted),
                        received_at=shanghai("2038-02-01"),
                        recorded_by="bank",
                    )
                )
        return case_no

    def line(
        self, outcome: Outcome, reference: str, payer: str, amount: str, remark: str, day: str = "2020-02-03"
    ) -> None:
        """A line that has to come to this outcome."""
        self.lines.append((outcome, [day, reference, payer, amount, remark]))

    def csv(self) -> str:
        """The statement, with the lines that belong together in their order."""
        target = io.StringIO()
        csv.writer(target).writerows([HEADINGS.strip().split(","), *(cells for _, cells in self.lines)])
        return target.getvalue()

    def paid(self) -> dict[str, Decimal]:
        """What was paid on each case, by the registry."""
        sums: dict[str, Decimal] = {}
        with self.on_record() as session:
            for payment in session.scalars(select(Payment)):
                sums[payment.case_no] = sums.get(payment.case_no, ZERO) + payment.amount
        return sums

    def references(self) -> set[str]:
        with self.on_record() as session:
            return set(session.scalars(select(Payment.reference)))


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world.on_record)


def groups(ledger: Ledger, numbers: Iterator[str], dice: random.Random) -> None:
    """A year of lines: those that depend on each other stay in their order, the groups are shuffled."""
    kept: list[list[tuple[Outcome, list[str]]]] = []

    def group() -> None:
        kept.append(ledger.lines)
        ledger.lines = []

    for n in range(12):
        number = next(numbers)
        name, due = f"甲{n}通信有限公司", f"{dice.randrange(1000, 10000)}.{dice.randrange(100):02}"
        case_no, ref = ledger.owing(number, due), f"{number}-{n}"
        ledger.line(Outcome.TO_COUNT, f"{ref}a", "财务代付", f"￥{Decimal(due) - 1:,.2f}", f"缴{case_no}")
        ledger.line(Outcome.UNMATCHED, f"{ref}b", name, due, "罚款")
        ledger.line(Outcome.TO_COUNT, f"{ref}c", name, "1.00", "罚款尾款")
        ledger.line(Outcome.DUPLICATE, f"{ref}a", "财务代付", f"￥{Decimal(due) - 1:,.2f}", f"缴{case_no}")
        ledger.line(Outcome.UNMATCHED, f"{ref}c", name, "2.00", "罚款尾款")
        ledger.line(Outcome.UNMATCHED, f"{ref}d", "客户", "5", written(number))
        ledger.line(Outcome.TO_COUNT, f"{ref}e", "客户", "０．５０", f"{case_no}-N2")
        group()
        number = next(numbers)
        ledger.owing(number, "2000")
        ledger.line(Outcome.TO_COUNT, f"{number}-x", "客户", "2500.01", f"号码{written(number)}多缴")
        group()
    for n in range(640):
        number, amount = next(numbers), f"{dice.randrange(1, 3000)}.{dice.randrange(100):02}"
        case_no = ledger.owing(number, "3000", amount, f"B{number}")
        ledger.line(Outcome.COUNTED_ALREADY, f"B{number}", f"乙{n}公司", amount, case_no)
        group()
    for n in range(262):
        outcome, amount, remark = dice.choice(
            [
                (Outcome.OUTGOING, f"-{dice.randrange(1, 5000)}.10", "手续费"),
                (Outcome.UNMATCHED, "300", "SS-2020-00001"),
                (Outcome.UNMATCHED, "1000", "货款"),
                (Outcome.MALFORMED, dice.choice(["1.005", "0", "待定", ""]), "罚款"),
            ]
        )
        ledger.line(outcome, f"Z{n}", "丙商贸", amount, remark)
        group()
    dice.shuffle(kept)
    ledger.lines = [line for lines in kept for line in lines]


async def test_a_statement_of_a_thousand_lines_is_accounted_for_to_the_last_fen(
    world: World, enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    named = (an_agent(world.on_record, numbers=2, name=f"甲{n}通信有限公司") for n in range(12))
    one_by_one = [number for pair in named for number in pair]
    numbers = iter([*one_by_one, *an_agent(world.on_record, numbers=640)])
    groups(ledger, numbers, random.Random(400))
    in_payment = []
    for n, number in enumerate(an_agent(world.on_record, numbers=2, name="丁通信有限公司")):
        case = await world.open(a_report(number), on="2038-01-04")
        assert await case.until("2038-01-08") is Stage.PAYMENT
        in_payment.append(case)
        # The second fine is a higher one, so that each is told by its amount.
        ledger.line(Outcome.TO_COUNT, f"open-{number}", "丁通信有限公司", f"{n + 1},000.00", "罚款")
    assert len(ledger.lines) == 1000
    (tmp_path / "gbk.csv").write_bytes(ledger.csv().encode("gbk"))
    (tmp_path / "utf8.csv").write_text(ledger.csv(), "utf-8")
    before, known = ledger.paid(), ledger.references()

    told = await enforce("paid", "--from", "gbk.csv", "--yes", "--unmatched", "lost.csv", "--json")

    became = {Outcome.TO_COUNT: Outcome.COUNTED}
    expected = [became.get(outcome, outcome) for outcome, _ in ledger.lines]
    found = [one["outcome"] for one in told.json["lines"]]
    assert [
        (nth, want, got, told.json["lines"][nth]["reason"])
        for nth, (want, got) in enumerate(zip(expected, found, strict=True))
        if want != got
    ] == []
    assert (told.code, told.err) == (0, "")
    sums = {outcome: Decimal(total["amount"]) for outcome, total in told.json["outcomes"].items()}
    assert sum(sums.values()) == Decimal(told.json["statement"]["amount"])
    after = ledger.paid()
    assert sum(after.values()) - sum(before.values()) == sums["counted"]
    for case_no in after:
        came = [
            Decimal(one["amount"])
            for one in told.json["lines"]
            if one["outcome"] == "counted" and one["case_no"] == case_no
        ]
        assert after[case_no] - before.get(case_no, ZERO) == sum(came)
    counted = {one["reference"] for one in told.json["lines"] if one["outcome"] == "counted"}
    assert ledger.references() - known == counted
    for case in in_payment:
        assert (await case.ended()).outcome is Stage.SETTLED

    lost = list(csv.DictReader(io.StringIO((tmp_path / "lost.csv").read_text("utf-8-sig"))))
    assert [row["line"] for row in lost] == [
        str(nth) for nth, want in enumerate(expected, 2) if want in ("unmatched", "malformed")
    ]
    assert all(row["reason"] for row in lost)

    again = await enforce("paid", "--from", "utf8.csv", "--yes", "--json")
    assert (again.code, again.json["statement"]) == (0, told.json["statement"])
    assert "counted" not in again.json["outcomes"]
    assert "to count" not in again.json["outcomes"]
    assert ledger.paid() == after


def a_statement(ledger: Ledger, tmp_path: Path, payments: int, name: str = "甲通信有限公司") -> list[str]:
    """A statement `s.csv` that pays 10 yuan for each of so many cases; the references."""
    numbers = an_agent(ledger.on_record, numbers=payments, name=name)
    for number in numbers:
        ledger.line(Outcome.TO_COUNT, f"S{number}", name, "10", ledger.owing(number))
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")
    return [f"S{number}" for number in numbers]


def a_return(case_no: str, reference: str, amount: str) -> Payment:
    """What was owed back in a case and was returned."""
    return Payment(
        reference=reference,
        case_no=case_no,
        amount=-Decimal(amount),
        received_at=shanghai("2038-02-03"),
        recorded_by="李敏",
    )


async def test_the_reference_of_what_was_returned_is_counted_for_nothing_that_comes_in(
    world: World, ledger: Ledger
) -> None:
    [number] = an_agent(world.on_record)
    case_no = ledger.owing(number, "1000", "1500", "P1")
    with world.on_record.begin() as session:
        session.add(a_return(case_no, "R1", "500"))
    lines = [paid(remark=case_no, reference="R1", amount=amount) for amount in ("500", "-500")]
    with snapshot(world.on_record) as session:
        came, went = match(lines, on_record(session, lines))
    assert (came.outcome, went.outcome) == (Outcome.UNMATCHED, Outcome.OUTGOING)
    assert came.reason == f"the reference was counted before otherwise: ¥500.00 returned in {case_no}"


async def test_due_is_what_stands_of_the_fine_and_was_not_paid_or_was_given_back(
    world: World, ledger: Ledger
) -> None:
    partly, back, void, other, returned = an_agent(world.on_record, numbers=5)
    owing = {
        ledger.owing(partly, "1000", "400.10", "P1"): "599.90",
        ledger.owing(back, "1000", "300", "P2"): "1000.00",
        (voided := ledger.owing(void, "1000")): "0.00",
        ledger.owing(other, "1000", "1000.01", "P3"): "0.00",
        (overpaid := ledger.owing(returned, "1000", "1500", "P4")): "0.00",
    }
    with world.on_record.begin() as session:
        session.add(a_return(overpaid, "R4", "500"))
        payment = session.get_one(Payment, "P2")
        payment.refund_due_at = payment.refunded_at = shanghai("2038-02-02")
        session.scalars(select(Fine).where(Fine.case_no == voided)).one().status = FineStatus.VOID
    lines = [paid(remark=case_no) for case_no in owing]
    with snapshot(world.on_record) as session:
        record = on_record(session, lines)
    assert {case_no: str(case.due) for case_no, case in record.cases.items()} == owing


async def test_a_dry_run_shows_what_would_be_counted_and_counts_nothing(
    enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    a_statement(ledger, tmp_path, 2)
    told = await enforce("paid", "--from", "s.csv", "--dry-run")
    assert (told.code, told.err) == (0, "")
    assert told.out.count("case number") == 2
    assert "to count       2  20.00\n" in told.out
    assert ledger.references() == set()


async def test_nothing_is_counted_unasked_where_nobody_sits(
    enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    a_statement(ledger, tmp_path, 1)
    told = await enforce("paid", "--from", "s.csv")
    assert (told.code, "say --yes" in told.err) == (1, True)
    assert ledger.references() == set()


async def test_a_person_is_asked_how_much_is_counted(
    enforce: Enforce, ledger: Ledger, tmp_path: Path, officer: Officer
) -> None:
    references = a_statement(ledger, tmp_path, 2, name="甲（北京）通信技术有限责任公司")
    for answer, code, counted in (("n", 1, set()), ("y", 0, set(references))):
        async with officer("paid", "--from", "s.csv") as screen:
            await screen.shows("count 2 payments, ¥20.00? [y/N]")
            assert ledger.references() == set()
            screen.type(f"{answer}\n")
            assert await screen.ended() == code, screen.text
        assert ledger.references() == counted
    assert "2 of 2 payments counted, ¥20.00" in screen.text


@pytest.mark.parametrize("columns", [80, 160])
async def test_every_line_fits_the_terminal(
    world: World, ledger: Ledger, tmp_path: Path, officer: Officer, columns: int
) -> None:
    a_statement(ledger, tmp_path, 2, name="内蒙古自治区呼和浩特市万呼网络通信科技（集团）有限责任公司")
    ledger.line(
        Outcome.UNMATCHED, "U1", "新疆维吾尔自治区伊犁哈萨克自治州商贸有限公司", "12345678.90", "货款"
    )
    ledger.line(Outcome.OUTGOING, "U2", "", "-5", "手续费")
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")
    async with officer("paid", "--from", "s.csv", "--dry-run", columns=columns) as screen:
        assert await screen.ended() == 0
    lines = re.sub("\x1b\\[[0-9;]*m", "", screen.text).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert "12,345,678.90" in screen.text


async def test_text_from_a_bank_cannot_act_in_the_terminal(
    enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.line(Outcome.UNMATCHED, "H1", "[red]甲\x1b[31m", "1", "\x1b]0;x\x07")
    ledger.line(Outcome.MALFORMED, "H2", "", "\x1b[2J", "=HYPERLINK(1)")
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")
    told = await enforce("paid", "--from", "s.csv", "--unmatched", "lost.csv")
    assert (told.code, "\x1b" in told.out, "\x07" in told.out) == (0, False, False)
    assert "[red]甲 [31m" in told.out
    assert ",'=HYPERLINK(1)" in (tmp_path / "lost.csv").read_text("utf-8")


async def test_what_nobody_could_match_is_counted_once_a_colleague_has_found_its_case(
    world: World, enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    case_no = ledger.owing(number)
    ledger.line(Outcome.UNMATCHED, f"L{number}", "某人", "'5", "罚款")
    (tmp_path / "s.csv").write_bytes(ledger.csv().encode("gbk"))
    await enforce("paid", "--from", "s.csv", "--unmatched", "lost.csv")
    lost = (tmp_path / "lost.csv").read_text("utf-8-sig")
    (tmp_path / "lost.csv").write_text(lost.replace("罚款", case_no), "utf-8-sig")
    told = await enforce("paid", "--from", "lost.csv", "--yes")
    assert (told.code, ledger.paid()) == (0, {case_no: Decimal("5.00")})


async def test_a_payment_that_is_refused_is_a_line_of_the_result(
    world: World, enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    [good] = a_statement(ledger, tmp_path, 1)
    [number] = an_agent(world.on_record)
    case_no = ledger.owing(number)
    with world.on_record.begin() as session:
        case = session.get_one(Case, case_no)
        case.outcome = case.closed_at = None  # open on record, but nobody conducts it
    ledger.line(Outcome.FAILED, f"F{number}", "某人", "7", case_no)
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")
    told = await enforce("paid", "--from", "s.csv", "--yes")
    assert told.code == 1
    assert f"line 3, {case_no}: Temporal has no case {case_no}" in told.out
    assert "1 of 2 payments counted, ¥10.00" in told.out
    assert ledger.references() == {good}


async def test_a_payment_of_a_day_to_come_is_a_line_of_the_result(
    world: World, enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    ledger.line(Outcome.FAILED, "F1", "某人", "7", ledger.owing(number), day="2999-02-01")
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")
    told = await enforce("paid", "--from", "s.csv", "--yes")
    assert told.code == 1
    assert "the bank can't have had it on 2999-02-01: today is" in told.out
    assert ledger.references() == set()


async def test_a_statement_that_comes_after_the_shutdown_tells_that_the_fine_was_paid_in_time(
    world: World, enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    await case.until("2038-03-13", "00:11")
    case_no = (await case.ended()).case_no
    agent_id = world.rows(Account)[0].agent_id
    ledger.line(Outcome.TO_COUNT, "R1", "某人", "1000", case_no, day="2020-02-03")
    (tmp_path / "s.csv").write_text(ledger.csv(), "utf-8")

    told = await enforce("paid", "--from", "s.csv", "--yes")

    typed = f"enforce reinstate {case_no}"
    assert f"{case_no}: paid in time, but the account was shut down: {typed}" in told.out, told.err
    [task] = [task for task in (await enforce("todo", "--json")).json if task["case_no"] == case_no]
    assert (task["what"], task["next"]) == ("reinstatement", f'{typed} --reason "..."')
    assert (await enforce("case", case_no, "--json")).json["awaiting"] == ["reinstatement"]
    assert f"next: {typed}" in (await enforce("case", case_no)).out
    assert typed in (await enforce("agent", agent_id)).out
    explained = await enforce("explain", case_no)
    assert "had by the bank on 2020-02-03" in explained.out
    assert "the shutdown is to be taken back" in explained.out

    back = await enforce("reinstate", case_no, "--reason", "银行已于期限内入账")
    assert "1 numbers returned to their agent" in back.out, back.err
    assert f"Account of agent {agent_id} reopened" in back.out
    assert (await enforce("agent", agent_id, "--json")).json["account"] == "open"
    assert (await enforce("case", case_no, "--json")).json["awaiting"] == []
    assert "Shutdown taken back" in (await enforce("explain", case_no)).out
    again = await enforce("reinstate", case_no, "--reason", "银行已于期限内入账")
    assert (again.code, "keeps no account shut down" in again.err) == (1, True)
    kept = await enforce("reinstate", case_no, "--keep", "--reason", "误")
    assert (kept.code, "no reinstatement waits" in kept.err) == (1, True)


async def test_one_payment_is_dated_by_the_officer_who_records_it(
    world: World, enforce: Enforce, ledger: Ledger
) -> None:
    [number] = an_agent(world.on_record)
    case_no = ledger.owing(number)
    paid_on = ("paid", case_no, "5", "--reference", "R1", "--on")
    assert (await enforce(*paid_on, "2020-02-03")).code == 0
    assert [payment.had_on for payment in world.rows(Payment)] == [date(2020, 2, 3)]
    other = await enforce(*paid_on, "2020-02-04")
    assert (other.code, "was counted already, with ¥5.00 of 2020-02-03" in other.err) == (1, True)


async def test_nothing_is_counted_while_temporal_does_not_answer(
    enforce: Enforce, ledger: Ledger, tmp_path: Path
) -> None:
    a_statement(ledger, tmp_path, 1)
    told = await enforce("paid", "--from", "s.csv", "--yes", TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (told.code, "no Temporal server answers" in told.err) == (3, True)
    assert ledger.references() == set()


async def test_ctrl_c_stops_and_the_same_command_counts_the_rest(
    enforce: Enforce, ledger: Ledger, tmp_path: Path, officer: Officer
) -> None:
    references = a_statement(ledger, tmp_path, 40)

    async with officer("paid", "--from", "s.csv", "--yes") as screen:
        for _ in range(1500):
            if ledger.references():
                break
            await asyncio.sleep(0.02)  # nothing tells when the first one is
        screen.type(CTRL_C)
        assert await screen.ended() == 130, screen.text
    counted = len(ledger.references())
    assert 0 < counted < 40
    assert f"{counted} of 40 payments counted" in screen.text
    again = await enforce("paid", "--from", "s.csv", "--yes")
    assert f"{40 - counted} of {40 - counted} payments counted" in again.out, again.err
    assert ledger.references() == set(references)
    assert set(ledger.paid().values()) == {Decimal("10.00")}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "CASE, AMOUNT, --reference missing"),
        (("SS-2026-00042",), "AMOUNT, --reference missing"),
        (("SS-2026-00042", "5"), "--reference missing"),
        (("SS-2026-00042", "5", "--reference", "R", "--from", "s.csv"), "say only one of them"),
        (("--reference", "R", "--from", "s.csv"), "say only one of them"),
        (("--on", "2026-11-20", "--from", "s.csv"), "say only one of them"),
        (("SS-2026-00042", "5", "--reference", "R", "--on", "Friday"), "does not match the format"),
        (("SS-2026-00042", "5", "--reference", "R", "--dry-run"), "go with --from FILE"),
        (("--from", "missing.csv"), "does not exist"),
    ],
)
async def test_one_payment_or_a_statement_has_to_be_said(
    enforce: Enforce, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "s.csv").write_text(HEADINGS, "utf-8")
    told = await enforce("paid", *words)
    assert (told.code, told.out) == (2, "")
    assert why in told.err


async def test_a_person_is_asked_for_what_is_missing_of_one_payment(
    world: World, ledger: Ledger, officer: Officer
) -> None:
    [number] = an_agent(world.on_record)
    case_no = ledger.owing(number)
    async with officer("paid", case_no, "5") as screen:
        await screen.shows("--reference: ")
        screen.type(f"ICBC-{number}\n")
        assert await screen.ended() == 0, screen.text
    assert (ledger.references(), ledger.paid()) == ({f"ICBC-{number}"}, {case_no: Decimal("5.00")})


@pytest.mark.parametrize("content", [b"\xff\xff\x00", "日期,说明\n".encode("gbk")])
async def test_a_file_that_is_no_statement_counts_nothing(
    enforce: Enforce, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "s.csv").write_bytes(content)
    told = await enforce("paid", "--from", "s.csv", "--yes")
    assert (told.code, told.err.startswith("error: s.csv: nothing was counted: ")) == (1, True)
