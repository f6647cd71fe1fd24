"""The inbox: each report once, shared by locks, tried again, parked at last."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from registry import inbox
from registry.inbox import Arrival, Outcome, storable
from registry.models import Incoming
from registry.session import Sessions
from rulebook.vocabulary import IncomingStatus


def _arrival(report_id: str, **payload: Any) -> Arrival:
    return Arrival("dial-back", report_id, payload)


def _rows(on_record: Sessions) -> list[Incoming]:
    with on_record() as session:
        return list(session.scalars(select(Incoming).order_by(Incoming.id)))


def _put(on_record: Sessions, *arrivals: Arrival) -> list[tuple[bool, bool]]:
    with on_record.begin() as session:
        return [(put.new, put.same) for put in inbox.put(session, arrivals, "test")]


def test_a_report_comes_in_once_and_one_of_the_same_name_is_told_apart(on_record: Sessions) -> None:
    assert _put(on_record, _arrival("1", a=1), _arrival("2", a=1)) == [(True, True), (True, True)]
    assert _put(on_record, _arrival("2", a=1), _arrival("1", a=2)) == [(False, True), (False, False)]
    assert [(row.report_id, row.payload) for row in _rows(on_record)] == [("1", {"a": 1}), ("2", {"a": 1})]


def test_of_two_in_one_batch_the_first_counts(on_record: Sessions) -> None:
    same, other = _arrival("1", a=1), _arrival("1", a=2)
    assert _put(on_record, same, same, other) == [(True, True), (False, True), (False, False)]
    assert [row.payload for row in _rows(on_record)] == [{"a": 1}]


def test_a_report_that_comes_in_many_times_at_once_is_new_once(on_record: Sessions) -> None:
    with ThreadPoolExecutor(8) as pool:
        put = list(pool.map(lambda _: _put(on_record, _arrival("1", a=1))[0], range(40)))
    assert put.count((True, True)) == 1
    assert put.count((False, True)) == 39


def test_no_two_monitors_have_the_same_report(on_record: Sessions) -> None:
    _put(on_record, *(_arrival(str(n)) for n in range(10)))
    with on_record() as one, on_record() as other:
        first = {row.id for row in inbox.claim(one, 6)}
        second = {row.id for row in inbox.claim(other, 6)}
        assert (len(first), len(second), first & second) == (6, 4, set())
        one.rollback()  # as if its monitor had died
        assert {row.id for row in inbox.claim(other, 10)} >= first


def test_what_was_settled_is_claimed_no_more(on_record: Sessions) -> None:
    _put(on_record, _arrival("1"), _arrival("2"))
    with on_record.begin() as session:
        one, other = inbox.claim(session, 10)
        outcomes = [
            Outcome(one.id, IncomingStatus.HANDED, workflow_id="fraud-4001"),
            Outcome(other.id, IncomingStatus.REFUSED, "为什么"),
        ]
        inbox.settle(session, outcomes)
    with on_record() as session:
        assert inbox.claim(session, 10) == []
    assert [(row.status, row.reason, row.workflow_id) for row in _rows(on_record)] == [
        (IncomingStatus.HANDED, None, "fraud-4001"),
        (IncomingStatus.REFUSED, "为什么", None),
    ]


def test_a_report_that_makes_trouble_is_tried_ever_later_and_then_parked(on_record: Sessions) -> None:
    _put(on_record, _arrival("1"))
    pauses = []
    for attempt in range(inbox.TRIES):
        with on_record.begin() as session:
            session.execute(text("update inbox set try_at = clock_timestamp()"))
            [row] = inbox.claim(session, 10)
            inbox.try_later(session, [(row.id, f"trouble {attempt}")])
        with on_record() as session:
            now = session.scalar(text("select clock_timestamp()"))
            assert inbox.claim(session, 10) == []
        pauses.append(_rows(on_record)[0].try_at - now)
    assert pauses == sorted(pauses)
    assert pauses[3] > timedelta(seconds=6)
    [row] = _rows(on_record)
    assert (row.status, row.reason) == (IncomingStatus.PARKED, f"trouble {inbox.TRIES - 1}")


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("dial-back/1/2", True),
        ("dial-back/1", False),
        ("1", True),
        ("9" * 40, False),
        ("x", False),
        ("²", False),
    ],
)
def test_a_report_is_found_by_its_number_or_by_source_and_id(
    on_record: Sessions, named: str, there: bool
) -> None:
    _put(on_record, _arrival("1/2"))
    with on_record() as session:
        assert (inbox.found(session, named) is not None) == there


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=3))
def test_what_json_can_say_can_be_stored(payload: dict[str, Any]) -> None:
    safe = storable(payload)
    assert storable(safe) == safe
    assert "\\u0000" not in json.dumps(safe).replace("\\\\", "")


@pytest.mark.parametrize("hostile", ["\x00", "\ud800", float("nan"), float("inf"), "𠮷\u202e", "長" * 9000])
def test_what_postgresql_cannot_hold_is_kept_as_far_as_it_goes(on_record: Sessions, hostile: Any) -> None:
    assert _put(on_record, _arrival("1", facts=hostile)) == [(True, True)]
    assert _put(on_record, _arrival("1", facts=hostile)) == [(False, True)]


def test_the_figures_are_told_by_source(on_record: Sessions) -> None:
    _put(on_record, _arrival("1"), _arrival("2"), Arrival("complaints", "1", {}))
    with on_record.begin() as session:
        [one] = inbox.claim(session, 1)
        inbox.settle(session, [Outcome(one.id, IncomingStatus.HANDED)])
    with on_record() as session:
        complaints, dial_back = inbox.figures(session)
    assert (complaints.source, complaints.waiting, complaints.handed) == ("complaints", 1, 0)
    assert (dial_back.waiting, dial_back.handed, dial_back.handed_last_minute) == (1, 1, 1)
    assert dial_back.lag > 0
