"""Cases on record: opened once, joined by further reports, closed."""

import re
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from activities.cases import (
    AddLine,
    AlreadyHandled,
    CaseOpened,
    Cases,
    FindCase,
    JoinReport,
    Opening,
    OthersOpen,
)
from activities.numbers import AsOf, Numbers
from activities.step import Refused
from registry import audit
from registry.models import Case, Number, ReportRow
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import Kind, Stage
from tests.activities.conftest import OPENED, Steps
from tests.registry.conftest import at_once
from tests.world import a_report, an_agent, shanghai


def cases(on_record: Sessions) -> list[Case]:
    with on_record() as session:
        return list(session.scalars(select(Case).order_by(Case.case_no)))


def join(on_record: Sessions, case_no: str, report: Report) -> str:
    order = JoinReport(case_no=case_no, step=f"report-{report.key}", at=OPENED, report=report)
    return Cases(on_record).join_report(order).line.text


def test_a_report_opens_a_case_under_the_policy_in_force(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record, agent_id="A-7", name="甲通信有限公司")
    opened = steps.open(a_report(number, reported_by="李敏", report_id="R-1"))
    assert re.fullmatch(r"SS-2026-\d{5,}", opened.case_no)
    assert (opened.agent_id, opened.agent_name, opened.number) == ("A-7", "甲通信有限公司", number)
    assert opened.policy == date(2017, 2, 16)
    assert (opened.line.at, opened.line.by) == (OPENED, "李敏")
    assert "monitor/R-1" in opened.line.text
    [case] = cases(on_record)
    assert (case.case_no, case.policy, case.opened_at) == (opened.case_no, opened.policy, OPENED)


def test_the_year_in_a_case_number_is_shanghai_s(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    assert steps.open(number, datetime(2026, 12, 31, 16, tzinfo=UTC)).case_no.startswith("SS-2027-")


def test_a_case_that_was_opened_twice_is_one(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    report = a_report(number)
    assert steps.try_to_open(report) == steps.try_to_open(report, shanghai("2026-02-13"), "another run")
    assert len(cases(on_record)) == 1


def test_a_step_is_done_to_the_case_that_its_workflow_has_opened_and_to_no_other(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    told = {"step": "fact", "at": OPENED, "text": "a fact"}
    other = AddLine(case_no=case_no, opened=shanghai("2026-02-11"), **told)
    with pytest.raises(audit.OtherCase, match=f"case {case_no} is another, opened on 2026-02-12"):
        Cases(on_record).add_line(other)
    with pytest.raises(audit.OtherCase, match="case SS-2026-99999 is not on record"):
        Cases(on_record).add_line(AddLine(case_no="SS-2026-99999", opened=OPENED, **told))
    with on_record() as session:
        assert "a fact" not in [line.text for line in audit.trail(session, case_no)]
    Cases(on_record).add_line(AddLine(case_no=case_no, opened=OPENED, **told))
    with on_record() as session:
        assert [line.text for line in audit.trail(session, case_no)].count("a fact") == 1


@pytest.mark.parametrize(
    ("kind", "prefix"), [(Kind.FRAUD, "FR"), (Kind.SECONDARY_SALE, "SS"), (Kind.SERVICE_FAILURE, "SF")]
)
def test_a_number_may_have_one_open_case_of_each_kind(
    on_record: Sessions, steps: Steps, kind: Kind, prefix: str
) -> None:
    [number] = an_agent(on_record)
    others = [steps.open(number, kind=other).case_no for other in Kind if other is not kind]
    case_no = steps.open(number, kind=kind).case_no
    assert case_no.startswith(f"{prefix}-2026-")
    assert [case.case_no for case in cases(on_record) if case.kind is kind] == [case_no]
    assert len(cases(on_record)) == len(others) + 1


@pytest.mark.parametrize("same_report", [True, False])
def test_a_number_reported_by_many_at_once_has_one_case(
    on_record: Sessions, steps: Steps, same_report: bool
) -> None:
    [number] = an_agent(on_record)
    reports = [a_report(number)] * 4 if same_report else [a_report(number) for _ in range(4)]

    def opening(report: Report) -> Opening:
        try:
            return steps.try_to_open(report)
        except IntegrityError:  # Temporal tries again
            return steps.try_to_open(report)

    openings = at_once(
        on_record, select(Number), *(lambda report=report: opening(report) for report in reports)
    )
    [case] = cases(on_record)
    assert {opening.opened.case_no for opening in openings if opening.opened} == {case.case_no}


def test_a_further_report_joins_the_open_case_as_evidence(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    opened = steps.open(number)
    report = a_report(number)
    first, again = (join(on_record, opened.case_no, report) for _ in range(2))
    assert first == again == f"Report {report.key} joined the case as evidence"
    with on_record() as session:
        assert set(session.scalars(select(ReportRow.case_no))) == {opened.case_no}
        assert len(audit.trail(session, opened.case_no)) == 2


def test_a_report_that_a_closed_case_handled_opens_no_other(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    report = a_report(number)
    first = steps.open(report).case_no
    steps.close(first)
    assert steps.try_to_open(report) == Opening(already=AlreadyHandled(handled_in=first))
    second = steps.open(number).case_no
    assert "not counted again" in join(on_record, second, report)
    with on_record() as session:
        owner = select(ReportRow.case_no).where(ReportRow.report_id == report.report_id)
        assert session.scalar(owner) == first


def test_a_violation_reported_after_its_case_closed_opens_a_new_one(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    first = steps.open(number).case_no
    steps.close(first, Stage.SETTLED)
    second = steps.open(number).case_no
    assert first != second
    assert [(case.case_no, case.outcome) for case in cases(on_record)] == [
        (first, Stage.SETTLED),
        (second, None),
    ]


def test_a_case_that_is_closed_stays_as_it_was_closed(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.close(case_no, Stage.RECTIFIED)
    steps.close(case_no, Stage.DISMISSED, shanghai("2026-03-02"))
    [case] = cases(on_record)
    assert (case.outcome, case.closed_at) == (Stage.RECTIFIED, OPENED)


def test_a_report_never_moves_to_the_case_of_another_number(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    report = a_report(first)
    opened = steps.open(report)
    with pytest.raises(Refused, match="monitor"):
        steps.try_to_open(a_report(second, report_id=report.report_id))
    with on_record() as session:
        assert session.scalars(select(ReportRow.case_no)).all() == [opened.case_no]


def test_no_case_is_opened_about_a_number_that_no_agent_holds(on_record: Sessions, steps: Steps) -> None:
    first, second, third = an_agent(on_record, numbers=3)
    steps.take_back(steps.open(first, kind=Kind.SERVICE_FAILURE).case_no)
    with pytest.raises(Refused, match="is not in an agent's hands: active"):
        steps.open(first)
    steps.reclaim(steps.open(second).case_no)
    with pytest.raises(Refused, match="is not in an agent's hands: quarantined until 2026-03-14"):
        steps.open(third)
    Numbers(on_record).end_quarantines(AsOf(at=shanghai("2026-03-15")))
    with pytest.raises(Refused, match="is not in an agent's hands: free"):
        steps.open(third)
    with pytest.raises(Refused, match="400-999-9999 is not in the registry"):
        steps.open("4009999999")
    assert len(cases(on_record)) == 2


def find(on_record: Sessions, case_no: str) -> CaseOpened:
    return Cases(on_record).find_case(FindCase(case_no=case_no))


def others_open(on_record: Sessions, case_no: str, own: bool = False) -> list[str]:
    return Cases(on_record).others_open(OthersOpen(case_no=case_no, own=own))


def test_a_fraud_may_be_found_serious_while_it_is_open_and_after_it(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    opened = steps.open(number, kind=Kind.FRAUD)
    assert find(on_record, opened.case_no) == opened
    steps.settle(opened.case_no)
    assert find(on_record, opened.case_no) == opened


def test_what_cannot_be_found_serious_is_refused_with_the_reason(on_record: Sessions, steps: Steps) -> None:
    sold, wrong, closed, another = an_agent(on_record, numbers=4, agent_id="A7")
    sale = steps.open(sold).case_no
    dismissed, serious, too_late = (
        steps.open(number, kind=Kind.FRAUD).case_no for number in (wrong, closed, another)
    )
    steps.close(dismissed, Stage.DISMISSED)
    for case_no in ("FR-2026-99999", sale):
        with pytest.raises(Refused, match=f"there is no case of fraud {case_no}"):
            find(on_record, case_no)
    with pytest.raises(Refused, match=f"case {dismissed} was dismissed"):
        find(on_record, dismissed)
    steps.suspend(serious)
    steps.close_account(serious)
    for case_no in (serious, too_late):
        with pytest.raises(Refused, match="the account of agent A7 is closed for good already"):
            find(on_record, case_no)


def test_the_agent_s_other_open_cases_are_known_by_their_workflows(on_record: Sessions, steps: Steps) -> None:
    number, other, ended = an_agent(on_record, numbers=3)
    [innocent] = an_agent(on_record)
    case_no = steps.open(number, kind=Kind.FRAUD).case_no
    for reported in (other, ended, innocent):
        steps.open(reported)
    steps.open(number)
    steps.close(_case_of(on_record, ended))
    assert others_open(on_record, case_no) == [f"secondary-sale-{other}", f"secondary-sale-{number}"]
    assert others_open(on_record, case_no, own=True)[0] == f"fraud-{number}"
    steps.close(case_no)
    assert f"fraud-{number}" not in others_open(on_record, case_no, own=True)


@pytest.mark.parametrize("case_comes_first", [True, False])
def test_a_shutdown_finds_the_case_that_opens_at_the_same_moment_or_the_case_finds_the_number_gone(
    on_record: Sessions, steps: Steps, case_comes_first: bool
) -> None:
    number, other = an_agent(on_record, numbers=2)
    case_no = steps.open(other).case_no
    steps.shut_down(case_no)

    def opens() -> list[str]:
        try:
            steps.open(number)
        except Refused:
            return ["refused"]
        return ["opened"]

    def shuts() -> list[str]:
        steps.reclaim(case_no)
        return others_open(on_record, case_no)

    calls = (opens, shuts) if case_comes_first else (shuts, opens)
    came = at_once(on_record, select(Number), *calls)
    expected = [["opened"], [f"secondary-sale-{number}"]] if case_comes_first else [[], ["refused"]]
    assert came == expected


def _case_of(on_record: Sessions, number: str) -> str:
    [case_no] = [case.case_no for case in cases(on_record) if case.number == number]
    return case_no


@pytest.mark.parametrize(
    "facts", ["登记\x00客户", "𠮷" * 4000, "\r\nBcc: x\u202e{{7*7}}'; drop table cases; --"]
)
def test_a_case_can_be_opened_whatever_the_facts(on_record: Sessions, steps: Steps, facts: str) -> None:
    [number] = an_agent(on_record)
    report = a_report(number, facts=facts)
    steps.open(report)
    with on_record() as session:
        assert Report.model_validate(session.scalar(select(ReportRow.payload))) == report


def test_a_fact_of_the_story_is_told_once(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    for text in ("rectification reported", "reported again by a retry"):
        order = AddLine(case_no=case_no, step="reported", at=OPENED, by="agent\n", text=text)
        Cases(on_record).add_line(order)
    with on_record() as session:
        last = audit.trail(session, case_no)[1:]
    assert [(line.by, line.text) for line in last] == [("agent", "rectification reported")]
