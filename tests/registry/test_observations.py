"""Complaints, observations and alerts from CSV: all rows or none, and every problem named by its place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from registry import observations
from registry.importer import Problem, Refused, decode
from registry.models import AuditLine, Complaint, ObservedUse, OperatorAlert
from registry.observations import Loaded, What, told_by_heading
from registry.session import Sessions
from rulebook.vocabulary import ComplaintKind
from tests.world import an_agent, shanghai

AT = shanghai("2026-03-20")
SAMPLES = Path(__file__).parent.parent.parent / "samples"
HEADINGS = {
    What.COMPLAINTS: "channel,complaint_id,number,kind,received_at,text,answered_at",
    What.OBSERVATIONS: "observation_id,number,observed_at,user,how",
    What.ALERTS: "operator,alert_id,number,raised_at,text",
}
LINES = {
    What.COMPLAINTS: "热线,C1,400-800-1234,service,2026-03-10 09:20,三次申请均未办理,",
    What.OBSERVATIONS: "O1,400-800-1234,2026-03-10 09:20,武汉安顺搬家,拨测",
    What.ALERTS: "中国电信,YJ-1,400-800-1234,2026-03-10 09:20,冒充客服退款",
}
OTHERS = [What.COMPLAINTS, What.OBSERVATIONS, What.ALERTS]


def a_file(what: What, *lines: str) -> str:
    return "\r\n".join([HEADINGS[what], *lines]) + "\r\n"


def bring_in(on_record: Sessions, what: What, *lines: str) -> Loaded:
    with on_record.begin() as session:
        return observations.load(session, observations.read(a_file(what, *lines), what), what, AT, "李敏")


def problems(what: What, text: str) -> list[Problem]:
    with pytest.raises(Refused) as refused:
        observations.read(text, what)
    return refused.value.problems


def complaints(on_record: Sessions) -> dict[str, Complaint]:
    with on_record() as session:
        return {row.complaint_id: row for row in session.scalars(select(Complaint))}


def trail(on_record: Sessions) -> list[tuple[str, str]]:
    with on_record() as session:
        return [(line.actor, line.text) for line in session.scalars(select(AuditLine).order_by(AuditLine.id))]


def test_complaints_are_put_on_record_as_they_came(on_record: Sessions) -> None:
    fraud = "热线,C2,4008001234,fraud,2026-03-11T01:00:00Z,索要验证码,2026-03-12 10:00"
    assert bring_in(on_record, What.COMPLAINTS, LINES[What.COMPLAINTS], fraud) == Loaded(2, 0, 0)
    first, second = complaints(on_record).values()
    assert (first.channel, first.number, first.text) == ("热线", "4008001234", "三次申请均未办理")
    assert (first.kind, first.received_at, first.answered_at) == (
        ComplaintKind.SERVICE,
        shanghai("2026-03-10", "09:20"),
        None,
    )
    assert (second.kind, second.received_at, second.answered_at) == (
        ComplaintKind.FRAUD,
        datetime(2026, 3, 11, 1, tzinfo=UTC),
        shanghai("2026-03-12"),
    )
    assert trail(on_record) == [("李敏", "Complaints imported: 2 added, 0 brought up to date")]


def test_an_observation_keeps_who_was_the_certified_customer_when_it_came(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    bring_in(on_record, What.OBSERVATIONS, LINES[What.OBSERVATIONS], f"O2,{number},2026-03-10,兴旺家教,公示")
    with on_record() as session:
        unknown, known = session.scalars(select(ObservedUse).order_by(ObservedUse.observation_id))
    assert (unknown.user, unknown.how, unknown.customer) == ("武汉安顺搬家", "拨测", None)
    assert (known.observed_at, known.customer) == (shanghai("2026-03-10", "00:00"), f"乙{number}商贸有限公司")


def test_an_alert_about_a_number_that_is_not_on_record_is_kept(on_record: Sessions) -> None:
    bring_in(on_record, What.ALERTS, LINES[What.ALERTS])
    with on_record() as session:
        [alert] = session.scalars(select(OperatorAlert))
    assert (alert.operator, alert.alert_id, alert.number) == ("中国电信", "YJ-1", "4008001234")


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_is_brought_in_again_changes_nothing(on_record: Sessions, what: What) -> None:
    assert bring_in(on_record, what, LINES[what]) == Loaded(1, 0, 0)
    assert bring_in(on_record, what, LINES[what]) == Loaded(0, 0, 1)
    assert len(trail(on_record)) == 1


def test_a_complaint_that_comes_again_answered_is_answered_for_good(on_record: Sessions) -> None:
    open_ = LINES[What.COMPLAINTS]
    bring_in(on_record, What.COMPLAINTS, open_)
    assert bring_in(on_record, What.COMPLAINTS, open_ + "2026-03-12 10:00") == Loaded(0, 1, 0)
    assert complaints(on_record)["C1"].answered_at == shanghai("2026-03-12")
    assert bring_in(on_record, What.COMPLAINTS, open_) == Loaded(0, 0, 1), "an older file"
    assert complaints(on_record)["C1"].answered_at == shanghai("2026-03-12")


def test_two_channels_may_use_the_same_id(on_record: Sessions) -> None:
    first = LINES[What.COMPLAINTS]
    assert bring_in(on_record, What.COMPLAINTS, first, first.replace("热线", "微信")) == Loaded(2, 0, 0)


def test_nothing_is_loaded_when_a_row_was_about_another_number_or_kind_before(on_record: Sessions) -> None:
    line = LINES[What.COMPLAINTS]
    bring_in(on_record, What.COMPLAINTS, line, line.replace("C1", "C2"))
    with pytest.raises(Refused) as refused:
        bring_in(
            on_record,
            What.COMPLAINTS,
            line.replace("C1", "C3"),
            line.replace("1234", "1235"),
            line.replace("C1", "C2").replace("service", "fraud"),
        )
    assert list(map(str, refused.value.problems)) == [
        "line 3, column number: 热线/C1 came before, about 4008001234",
        "line 4, column kind: 热线/C2 came before, about service",
    ]
    assert set(complaints(on_record)) == {"C1", "C2"}


def test_all_problems_are_named_at_once_with_line_and_column() -> None:
    text = a_file(
        What.COMPLAINTS,
        LINES[What.COMPLAINTS],
        "热线,C2,95588,theft,2026-03-10 09:20,x,",
        "热线,C3,4008001234,service,昨天,x,soon",
        "热/线,C4,4008001234,service,2026-03-10, ,",
        "热线,C1,4008001234,service,2026-03-10,x,",
        "热线,C5,4008001234,service,2026-03-10,x,2026-03-09",
        "热线,C6,4008001234,service,2026-03-10,x,,y",
        "热线,C7",
    )
    assert [(problem.line, problem.column) for problem in problems(What.COMPLAINTS, text)] == [
        (3, "number"),
        (3, "kind"),
        (4, "received_at"),
        (4, "answered_at"),
        (5, "channel"),
        (5, "text"),
        (6, "complaint_id"),
        (7, "answered_at"),
        (8, "-"),
        (9, "number"),
        (9, "kind"),
        (9, "received_at"),
        (9, "text"),
    ]


def test_a_problem_says_what_to_look_for() -> None:
    line = LINES[What.OBSERVATIONS]
    told = problems(What.OBSERVATIONS, a_file(What.OBSERVATIONS, line, line, line.replace("2026", "26")))
    assert list(map(str, told)) == [
        "line 3, column observation_id: O1 stands on line 2 already",
        "line 4, column observed_at: '26-03-10 09:20' is no moment: write it like 2026-11-23 09:12",
    ]


def test_a_column_that_is_missing_is_named() -> None:
    text = a_file(What.ALERTS, LINES[What.ALERTS]).replace("raised_at", "时间")
    assert list(map(str, problems(What.ALERTS, text))) == ["line 1, column raised_at: column is missing"]


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-03-10 09:20", shanghai("2026-03-10", "09:20")),
        ("2026-03-10T09:20:00+08:00", shanghai("2026-03-10", "09:20")),
        ("2026-03-10T01:20Z", shanghai("2026-03-10", "09:20")),
        ("2026/3/10 9:20", shanghai("2026-03-10", "09:20")),
        ("2026/3/10 9:20:30", shanghai("2026-03-10", "09:20:30")),
        ("2026/3/10", shanghai("2026-03-10", "00:00")),
        ("2026-03-10", shanghai("2026-03-10", "00:00")),
    ],
)
def test_a_moment_is_understood_as_systems_and_spreadsheets_write_it(cell: str, moment: datetime) -> None:
    [row] = observations.read(
        a_file(What.OBSERVATIONS, LINES[What.OBSERVATIONS].replace("2026-03-10 09:20", cell)),
        What.OBSERVATIONS,
    ).values()
    assert isinstance(row, observations.ObservationRow)
    assert row.observed_at == moment
    assert row.observed_at.utcoffset() in (timedelta(hours=8), timedelta())


@pytest.mark.parametrize("cell", ["", "46122", "10.03.2026", "03/10/2026", "2026-02-30", "1026-03-10", "0"])
def test_what_is_no_moment_is_refused(cell: str) -> None:
    text = a_file(What.OBSERVATIONS, LINES[What.OBSERVATIONS].replace("2026-03-10 09:20", cell))
    assert {problem.column for problem in problems(What.OBSERVATIONS, text)} == {"observed_at"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("what", OTHERS)
def test_a_file_is_read_in_every_encoding_and_told_by_its_columns(what: What, encoding: str) -> None:
    text = a_file(what, LINES[what])
    decoded = decode(text.encode(encoding))
    assert told_by_heading(decoded) is what
    assert observations.read(decoded, what) == observations.read(text, what)


def test_a_file_with_other_columns_beside_its_own_is_told_all_the_same() -> None:
    text = f"customer,contact,{HEADINGS[What.ALERTS]}\r\n乙,王芳,{LINES[What.ALERTS]}\r\n"
    assert told_by_heading(text) is What.ALERTS
    assert len(observations.read(text, What.ALERTS)) == 1


@given(
    st.sampled_from(OTHERS),
    st.text() | st.text(alphabet='",\r\n\x00a') | st.sampled_from(list(LINES.values())),
)
def test_whatever_the_file_it_is_read_or_refused(what: What, content: str) -> None:
    for text in (content, a_file(what, content)):
        told_by_heading(text)
        try:
            observations.read(text, what)
        except Refused as refused:
            assert refused.problems


def test_the_sample_registry_is_told_by_its_columns() -> None:
    assert told_by_heading(decode((SAMPLES / "registry.csv").read_bytes())) is What.NUMBERS
    assert told_by_heading("") is What.NUMBERS
