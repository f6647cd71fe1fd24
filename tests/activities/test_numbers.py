"""Rulebook 1.1, 1.4, 2.5, 3.3, 5.3: numbers are frozen, taken back, rest, are served directly, renewed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import select, text

from activities.numbers import AsOf, Renewal, RenewNumber
from activities.numbers import Numbers as Activities
from activities.step import Refused
from registry import audit
from registry.models import Number
from registry.session import Sessions
from rulebook.vocabulary import Holder, Kind, NumberStatus, Stage, written
from tests.activities.conftest import Steps
from tests.registry.conftest import at_once
from tests.world import an_agent, shanghai


def numbers(on_record: Sessions) -> dict[str, Number]:
    with on_record() as session:
        return {number.number: number for number in session.scalars(select(Number))}


def told(on_record: Sessions, case_no: str) -> list[str]:
    with on_record() as session:
        return [line.text for line in audit.trail(session, case_no)]


def test_a_number_suspected_of_fraud_is_frozen_at_once_and_only_this_one(
    on_record: Sessions, steps: Steps
) -> None:
    number, other = an_agent(on_record, numbers=2)
    case_no = steps.open(number, kind=Kind.FRAUD).case_no
    assert steps.freeze(case_no) == steps.freeze(case_no)
    held = numbers(on_record)
    assert (held[number].status, held[number].frozen_by) == (NumberStatus.FROZEN, case_no)
    assert held[number].holder is Holder.AGENT
    assert held[other].status is NumberStatus.ACTIVE
    assert told(on_record, case_no)[1:] == [f"Number {written(number)} frozen"]


def test_a_number_that_is_frozen_or_in_quarantine_stays_as_it_is(on_record: Sessions, steps: Steps) -> None:
    number, other = an_agent(on_record, numbers=2)
    first = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(first)
    steps.close(first, Stage.SETTLED)
    again, taken = (steps.open(one, kind=Kind.FRAUD).case_no for one in (number, other))
    assert steps.freeze(again).line.text == f"Number {written(number)} is frozen already"
    assert numbers(on_record)[number].frozen_by == first
    steps.reclaim(first)
    assert steps.freeze(taken).line.text == f"Number {written(other)} is quarantined already"
    assert numbers(on_record)[other].status is NumberStatus.QUARANTINED


def test_an_officer_unfreezes_a_number_once_the_case_that_froze_it_has_ended(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number, kind=Kind.FRAUD).case_no
    with pytest.raises(Refused, match=f"number {written(number)} is active, not frozen"):
        steps.unfreeze(case_no)
    steps.freeze(case_no)
    with pytest.raises(Refused, match=f"case {case_no} froze the number and is still open"):
        steps.unfreeze(case_no)
    steps.close(case_no, Stage.SETTLED)
    unfrozen = steps.unfreeze(case_no)
    assert unfrozen == steps.unfreeze(case_no)
    assert (unfrozen.line.by, unfrozen.line.text) == ("李敏", f"Number {written(number)} unfrozen")
    now = numbers(on_record)[number]
    assert (now.status, now.frozen_by) == (NumberStatus.ACTIVE, None)


def test_a_number_stays_frozen_while_another_case_of_fraud_is_open_about_it(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    first = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(first)
    steps.close(first, Stage.SETTLED)
    second = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(second)
    with pytest.raises(Refused, match=second):
        steps.unfreeze(first)
    assert numbers(on_record)[number].status is NumberStatus.FROZEN


def test_a_case_that_is_dismissed_lifts_no_freeze_but_its_own(on_record: Sessions, steps: Steps) -> None:
    number, other = an_agent(on_record, numbers=2)
    settled, own = (steps.open(one, kind=Kind.FRAUD).case_no for one in (number, other))
    steps.freeze(settled)
    steps.freeze(own)
    steps.close(settled, Stage.SETTLED)
    dismissed = steps.open(number, kind=Kind.FRAUD).case_no
    steps.freeze(dismissed)
    for case_no in (dismissed, own):
        steps.close(case_no, Stage.DISMISSED)
    with pytest.raises(Refused, match=f"case {settled} froze the number"):
        steps.unfreeze(dismissed, undo=True)
    steps.unfreeze(own, undo=True)
    assert [numbers(on_record)[n].status for n in (number, other)] == [
        NumberStatus.FROZEN,
        NumberStatus.ACTIVE,
    ]


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (shanghai("2026-03-10", "00:05"), date(2026, 4, 9)),
        (shanghai("2026-02-12", "23:59"), date(2026, 3, 14)),
        (datetime(2026, 3, 31, 15, 59, tzinfo=UTC), date(2026, 4, 30)),
        (datetime(2026, 3, 31, 16, 0, tzinfo=UTC), date(2026, 5, 1)),
    ],
)
def test_reclaimed_numbers_rest_for_30_days_of_shanghai(
    on_record: Sessions, steps: Steps, at: datetime, until: date
) -> None:
    held = an_agent(on_record, numbers=3)
    case_no = steps.open(held[1]).case_no
    first, again = steps.reclaim(case_no, at), steps.reclaim(case_no, shanghai("2026-06-01"))
    assert first == again
    assert (first.numbers, first.quarantined_until) == (tuple(sorted(held)), until)
    assert {
        (n.status, n.holder, n.quarantined_until, n.reclaimed_by) for n in numbers(on_record).values()
    } == {(NumberStatus.QUARANTINED, Holder.PLATFORM, until, case_no)}


def test_the_numbers_of_other_agents_stay_theirs(on_record: Sessions, steps: Steps) -> None:
    [number], [innocent] = an_agent(on_record), an_agent(on_record)
    steps.reclaim(steps.open(number).case_no)
    assert numbers(on_record)[innocent].status is NumberStatus.ACTIVE


def test_a_number_is_taken_back_by_one_case_though_two_come_at_once(
    on_record: Sessions, steps: Steps
) -> None:
    held = an_agent(on_record, numbers=4)
    case_nos = [steps.open(number).case_no for number in held[:2]]
    taken = at_once(
        on_record, select(Number), *(lambda case_no=case_no: steps.reclaim(case_no) for case_no in case_nos)
    )
    assert sorted(len(one.numbers) for one in taken) == [0, 4]
    [last] = [one for one in taken if not one.numbers]
    assert last.line.text == "No numbers were left to take back"
    assert len({number.reclaimed_by for number in numbers(on_record).values()}) == 1


def test_a_number_in_quarantine_already_keeps_its_day(on_record: Sessions, steps: Steps) -> None:
    first, second = an_agent(on_record, numbers=2)
    case_nos = [steps.open(number).case_no for number in (first, second)]
    steps.reclaim(case_nos[0], shanghai("2026-03-02"))
    steps.reclaim(case_nos[1], shanghai("2026-03-20"))
    assert {n.quarantined_until for n in numbers(on_record).values()} == {date(2026, 4, 1)}


def test_a_frozen_number_is_taken_back_with_the_others(on_record: Sessions, steps: Steps) -> None:
    held = an_agent(on_record, numbers=2)
    case_no = steps.open(held[0], kind=Kind.FRAUD).case_no
    steps.freeze(case_no)
    assert steps.reclaim(case_no).numbers == tuple(sorted(held))
    assert {(n.status, n.frozen_by) for n in numbers(on_record).values()} == {
        (NumberStatus.QUARANTINED, None)
    }


def test_a_number_that_is_badly_served_is_taken_back_alone_and_served_directly(
    on_record: Sessions, steps: Steps
) -> None:
    number, other = an_agent(on_record, numbers=2)
    case_no = steps.open(number, kind=Kind.SERVICE_FAILURE).case_no
    taken, again = steps.take_back(case_no), steps.take_back(case_no)
    assert taken == again
    assert (taken.direct, taken.taken_by, taken.renewal_due) == (True, case_no, date(2038, 12, 1))
    assert taken.line.text == (
        f"Number {written(number)} taken back into direct service, next renewal 2038-12-01"
    )
    held = numbers(on_record)
    assert (held[number].holder, held[number].status) == (Holder.PLATFORM, NumberStatus.ACTIVE)
    assert held[number].reclaimed_by == case_no
    assert held[other].holder is Holder.AGENT


def test_a_frozen_number_that_is_taken_back_stays_frozen(on_record: Sessions, steps: Steps) -> None:
    [number] = an_agent(on_record)
    fraud, failure = (steps.open(number, kind=kind).case_no for kind in (Kind.FRAUD, Kind.SERVICE_FAILURE))
    steps.freeze(fraud)
    assert steps.take_back(failure).line.text.endswith(", still frozen")
    now = numbers(on_record)[number]
    assert (now.status, now.holder, now.frozen_by) == (NumberStatus.FROZEN, Holder.PLATFORM, fraud)
    steps.close(fraud, Stage.SETTLED)
    steps.unfreeze(fraud)
    now = numbers(on_record)[number]
    assert (now.status, now.holder) == (NumberStatus.ACTIVE, Holder.PLATFORM)


def test_a_number_that_a_shutdown_took_before_is_not_taken_back_again(
    on_record: Sessions, steps: Steps
) -> None:
    number, other = an_agent(on_record, numbers=2)
    failure, sale = steps.open(number, kind=Kind.SERVICE_FAILURE).case_no, steps.open(other).case_no
    steps.reclaim(sale)
    taken = steps.take_back(failure)
    assert (taken.direct, taken.taken_by) == (False, sale)
    assert taken.line.text == f"Number {written(number)} was taken back before, by case {sale}"
    now = numbers(on_record)[number]
    assert (now.status, now.reclaimed_by) == (NumberStatus.QUARANTINED, sale)


def test_a_shutdown_leaves_what_is_in_direct_service(on_record: Sessions, steps: Steps) -> None:
    number, other = an_agent(on_record, numbers=2)
    failure, sale = steps.open(number, kind=Kind.SERVICE_FAILURE).case_no, steps.open(other).case_no
    steps.take_back(failure)
    assert steps.reclaim(sale).numbers == (other,)
    now = numbers(on_record)[number]
    assert (now.status, now.holder, now.reclaimed_by) == (NumberStatus.ACTIVE, Holder.PLATFORM, failure)


@pytest.mark.parametrize("shutdown_comes_first", [True, False])
def test_a_number_that_two_cases_take_back_at_once_is_taken_by_one(
    on_record: Sessions, steps: Steps, shutdown_comes_first: bool
) -> None:
    [number] = an_agent(on_record)
    failure, sale = steps.open(number, kind=Kind.SERVICE_FAILURE).case_no, steps.open(number).case_no
    calls: list[Callable[[], tuple[str, bool]]] = [
        lambda: (failure, steps.take_back(failure).direct),
        lambda: (sale, bool(steps.reclaim(sale).numbers)),
    ]
    if shutdown_comes_first:
        calls.reverse()
    came = at_once(on_record, select(Number), *calls)
    assert [case_no for case_no, took in came if took] == [numbers(on_record)[number].reclaimed_by]


def end_quarantines(on_record: Sessions, at: datetime) -> int:
    return Activities(on_record).end_quarantines(AsOf(at=at))


@pytest.mark.parametrize(
    ("at", "freed"),
    [
        (shanghai("2026-03-14", "00:00"), 0),
        (shanghai("2026-03-14", "24:00"), 2),
        (datetime(2026, 3, 14, 15, 59, 59, tzinfo=UTC), 0),
        (datetime(2026, 3, 14, 16, 0, tzinfo=UTC), 2),
        (shanghai("2026-06-01"), 2),
    ],
)
def test_a_number_is_free_when_its_last_day_of_rest_in_shanghai_is_over(
    on_record: Sessions, steps: Steps, at: datetime, freed: int
) -> None:
    first, second = sorted(an_agent(on_record, numbers=2))
    [innocent] = an_agent(on_record)
    case_no = steps.open(first).case_no
    steps.reclaim(case_no)
    assert end_quarantines(on_record, at) == freed
    now, lines = numbers(on_record), told(on_record, case_no)[2:]
    assert now[innocent].status is NumberStatus.ACTIVE
    if freed:
        assert {(now[n].status, now[n].holder, now[n].quarantined_until) for n in (first, second)} == {
            (NumberStatus.FREE, Holder.NOBODY, None)
        }
        assert lines == [
            f"Number {written(number)} is free: its quarantine ended 2026-03-14" for number in (first, second)
        ]
    else:
        assert {now[n].status for n in (first, second)} == {NumberStatus.QUARANTINED}
        assert lines == []


def test_a_quarantine_ends_once_however_often_it_is_looked_at(on_record: Sessions, steps: Steps) -> None:
    [number], [rests] = an_agent(on_record), an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.reclaim(case_no, shanghai("2026-02-12"))
    steps.reclaim(steps.open(rests).case_no, shanghai("2026-03-02"))
    day = shanghai("2026-03-15")
    ended = at_once(on_record, select(Number), *[lambda: end_quarantines(on_record, day)] * 3)
    assert sorted(ended) == [0, 0, 1]
    assert end_quarantines(on_record, shanghai("2026-03-16")) == 0
    assert len(told(on_record, case_no)) == 3
    assert numbers(on_record)[rests].status is NumberStatus.QUARANTINED


def in_direct_service(on_record: Sessions, steps: Steps, due: date) -> str:
    """A number that the platform serves directly, and whose renewal is due then."""
    [number] = an_agent(on_record)
    steps.take_back(steps.open(number, kind=Kind.SERVICE_FAILURE).case_no)
    with on_record.begin() as session:
        session.get_one(Number, number).renewal_due = due
    return number


def renewals(on_record: Sessions, at: datetime) -> list[Renewal]:
    return Activities(on_record).renewals_due(AsOf(at=at))


def renew(on_record: Sessions, number: str, **said: Any) -> audit.Done:
    described = {"due": date(2026, 3, 31), "until": date(2027, 3, 31), "at": shanghai("2026-03-02")}
    return Activities(on_record).renew_number(
        RenewNumber.model_validate(described | {"number": number, "by": "李敏"} | said)
    )


def test_a_renewal_comes_up_30_days_before_it_is_due(on_record: Sessions, steps: Steps) -> None:
    days = [date(2026, 4, 1), date(2026, 3, 1), date(2026, 3, 31), date(2026, 4, 2)]
    on_the_day, overdue, before, _ = (in_direct_service(on_record, steps, day) for day in days)
    assert renewals(on_record, datetime(2026, 3, 1, 16, tzinfo=UTC)) == [
        Renewal(number=overdue, due=days[1]),
        Renewal(number=before, due=days[2]),
        Renewal(number=on_the_day, due=days[0]),
    ]
    assert len(renewals(on_record, datetime(2026, 3, 1, 15, 59, tzinfo=UTC))) == 2


def test_only_what_is_in_direct_service_is_renewed_by_the_platform(on_record: Sessions, steps: Steps) -> None:
    [agents], [quarantined], [frozen] = (an_agent(on_record) for _ in range(3))
    fraud, failure = (steps.open(frozen, kind=kind).case_no for kind in (Kind.FRAUD, Kind.SERVICE_FAILURE))
    steps.freeze(fraud)
    steps.take_back(failure)
    steps.reclaim(steps.open(quarantined).case_no)
    due = date(2026, 3, 31)
    with on_record.begin() as session:
        for number in (agents, quarantined, frozen):
            session.get_one(Number, number).renewal_due = due
    assert renewals(on_record, shanghai("2026-03-02")) == [Renewal(number=frozen, due=due)]
    for number in (agents, "4009999999"):
        with pytest.raises(Refused, match=f"number {written(number)} is not in direct service"):
            renew(on_record, number)


@pytest.mark.parametrize("day", ["2026-03-14", "2026-03-15"])
def test_a_number_that_rests_or_is_free_again_is_not_renewed(
    on_record: Sessions, steps: Steps, day: str
) -> None:
    [number] = an_agent(on_record)
    steps.reclaim(steps.open(number).case_no)
    end_quarantines(on_record, shanghai(day))
    with pytest.raises(Refused, match=f"number {written(number)} is not in direct service"):
        renew(on_record, number)


def test_a_renewal_is_put_on_record_once_and_does_not_come_up_again(
    on_record: Sessions, steps: Steps
) -> None:
    number = in_direct_service(on_record, steps, date(2026, 3, 31))
    renewed = renew(on_record, number)
    assert renew(on_record, number, until=date(2029, 3, 31)) == renewed
    assert (renewed.line.by, renewed.line.text) == (
        "李敏",
        f"Number {written(number)} renewed, next renewal 2027-03-31",
    )
    assert numbers(on_record)[number].renewal_due == date(2027, 3, 31)
    assert renewals(on_record, shanghai("2026-03-02")) == []
    renew(on_record, number, due=date(2027, 3, 31), until=date(2028, 3, 31))
    assert numbers(on_record)[number].renewal_due == date(2028, 3, 31)


def test_a_quarantine_that_ends_waits_for_a_case_that_is_busy_without_its_numbers(
    on_record: Sessions, steps: Steps
) -> None:
    [number] = an_agent(on_record)
    case_no = steps.open(number).case_no
    steps.reclaim(case_no)
    with ThreadPoolExecutor(1) as pool, on_record.begin() as session:
        audit.lock(session, case_no)
        order = AsOf(at=shanghai("2026-06-01"))
        freed = pool.submit(Activities(on_record).end_quarantines, order)
        for _ in range(500):
            if session.scalar(text("select count(*) from pg_locks where not granted")):
                break
            time.sleep(0.01)  # nothing tells when it waits
        session.execute(select(Number).with_for_update(nowait=True))
        session.commit()
        assert freed.result() == 1
