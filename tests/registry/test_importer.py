"""Agents and numbers from CSV: all rows or none, and every problem named by its place."""

import csv
import io
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from registry.importer import COLUMNS, Loaded, Problem, Refused, decode, load, read
from registry.models import Account, Agent, AuditLine, Number
from registry.session import Sessions
from rulebook.vocabulary import AccountStatus, Holder, NumberStatus
from tests.world import shanghai

AT = shanghai("2026-03-02")
ROW = {
    "agent_id": "A1",
    "agent_name": "甲通信有限公司",
    "contact": "王芳",
    "email": "a@agent.example",
    "phone": "+86 138-0000-0000",
    "number": "400-800-0001",
    "customer": "北京𠮷祥商贸（集团）有限公司",
    "customer_email": "office@customer.example",
    "certificate": "91310000MA1FL0000X",
    "operator": "中国联通",
    "renewal_due": "2027-04-10",
}


def a_file(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS, newline: str = "\r\n") -> str:
    """A CSV file in which each row says what is different from the first, which starts on line 2."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, lineterminator=newline, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(ROW | row for row in rows)
    return file.getvalue()


def bring_in(on_record: Sessions, *rows: dict[str, str], by: str = "李敏") -> Loaded:
    with on_record.begin() as session:
        return load(session, read(a_file(*rows)), AT, by)


def problems(text: str) -> list[Problem]:
    with pytest.raises(Refused) as refused:
        read(text)
    return refused.value.problems


def held(on_record: Sessions) -> dict[str, str]:
    """Which agent holds which number."""
    with on_record() as session:
        return {number.number: number.agent_id for number in session.scalars(select(Number))}


def test_a_file_puts_agents_with_their_accounts_and_numbers_on_record(on_record: Sessions) -> None:
    loaded = bring_in(
        on_record, {}, {"number": "4008000002"}, {"agent_id": "B.2-x", "number": "400 800 0003"}
    )
    assert loaded == Loaded(agents_added=2, agents_updated=0, numbers_added=3, numbers_updated=0)
    assert held(on_record) == {"4008000001": "A1", "4008000002": "A1", "4008000003": "B.2-x"}
    with on_record() as session:
        agent, number = session.get_one(Agent, "A1"), session.get_one(Number, "4008000001")
        assert [agent.name, agent.contact, agent.email, agent.phone] == list(ROW.values())[1:5]
        assert agent.account.status is AccountStatus.OPEN
        described = [number.customer, number.customer_email, number.certificate, number.operator]
        assert described == list(ROW.values())[6:10]
        assert number.renewal_due == date(2027, 4, 10)
        assert (number.status, number.holder) == (NumberStatus.ACTIVE, Holder.AGENT)


def test_who_brought_a_file_in_and_when_stands_in_the_audit_trail(on_record: Sessions) -> None:
    bring_in(on_record, {})
    bring_in(on_record, {}, by="王芳")
    with on_record() as session:
        lines = session.scalars(select(AuditLine).order_by(AuditLine.id)).all()
    assert [(line.actor, line.at) for line in lines] == [("李敏", AT), ("王芳", AT)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_a_file_is_read_in_every_encoding_that_a_chinese_office_uses(encoding: str, newline: str) -> None:
    text = a_file({}, {"number": "4008000002"}, newline=newline)
    assert read(decode(text.encode(encoding))) == read(text)


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(Refused, match="neither UTF-8 nor GB 18030"):
        decode(b"PK\x03\x04\xff\xff")


def test_all_problems_are_named_at_once_with_line_and_column() -> None:
    rows: list[dict[str, str]] = [
        {},
        {"number": "4008000002", "email": "nobody", "phone": "x"},
        {"number": "95588", "agent_id": "B2"},
        {"number": "4008000003", "contact": " ", "customer": ""},
        {"number": "400 800 0001"},
        {"number": "4008000004", "agent_name": "另一家公司"},
        {"number": "4008000005", "agent_id": "-"},
        {"number": "4008000006", "agent_id": "B3"},
        {"number": "4008000007", "agent_id": "B4", "customer_email": "nobody", "renewal_due": "2027-02-30"},
    ]
    assert [(problem.line, problem.column) for problem in problems(a_file(*rows))] == [
        (3, "email"),
        (3, "phone"),
        (4, "number"),
        (5, "contact"),
        (5, "customer"),
        (6, "number"),
        (7, "agent_id"),
        (8, "agent_id"),
        (10, "customer_email"),
        (10, "renewal_due"),
    ]


def test_a_problem_says_what_to_look_for() -> None:
    rows: list[dict[str, str]] = [{}, {"email": "b@agent.example"}]
    assert list(map(str, problems(a_file(*rows)))) == [
        "line 3, column number: stands on line 2 already",
        "line 3, column agent_id: agent A1 is described differently on line 2",
    ]


def test_a_row_with_a_bad_cell_is_compared_with_the_others_all_the_same() -> None:
    rows: list[dict[str, str]] = [{}, {"email": "nobody"}]
    assert {(3, "email"), (3, "number")} <= {(p.line, p.column) for p in problems(a_file(*rows))}


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_lines_are_counted_right_after_cells_of_several_lines_and_empty_lines(newline: str) -> None:
    text = a_file(
        {"customer": f"乙{newline}商贸{newline}有限公司"}, {"number": "4008000002"}, newline=newline
    )
    text += newline + a_file({"number": "95588"}, newline=newline).split(newline, 1)[1]
    lines = text.split(newline)
    [problem] = problems(text)
    assert "95588" in lines[problem.line - 1]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, "agent_id"),
        (a_file({}, columns=COLUMNS[:-1]), 1, "renewal_due"),
        (a_file({}).replace("\r\n", ",extra\r\n").replace(",extra", "", 1), 2, "-"),
        (a_file({}) + "A1,half", 3, "contact"),
        (a_file({}) + '"A1"x,', 3, "-"),
        (a_file({}) + '"A1', 3, "-"),
        ('"agent_id"x,' + a_file({}), 1, "-"),
    ],
    ids=[
        "empty file",
        "column missing",
        "cell too many",
        "half a row",
        "broken quotes",
        "open quotes",
        "broken heading",
    ],
)
def test_a_file_out_of_shape_is_refused_with_its_place(text: str, line: int, column: str) -> None:
    assert (line, column) in {(problem.line, problem.column) for problem in problems(text)}


@given(st.text() | st.text(alphabet='",\r\n\x00a').map(lambda rest: a_file({}) + rest) | st.binary())
def test_whatever_the_file_it_is_read_or_refused(content: str | bytes) -> None:
    try:
        read(content if isinstance(content, str) else decode(content))
    except Refused as refused:
        assert refused.problems


@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a@b@agent.example",
        "a b@agent.example",
        "a@agent.example b@agent.example",
        "a@agent.example; nobody",
        "; ,",
        "a@" + "agent." * 41 + "example",
        "; ".join(f"a{n}@agent.example" for n in range(6)),
        "甲 <a@agent.example>",
        "a@agent.example\nBcc: evil@x.example",
        "a@[agent",
        "a(b)@agent.example",
        'a"b@agent.example',
        "a@agent.\x07example",
        "a\u202e@agent.example",
    ],
)
@pytest.mark.parametrize("column", ["email", "customer_email"])
def test_an_address_that_no_letter_can_reach_is_refused(column: str, email: str) -> None:
    assert {problem.column for problem in problems(a_file({column: email}))} == {column}


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("a@agent.example", "a@agent.example"),
        ("b@agent.example;a@agent.example", "b@agent.example, a@agent.example"),
        (" a@agent.example , b@x.example；c@x.example，", "a@agent.example, b@x.example, c@x.example"),
        ("b@agent.example; a@agent.example; B@Agent.example", "b@agent.example, a@agent.example"),
        ("; ".join(["a@agent.example"] * 9), "a@agent.example"),
    ],
)
def test_an_agent_and_a_customer_may_have_several_addresses_each_of_which_counts_once(
    cell: str, kept: str
) -> None:
    [row] = read(a_file({"email": cell, "customer_email": cell})).values()
    assert (row.email, row.customer_email) == (kept, kept)


def test_an_agent_is_described_alike_however_its_addresses_are_parted(on_record: Sessions) -> None:
    addresses: dict[str, str] = {"email": "a@agent.example, b@agent.example"}
    bring_in(on_record, addresses, {"number": "4008000002", "email": "a@agent.example;b@agent.example"})
    with on_record() as session:
        assert session.get_one(Agent, "A1").email == "a@agent.example, b@agent.example"


@pytest.mark.parametrize("due", ["", "2027-02-30", "10.04.2027", "2027/4/10", "46122", "0"])
def test_a_renewal_is_due_on_a_day_and_nothing_else(due: str) -> None:
    assert {problem.column for problem in problems(a_file({"renewal_due": due}))} == {"renewal_due"}


@pytest.mark.parametrize(
    ("prefix", "operator"),
    [
        ("4000", "中国联通"),
        ("4001", "中国移动"),
        ("4006", "中国联通"),
        ("4007", "中国移动"),
        ("4008", "中国电信"),
        ("4009", "中国电信"),
    ],
)
def test_the_operator_of_a_number_is_told_by_its_prefix_unless_the_file_says_another(
    on_record: Sessions, prefix: str, operator: str
) -> None:
    told, said = f"{prefix}000001", f"{prefix}000002"
    bring_in(on_record, {"number": told, "operator": " "}, {"number": said, "operator": "中国广电"})
    with on_record() as session:
        assert session.get_one(Number, told).operator == operator
        assert session.get_one(Number, said).operator == "中国广电"


def test_an_operator_on_record_is_not_replaced_by_a_guess(on_record: Sessions) -> None:
    bring_in(on_record, {"operator": "中国移动"})
    bring_in(on_record, {"operator": ""})
    with on_record() as session:
        assert session.get_one(Number, "4008000001").operator == "中国移动"


def test_a_number_whose_operator_nobody_knows_is_refused() -> None:
    assert {p.column for p in problems(a_file({"number": "4002000001", "operator": ""}))} == {"operator"}


def test_nothing_is_loaded_when_one_number_belongs_to_another_agent(on_record: Sessions) -> None:
    bring_in(on_record, {}, {"number": "4008000002"})
    rows: list[dict[str, Any]] = [
        {"agent_id": "B2", "number": "4008000003"},
        {"agent_id": "B2", "number": "4008000001"},
        {"agent_id": "B2", "number": "4008000002"},
    ]
    with pytest.raises(Refused) as refused:
        bring_in(on_record, *rows)
    assert list(map(str, refused.value.problems)) == [
        "line 3, column number: 4008000001 belongs to agent A1, not B2",
        "line 4, column number: 4008000002 belongs to agent A1, not B2",
    ]
    assert held(on_record) == {"4008000001": "A1", "4008000002": "A1"}


def test_a_file_brought_in_again_updates_what_it_describes_and_touches_no_status(on_record: Sessions) -> None:
    bring_in(on_record, {}, {"number": "4008000002"})
    with on_record.begin() as session:
        session.get_one(Account, "A1").status = AccountStatus.SHUT_DOWN
        number = session.get_one(Number, "4008000001")
        number.status, number.quarantined_until = NumberStatus.QUARANTINED, AT.date()
        number.holder = Holder.PLATFORM
    again = {"email": "new@agent.example", "customer": "丙商贸有限公司"}
    loaded = bring_in(on_record, again, again | {"number": "4008000003"})
    assert loaded == Loaded(agents_added=0, agents_updated=1, numbers_added=1, numbers_updated=1)
    with on_record() as session:
        agent = session.get_one(Agent, "A1")
        first, second = (session.get_one(Number, n) for n in ("4008000001", "4008000002"))
        assert (agent.email, agent.account.status) == ("new@agent.example", AccountStatus.SHUT_DOWN)
        assert (first.customer, first.status) == ("丙商贸有限公司", NumberStatus.QUARANTINED)
        assert first.holder is Holder.PLATFORM
        assert second.customer == ROW["customer"]


def test_the_renewal_of_a_number_that_the_platform_serves_itself_is_not_overwritten(
    on_record: Sessions,
) -> None:
    bring_in(on_record, {}, {"number": "4008000002"})
    with on_record.begin() as session:
        session.get_one(Number, "4008000001").holder = Holder.PLATFORM
    again = {"renewal_due": "2028-04-10", "customer_email": "new@customer.example"}
    bring_in(on_record, again, again | {"number": "4008000002"})
    with on_record() as session:
        direct, sold = (session.get_one(Number, n) for n in ("4008000001", "4008000002"))
        assert (direct.renewal_due, sold.renewal_due) == (date(2027, 4, 10), date(2028, 4, 10))
        assert direct.customer_email == "new@customer.example"


def test_an_authority_is_no_operator() -> None:
    [problem] = problems(a_file(ROW | {"operator": "工业和信息化部"}))
    assert (problem.column, "is an authority" in problem.what) == ("operator", True)
