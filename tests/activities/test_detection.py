"""What follows from the evidence on record goes into the inbox: once, and fairly."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from activities.detection import Detected, Detections, violations
from activities.numbers import AsOf
from registry import importer, observations
from registry.models import (
    AuditLine,
    Base,
    CalendarDay,
    Complaint,
    Incoming,
    Number,
    ObservedUse,
    OperatorAlert,
)
from registry.session import Sessions
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import ComplaintKind, IncomingStatus, Kind, Stage, operator_of, written
from tests.activities.conftest import Steps
from tests.world import an_agent, shanghai

NOW = shanghai("2026-03-20")
SAMPLES = Path(__file__).parent.parent.parent / "samples"


def put(on_record: Sessions, *rows: Base) -> None:
    with on_record.begin() as session:
        session.add_all(rows)


def a_complaint(number: str, named: str = "C1", on: str = "2026-03-10", **said: Any) -> Complaint:
    described = {
        "channel": "热线",
        "complaint_id": named,
        "number": number,
        "kind": ComplaintKind.SERVICE,
        "received_at": shanghai(on),
        "text": "三次申请均未办理",
    }
    return Complaint(**described | said)


def a_use(number: str, named: str, on: str = "2026-03-10", user: str = "武汉安顺搬家") -> ObservedUse:
    return ObservedUse(observation_id=named, number=number, observed_at=shanghai(on), user=user, how="拨测")


def an_alert(number: str, named: str = "YJ-1", on: str = "2026-03-10") -> OperatorAlert:
    operator = operator_of(number)
    return OperatorAlert(
        operator=operator, alert_id=named, number=number, raised_at=shanghai(on), text="冒充客服退款"
    )


def detect(on_record: Sessions, on: str = "2026-03-20", at: str = "10:00") -> Detected:
    return Detections(on_record).detect(AsOf(at=shanghai(on, at)))


def reports(on_record: Sessions) -> list[Report]:
    """What is in the inbox, as its monitor understands it."""
    with on_record() as session:
        rows = session.scalars(select(Incoming).order_by(Incoming.id)).all()
    assert {(row.source, row.via, row.status) for row in rows} <= {
        ("detection", "detection", IncomingStatus.WAITING)
    }
    return [Report.model_validate(row.payload) for row in rows]


def kinds(on_record: Sessions) -> list[Kind]:
    return [report.kind for report in reports(on_record)]


def held_back(on_record: Sessions) -> list[str | None]:
    with on_record() as session:
        return [one.held_back for one in violations(session, in_force(NOW.date()), NOW)]


def test_what_the_evidence_adds_up_to_goes_into_the_inbox_in_one_act(on_record: Sessions) -> None:
    first, second, third = an_agent(on_record, numbers=3)
    put(on_record, a_complaint(first), a_use(second, "O1"), a_use(second, "O2"), an_alert(third))
    detected = detect(on_record)
    assert detected.reports == dict.fromkeys(Kind, 1)
    assert detected.evidence == 4
    told = {report.kind: report for report in reports(on_record)}
    assert {kind: report.number for kind, report in told.items()} == {
        Kind.SERVICE_FAILURE: first,
        Kind.SECONDARY_SALE: second,
        Kind.FRAUD: third,
    }
    assert told[Kind.SECONDARY_SALE].facts.startswith(f"实名登记客户为“乙{second}商贸有限公司”，30日内2次")
    with on_record() as session:
        [line] = session.scalars(select(AuditLine))
        marked = [row.reported_in for row in session.scalars(select(ObservedUse))]
    assert (line.case_no, line.actor, line.at) == (None, "enforce", NOW)
    assert line.text == (
        "Detection: 3 reports (1 of fraud, 1 of secondary sale, 1 of service failure) "
        "from 4 complaints, observations and alerts"
    )
    assert marked == [told[Kind.SECONDARY_SALE].report_id] * 2


def test_done_again_it_reports_nothing_and_says_nothing(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    put(on_record, a_complaint(number), an_alert(number))
    detect(on_record)
    for later in ("2026-03-20", "2026-03-21", "2026-04-01"):
        assert detect(on_record, later) == Detected(reports={}, evidence=0)
    assert len(reports(on_record)) == 2
    with on_record() as session:
        assert len(session.scalars(select(AuditLine)).all()) == 1


def test_of_many_runs_at_once_one_reports(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    put(on_record, a_use(number, "O1"), a_use(number, "O2"), an_alert(number))
    with ThreadPoolExecutor(4) as pool:
        detected = list(pool.map(lambda _: detect(on_record), range(8)))
    assert sorted(one.evidence for one in detected) == [0] * 7 + [3]
    assert len(reports(on_record)) == 2


def test_further_evidence_is_one_report_on_the_next_day(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    put(on_record, an_alert(number))
    detect(on_record, at="09:15")
    put(on_record, an_alert(number, "YJ-2"))
    detect(on_record, at="10:15")
    put(on_record, an_alert(number, "YJ-3"))
    detect(on_record, at="23:15")
    assert len(reports(on_record)) == 1
    detect(on_record, "2026-03-21", "00:15")
    _, further = reports(on_record)
    assert "YJ-2" in further.facts
    assert "YJ-3" in further.facts
    assert "YJ-1" not in further.facts


def test_the_registrys_working_days_count(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    put(on_record, a_complaint(number, on="2026-03-16"))  # the third working day is Thursday the 19th
    put(on_record, CalendarDay(day=shanghai("2026-03-18").date(), closing=True, works=False, reason="搬迁"))
    detect(on_record)
    assert kinds(on_record) == []
    detect(on_record, "2026-03-21")
    assert kinds(on_record) == [Kind.SERVICE_FAILURE]


def test_a_number_that_is_not_on_record_is_reported(on_record: Sessions) -> None:
    put(on_record, an_alert("4008009999"))
    detect(on_record)
    assert [report.number for report in reports(on_record)] == ["4008009999"]


def test_evidence_from_before_the_last_case_of_the_kind_ended_is_not_reported(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number, shanghai("2026-03-01")).case_no
    put(on_record, a_use(number, "O1", "2026-03-05"), a_use(number, "O2", "2026-03-10"))
    steps.close(case_no, Stage.DISMISSED, shanghai("2026-03-09"))
    detect(on_record)
    assert kinds(on_record) == []
    put(on_record, a_use(number, "O3", "2026-03-11"))
    detect(on_record)
    [report] = reports(on_record)
    assert "O1" not in report.facts


def test_a_case_of_another_kind_or_number_does_not_matter(on_record: Sessions, steps: Steps) -> None:
    number, other = an_agent(on_record, numbers=2)
    for one, kind in ((number, Kind.SERVICE_FAILURE), (other, Kind.SECONDARY_SALE)):
        steps.close(steps.open(one, kind=kind).case_no, at=shanghai("2026-03-19"))
    put(on_record, a_use(number, "O1"), a_use(number, "O2"))
    detect(on_record)
    assert kinds(on_record) == [Kind.SECONDARY_SALE]


def test_new_evidence_joins_the_open_case_of_a_frozen_number_and_nothing_else_is_reported(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    steps.freeze(steps.open(number, kind=Kind.FRAUD).case_no)
    put(on_record, an_alert(number), a_complaint(number))
    detect(on_record)
    assert kinds(on_record) == [Kind.FRAUD]
    assert held_back(on_record) == ["the number is frozen"]


@pytest.mark.parametrize(
    ("take", "why"),
    [
        ("reclaim", "the number is quarantined until 2026-03-14"),
        ("take_back", "the platform serves its customer directly"),
    ],
)
def test_nothing_is_reported_about_a_number_that_the_platform_has_but_officers_can_see_it(
    on_record: Sessions, steps: Steps, take: str, why: str
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    getattr(steps, take)(case_no)
    put(on_record, an_alert(number), a_complaint(number))
    assert detect(on_record).reports == {}
    assert held_back(on_record) == [why, why]


def test_what_came_in_while_the_platform_had_the_number_is_not_held_against_its_agent(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(case_no)
    steps.close(case_no, Stage.SETTLED)
    put(on_record, a_complaint(number, on="2026-02-12"))
    assert detect(on_record).reports == {}
    steps.unfreeze(case_no)  # at the same moment
    assert detect(on_record).reports == {}
    put(on_record, a_complaint(number, "C2", "2026-02-13"))
    detect(on_record)
    [report] = reports(on_record)
    assert "共1件" in report.facts


def test_the_later_counts_of_the_end_of_a_case_and_the_end_of_a_freeze(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    fraud = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(fraud)
    steps.close(fraud, Stage.SETTLED)
    steps.unfreeze(fraud)
    steps.close(steps.open(number, kind=Kind.SERVICE_FAILURE).case_no, at=shanghai("2026-03-05"))
    put(on_record, a_complaint(number, "C1", "2026-03-02"), a_complaint(number, "C2", "2026-03-06"))
    detect(on_record)
    [report] = reports(on_record)
    assert ("C1" in report.facts, "C2" in report.facts) == (False, True)


def test_a_customer_who_was_certified_when_the_observation_came_is_no_other_user(
    on_record: Sessions,
) -> None:
    [number] = an_agent(on_record)
    heading = "observation_id,number,observed_at,user,how\n"
    lines = "".join(f"O{n},{number},2026-03-1{n},乙{number}商贸,拨测\n" for n in range(2))
    what = observations.What.OBSERVATIONS
    with on_record.begin() as session:
        observations.load(session, observations.read(heading + lines, what), what, NOW, "李敏")
        session.execute(update(Number).values(customer="丙餐饮有限公司"))
    assert detect(on_record).reports == {}


def test_the_samples_make_each_kind_of_report(on_record: Sessions) -> None:
    with on_record.begin() as session:
        for name in ("registry", "complaints", "observations", "alerts"):
            text = importer.decode((SAMPLES / f"{name}.csv").read_bytes())
            what = observations.told_by_heading(text)
            if what is observations.What.NUMBERS:
                importer.load(session, importer.read(text), NOW, "李敏")
            else:
                assert what == name
                observations.load(session, observations.read(text, what), what, NOW, "李敏")
    detect(on_record, "2026-11-24")
    assert {(report.kind, written(report.number)) for report in reports(on_record)} == {
        (Kind.SERVICE_FAILURE, "400-165-7322"),
        (Kind.SECONDARY_SALE, "400-089-8575"),
        (Kind.FRAUD, "400-724-9219"),
        (Kind.FRAUD, "400-774-3758"),
        (Kind.FRAUD, "400-800-0000"),
    }
    detect(on_record, "2026-11-27")
    assert written(reports(on_record)[-1].number) == "400-160-7492"
    assert len(reports(on_record)) == 6


def test_much_evidence_is_reported_in_one_go(on_record: Sessions) -> None:
    numbers = an_agent(on_record, numbers=300)
    put(on_record, *(a_complaint(n, f"{n}-{serial}") for n in numbers for serial in range(3)))
    detected = detect(on_record)
    assert (detected.reports, detected.evidence) == ({Kind.SERVICE_FAILURE: 300}, 900)
    assert len(reports(on_record)) == 300
    assert detect(on_record, "2026-03-21").evidence == 0


def test_what_is_still_to_come_is_not_reported(on_record: Sessions) -> None:
    [number] = an_agent(on_record)
    put(on_record, an_alert(number, on="2026-03-21"))
    assert detect(on_record).reports == {}
    tomorrow = NOW + timedelta(days=1)
    assert Detections(on_record).detect(AsOf(at=tomorrow)).reports == {Kind.FRAUD: 1}
