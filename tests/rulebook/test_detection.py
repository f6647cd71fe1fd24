"""What the platform's own checks report: enough evidence of a violation, recent, and not yet dealt with."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rulebook.detection import Complaint, Evidence, Found, ObservedUse, OperatorAlert, Record, differs, found
from rulebook.policy import in_force
from rulebook.vocabulary import ComplaintKind, Kind
from rulebook.working_days import Calendar
from tests.world import shanghai

ANNOUNCED = in_force(date(2026, 1, 1)).detection
CALENDAR = Calendar()
CUSTOMER = "杭州诚品旅行社有限公司"
NOW = shanghai("2026-03-20")


def a_complaint(serial: int = 1, at: str = "2026-03-10", kind: str = "service", **said: Any) -> Complaint:
    described = {
        "channel": "热线",
        "complaint_id": f"C{serial}",
        "kind": kind,
        "received_at": shanghai(at),
        "text": "无人办理",
    }
    return Complaint.model_validate(described | said)


def a_use(serial: int = 1, at: str = "2026-03-10", user: str = "武汉安顺搬家", **said: Any) -> ObservedUse:
    described = {"observation_id": f"O{serial}", "observed_at": shanghai(at), "user": user, "how": "拨测"}
    return ObservedUse.model_validate(described | said)


def an_alert(serial: int = 1, at: str = "2026-03-10") -> OperatorAlert:
    said = "涉诈"
    return OperatorAlert(operator="中国电信", alert_id=f"A{serial}", raised_at=shanghai(at), text=said)


def frauds(*days: str) -> list[Evidence]:
    return [a_complaint(serial, day, "fraud") for serial, day in enumerate(days)]


def follows(
    *evidence: Evidence, now: datetime = NOW, calendar: Calendar = CALENDAR, **said: Any
) -> list[Found]:
    """What follows about a number in use, as its record says otherwise."""
    record = Record(number="4008001234", evidence=evidence, **{"customer": CUSTOMER} | said)
    return found(record, ANNOUNCED, calendar, now)


def kinds(*evidence: Evidence, now: datetime = NOW, **said: Any) -> list[Kind]:
    """The kinds that are reported."""
    return [one.kind for one in follows(*evidence, now=now, **said) if not one.held_back]


# 3: complaints that nobody answers


@pytest.mark.parametrize(
    ("received", "last_day"),
    [
        ("2026-03-10", "2026-03-13"),
        ("2026-03-13", "2026-03-18"),  # a weekend between
        ("2026-02-12", "2026-02-24"),  # Spring Festival, with its make-up weekend
        ("2026-09-30", "2026-10-10"),  # the National Day holiday; the Saturday after it is worked
    ],
)
def test_a_complaint_is_a_service_failure_once_three_working_days_have_passed_and_not_before(
    received: str, last_day: str
) -> None:
    complaint = a_complaint(at=received)
    midnight = shanghai(last_day, "24:00")
    assert kinds(complaint, now=midnight - timedelta(seconds=1)) == []
    assert kinds(complaint, now=midnight) == [Kind.SERVICE_FAILURE]


def test_a_day_on_which_the_platform_is_closed_does_not_count_against_the_agent() -> None:
    closed = Calendar(closing=frozenset({date(2026, 3, 12)}))
    friday = shanghai("2026-03-13", "24:00")
    assert follows(a_complaint(), now=friday, calendar=closed) == []
    assert len(follows(a_complaint(), now=friday)) == 1


def test_a_complaint_that_was_answered_even_late_is_no_service_failure() -> None:
    assert kinds(a_complaint(answered_at=shanghai("2026-03-19"))) == []


def test_complaints_that_are_late_together_are_one_report() -> None:
    [report] = follows(a_complaint(1), a_complaint(2), a_complaint(3, "2026-03-19"))
    assert [row.key for row in report.evidence] == ["complaint 热线/C1", "complaint 热线/C2"]


# 2: somebody else uses the number


def test_a_secondary_sale_needs_two_observations_of_another_user_within_30_days() -> None:
    assert kinds(a_use(1)) == []
    assert kinds(a_use(1), a_use(2, user=CUSTOMER)) == []
    assert kinds(a_use(1), a_use(2, user="兴旺家教")) == [Kind.SECONDARY_SALE]


def test_an_observation_counts_for_30_days_to_the_moment() -> None:
    first, second = a_use(1, "2026-03-01"), a_use(2, "2026-03-20")
    last = shanghai("2026-03-31")
    assert kinds(first, second, now=last) == [Kind.SECONDARY_SALE]
    assert kinds(first, second, now=last + timedelta(seconds=1)) == []


@pytest.mark.parametrize(
    "user",
    [
        CUSTOMER,
        "杭州诚品旅行社",
        " 杭州 诚品 旅行社(有限公司) ",
        "杭州诚品旅行社（集团）有限责任公司",
        "诚品旅行社",
        "杭州诚品旅行社 滨江分公司",
        "“杭州诚品旅行社”",
        "有限公司",
        "不详",
        "。",
        "无人接听",
    ],
)
def test_who_may_be_the_certified_customer_is_not_another_user(user: str) -> None:
    assert not differs(user, CUSTOMER)


@pytest.mark.parametrize("user", ["武汉安顺搬家", "杭州诚信旅行社有限公司", "兴旺家教", "王先生"])
def test_who_is_certainly_not_the_certified_customer_is_another_user(user: str) -> None:
    assert differs(user, CUSTOMER)


@pytest.mark.parametrize(
    ("user", "customer"),
    [("ＳＴＡＲ trading", "Star Trading Co., Ltd."), ("star-trading inc", "STAR TRADING LIMITED")],
)
def test_width_case_and_forms_of_company_make_no_other_user(user: str, customer: str) -> None:
    assert not differs(user, customer)


@given(st.text(min_size=1), st.sampled_from(["有限公司", "(集团)", "　", "！", " Co., Ltd", ""]))
def test_a_name_with_ornaments_is_never_another_user(name: str, ornament: str) -> None:
    assert not differs(name + ornament, name)
    assert not differs(ornament + name, name)


def test_who_was_the_certified_customer_when_it_was_observed_is_not_another_user() -> None:
    before = "武汉安顺搬家有限公司"
    assert kinds(a_use(1, customer=before), a_use(2, customer=before)) == []
    assert kinds(a_use(1, customer=before), a_use(2), a_use(3)) == [Kind.SECONDARY_SALE]


# 1: fraud


def test_three_complaints_about_fraud_within_30_days_are_a_fraud() -> None:
    assert kinds(*frauds("2026-03-01", "2026-03-10")) == []
    assert kinds(*frauds("2026-02-01", "2026-03-01", "2026-03-10")) == []
    assert kinds(*frauds("2026-03-01", "2026-03-10", "2026-03-20")) == [Kind.FRAUD]


def test_complaints_about_service_are_no_evidence_of_fraud() -> None:
    told = [a_complaint(serial, "2026-03-19") for serial in range(5)]
    assert kinds(*told, *frauds("2026-03-18", "2026-03-19")) == []


def test_one_alert_of_an_operator_is_a_fraud_for_30_days() -> None:
    assert kinds(an_alert(at="2026-02-18")) == [Kind.FRAUD]
    assert kinds(an_alert(at="2026-02-17")) == []


def test_an_alert_and_the_complaints_beside_it_are_one_report() -> None:
    [report] = follows(an_alert(at="2026-03-12"), *frauds("2026-03-01"))
    assert [row.key for row in report.evidence] == ["complaint 热线/C0", "alert 中国电信/A1"]
    assert report.facts == (
        "30日内收到运营商涉诈预警1件、诈骗投诉1件：2026-03-01 10:00 热线投诉 C0：无人办理；"
        "2026-03-12 10:00 中国电信预警 A1：涉诈"
    )


# What is reported, once


def test_the_facts_name_the_certified_customer_and_each_user_who_was_seen() -> None:
    [one] = follows(a_use(1), a_use(2, "2026-03-12", "兴旺家教"))
    report = one.report
    assert report.facts == (
        "实名登记客户为“杭州诚品旅行社有限公司”，30日内2次发现由他人使用："
        "2026-03-10 10:00 拨测 O1：实际使用者为“武汉安顺搬家”；"
        "2026-03-12 10:00 拨测 O2：实际使用者为“兴旺家教”"
    )
    assert (report.source, report.reported_by, report.observed_at) == (
        "detection",
        "detection",
        shanghai("2026-03-12"),
    )


def test_a_report_stays_readable_however_much_evidence_it_names() -> None:
    [one] = follows(*(a_complaint(serial, text="长" * 4000) for serial in range(500)))
    assert len(one.evidence) == 500
    assert one.facts.startswith("客户投诉逾3个工作日未获答复，共500件：")
    assert one.report.facts.endswith("；另有480件")


def test_the_same_evidence_has_the_same_report_and_other_evidence_another() -> None:
    first, second, third = (a_use(serial) for serial in (1, 2, 3))
    [one], [again], [other] = follows(first, second), follows(second, first), follows(first, third)
    assert one.report == again.report
    assert one.report.report_id != other.report.report_id


def test_a_kind_and_number_are_reported_once_a_day() -> None:
    [one] = follows(an_alert(), reported={Kind.FRAUD: NOW.date(), Kind.SECONDARY_SALE: NOW.date()})
    assert one.held_back == "reported today already"
    assert kinds(an_alert(), reported={Kind.FRAUD: NOW.date() - timedelta(days=1)}) == [Kind.FRAUD]
    assert kinds(an_alert(), reported={Kind.SECONDARY_SALE: NOW.date()}) == [Kind.FRAUD]


def test_the_day_of_a_report_is_a_day_in_shanghai() -> None:
    half_past_midnight = shanghai("2026-03-20", "00:30")
    assert half_past_midnight.utcoffset() == timedelta(hours=8)
    assert kinds(an_alert(), now=half_past_midnight, reported={Kind.FRAUD: date(2026, 3, 19)}) == [Kind.FRAUD]


# Fairness


@pytest.mark.parametrize(
    "evidence",
    [
        [a_complaint(1)],
        [a_use(1), a_use(2)],
        [an_alert(1)],
    ],
    ids=["service failure", "secondary sale", "fraud"],
)
def test_what_came_in_before_the_last_case_of_the_kind_ended_is_not_held_against_the_agent(
    evidence: list[Evidence],
) -> None:
    [one] = follows(*evidence)
    before, after = evidence[0].at - timedelta(seconds=1), evidence[0].at
    assert kinds(*evidence, dealt_with={one.kind: after}) == []
    assert kinds(*evidence, dealt_with={one.kind: before}) == [one.kind]
    assert kinds(*evidence, dealt_with=dict.fromkeys(set(Kind) - {one.kind}, after)) == [one.kind]


def test_what_is_dealt_with_does_not_count_with_what_comes_after_it() -> None:
    dealt_with = {Kind.FRAUD: shanghai("2026-03-12")}
    told = frauds("2026-03-10", "2026-03-11", "2026-03-13")
    assert kinds(*told, dealt_with=dealt_with) == []


def test_about_a_number_that_the_platform_has_nothing_is_reported_but_to_an_open_case() -> None:
    alert, complaint = an_alert(), a_complaint()
    resting: dict[str, Any] = {"out_of_use": "the number is quarantined until 2026-04-08"}
    assert [one.held_back for one in follows(alert, complaint, **resting)] == [resting["out_of_use"]] * 2
    assert kinds(alert, complaint, **resting, open={Kind.FRAUD}) == [Kind.FRAUD]


def test_a_single_complaint_about_fraud_opens_no_case_even_while_one_is_open() -> None:
    assert kinds(*frauds("2026-03-10"), open={Kind.FRAUD}) == []


def test_a_number_that_is_not_on_record_is_reported_so_that_officers_see_it() -> None:
    assert kinds(an_alert(), customer=None) == [Kind.FRAUD]
    [one] = follows(a_use(1), a_use(2), customer=None)
    assert one.facts.startswith("号码未登记实名客户，30日内2次发现有人使用：")


def test_what_has_not_happened_yet_does_not_count() -> None:
    assert kinds(an_alert(at="2026-03-21")) == []
    assert kinds(an_alert(at="2026-03-21"), now=shanghai("2026-03-21")) == [Kind.FRAUD]


# Properties

moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 4, 30)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=NOW.tzinfo)
)
serials = st.integers(0, 10**6)
complaints = st.builds(
    lambda serial, kind, at, answered: a_complaint(
        serial, kind=kind, received_at=at, answered_at=at + answered if answered else None
    ),
    serials,
    st.sampled_from(ComplaintKind),
    moments,
    st.none() | st.timedeltas(timedelta(), timedelta(days=9)),
)
uses = st.builds(
    lambda serial, at, user: a_use(serial, observed_at=at, user=user),
    serials,
    moments,
    st.sampled_from([CUSTOMER, "武汉安顺搬家", "诚品", "不详", "兴旺家教"]),
)
alerts = st.builds(lambda serial, at: an_alert(serial).model_copy(update={"raised_at": at}), serials, moments)
bodies = st.lists(complaints | uses | alerts, max_size=12, unique_by=lambda one: one.key)
records: Callable[[], st.SearchStrategy[dict[str, Any]]] = lambda: st.fixed_dictionaries(  # noqa: E731
    {
        "customer": st.sampled_from([CUSTOMER, None]),
        "open": st.frozensets(st.sampled_from(Kind)),
        "out_of_use": st.none() | st.just("frozen"),
        "dealt_with": st.dictionaries(st.sampled_from(Kind), moments, max_size=2),
        "reported": st.dictionaries(st.sampled_from(Kind), st.just(NOW.date()), max_size=2),
    }
)


@given(bodies, bodies, records())
def test_more_evidence_never_makes_fewer_reports(
    evidence: list[Evidence], more: list[Evidence], said: dict[str, Any]
) -> None:
    known = {one.key for one in evidence}
    further = [one for one in more if one.key not in known]
    assert set(kinds(*evidence, **said)) <= set(kinds(*evidence, *further, **said))


@given(bodies, records(), st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_matter(
    evidence: list[Evidence], said: dict[str, Any], chance: Any
) -> None:
    shuffled = evidence.copy()
    chance.shuffle(shuffled)
    assert follows(*evidence, **said) == follows(*shuffled, **said)


@given(bodies, records(), moments)
def test_evidence_outside_the_window_makes_no_difference(
    evidence: list[Evidence], said: dict[str, Any], now: datetime
) -> None:
    oldest = now - timedelta(days=ANNOUNCED.fraud_within)
    counts = [
        one
        for one in evidence
        if one.at <= now and (one.at >= oldest or getattr(one, "kind", None) is ComplaintKind.SERVICE)
    ]
    assert follows(*evidence, now=now, **said) == follows(*counts, now=now, **said)


@given(bodies, records())
def test_what_a_report_has_named_makes_no_further_one(evidence: list[Evidence], said: dict[str, Any]) -> None:
    named = {row.key for one in follows(*evidence, **said) for row in one.evidence}
    assume(named)
    assert follows(*(one for one in evidence if one.key not in named), **said) == []


@given(bodies, records(), moments)
def test_each_row_of_evidence_stands_in_one_report_at_most_and_each_report_can_be_put_in(
    evidence: list[Evidence], said: dict[str, Any], now: datetime
) -> None:
    reported = follows(*evidence, now=now, **said)
    rows = [row.key for one in reported for row in one.evidence]
    assert len(rows) == len(set(rows))
    assert all(one.report.facts == one.facts for one in reported)
