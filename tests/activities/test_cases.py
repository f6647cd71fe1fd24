"""Cases on record: opened once, joined by further reports, closed."""

import re
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from activities.cases import AddLine, AlreadyHandled, Cases, JoinReport, Opening
from activities.step import Refused
from registry import audit
from registry.models import Case, Number, ReportRow
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import Stage
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
    assert re.fullmatch(r"SS-2026-\d{5}", opened.case_no)
    assert (opened.agent_id, opened.agent_name, opened.number) == ("A-7", "甲通信有限公司", number)
    assert opened.policy.effective == date(2017, 2, 16)
    assert (opened.line.at, opened.line.by) == (OPENED, "李敏")
    assert "monitor/R-1" in opened.line.text
    [case] = cases(on_record)
    assert (case.case_no, case.policy, case.opened_at) == (
        opened.case_no,
        opened.policy.effective,
        OPENED,
    )


def test_the_year_in_a_case_number_is_shanghai_s(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    assert steps.open(number, datetime(2026, 12, 31, 16, tzinfo=UTC)).case_no.startswith("SS-2027-")


def test_a_case_that_was_opened_twice_is_one(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    report = a_report(number)
    assert steps.try_to_open(report) == steps.try_to_open(report, shanghai("2026-02-13"), "another run")
    assert len(cases(on_record)) == 1


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


def test_a_report_never_moves_to_the_case_of_another_number(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    report = a_report(first)
    opened = steps.open(report)
    with pytest.raises(Refused, match="monitor"):
        steps.try_to_open(a_report(second, report_id=report.report_id))
    with on_record() as session:
        assert session.scalars(select(ReportRow.case_no)).all() == [opened.case_no]


def test_no_case_is_opened_about_a_number_that_no_agent_holds(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    steps.reclaim(steps.open(first).case_no)
    with pytest.raises(Refused, match="is quarantined until 2026-03-14"):
        steps.open(second)
    with pytest.raises(Refused, match="400-999-9999 is not in the registry"):
        steps.open("4009999999")
    assert len(cases(on_record)) == 1


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
