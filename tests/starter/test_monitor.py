"""Reports that come in by themselves: each counts once, none is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import func, select, text
from temporalio.client import Client

from registry import inbox
from registry.inbox import Arrival
from registry.models import Case, Incoming, ReportRow
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import IncomingStatus, Kind, Stage, workflow_id
from starter import feeds, monitor
from tests.starter.conftest import Enforce
from tests.world import CaseInTime, World, a_report, an_agent

HANDED, REFUSED = IncomingStatus.HANDED, IncomingStatus.REFUSED


class Ended(NamedTuple):
    """How the reports of a file ended, and why some were refused."""

    how: dict[IncomingStatus, int]
    why: list[str]


async def _take_in(world: World, feed: Path) -> Ended:
    came = feeds.read_all(world.on_record, feed)
    how = await monitor.settle(world.client, world.on_record, world.task_queue, came.ids)
    with world.on_record() as session:
        return Ended(how, [str(row.reason) for row in inbox.of(session, came.ids, REFUSED)])


def _case(world: World, number: str) -> CaseInTime:
    return CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))


def _cases(world: World) -> dict[str, int]:
    with world.on_record() as session:
        counted = select(Case.number, func.count()).group_by(Case.number)
        return dict(session.execute(counted).all())


async def _opened(world: World, reports: list[Report]) -> None:
    for number in {report.number for report in reports}:
        await _case(world, number).once(lambda told: told.stage is not Stage.OPENING)


def _lines(reports: list[Report]) -> str:
    return "".join(report.model_dump_json() + "\n" for report in reports)


def _arrivals(reports: list[Report]) -> list[Arrival]:
    return [Arrival(r.source, r.report_id, r.model_dump(mode="json")) for r in reports]


def _put(on_record: Sessions, reports: list[Report]) -> list[int]:
    with on_record.begin() as session:
        return [put.id for put in inbox.put(session, _arrivals(reports), "test")]


@asynccontextmanager
async def _monitors(world: World, how_many: int) -> AsyncIterator[None]:
    running = [
        asyncio.create_task(monitor.share(world.client, world.on_record, world.task_queue))
        for _ in range(how_many)
    ]
    try:
        yield
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _settled(world: World, ids: list[int]) -> dict[IncomingStatus, int]:
    for _ in range(400):
        with world.on_record() as session:
            counted = inbox.counted(session, ids)
        if IncomingStatus.WAITING not in counted:
            return counted
        await asyncio.sleep(0.05)
    raise AssertionError(f"not settled: {counted}")


# Files


async def test_the_same_file_twice_gives_each_case_once(world: World, tmp_path: Path) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=5)]
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines(reports))
    assert await _take_in(world, feed) == Ended({HANDED: 5}, [])
    await _opened(world, reports)
    assert await _take_in(world, feed) == Ended({HANDED: 5}, [])
    assert _cases(world) == {report.number: 1 for report in reports}
    assert len(world.rows(Incoming)) == 5


async def test_half_a_file_and_then_the_whole_gives_each_case_once(world: World, tmp_path: Path) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=6)]
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines(reports)[: len(_lines(reports[:3])) + 20])
    half = await _take_in(world, feed)
    assert half.how == {HANDED: 3, REFUSED: 1}
    assert half.why[0].startswith("line 4 can't be read")
    feed.write_text(_lines(reports))
    assert (await _take_in(world, feed)).how == {HANDED: 6}
    await _opened(world, reports)
    assert _cases(world) == {report.number: 1 for report in reports}


async def test_a_crash_between_record_and_case_is_made_good_by_the_next_run(world: World) -> None:
    [number] = an_agent(world.on_record)
    report = a_report(number)
    with world.on_record.begin() as session:
        payload = report.model_dump(mode="json")
        session.add(ReportRow(source=report.source, report_id=report.report_id, payload=payload))
    ids = _put(world.on_record, [report])
    ended = await monitor.settle(world.client, world.on_record, world.task_queue, ids)
    assert ended == {HANDED: 1}
    await _opened(world, [report])
    assert _cases(world) == {number: 1}


async def test_further_reports_join_the_open_case_as_evidence(world: World, tmp_path: Path) -> None:
    [number] = an_agent(world.on_record)
    reports = [a_report(number) for _ in range(4)]
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines(reports))
    await _take_in(world, feed)
    case = _case(world, number)
    await case.once(lambda told: len(told.lines) == 5)
    told = "\n".join(await case.told())
    assert _cases(world) == {number: 1}
    assert told.count("joined the case as evidence") == 3
    assert all(report.key in told for report in reports)


async def test_bad_reports_are_kept_with_their_reason_and_good_ones_go_through(
    world: World, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    good = a_report(number)
    bad = {
        "{": "line 1 can't be read: ",
        "[]": "line 2 is no JSON object",
        a_report(number).model_dump_json().replace('"regular"', '"odd"'): "business: Input should be",
        a_report(number).model_dump_json().replace("}", ',"colour":1}'): "colour: Extra inputs",
        a_report("4009999999").model_dump_json(): "number 400-999-9999 is not in the registry",
        "\ud800": "line 6 can't be read: ",
        '{"source": "x"}': "line 7 names no source and report_id",
        '{"source": "x", "report_id": "' + "9" * 201 + '"}': "line 8 names no source and report_id",
        "x" * 70_000: "line 9 is longer than 65,536 bytes",
        '{"a":' * 3000: "line 10 can't be read: ",
    }
    feed = tmp_path / "feed.jsonl"
    feed.write_bytes("\n".join([*bad, "", good.model_dump_json()]).encode("utf-8", "surrogatepass"))
    taken = await _take_in(world, feed)
    assert taken.how == {HANDED: 1, REFUSED: 10}
    for why, expected in zip(taken.why, bad.values(), strict=True):
        assert expected in why


async def test_one_report_id_for_two_violations_is_refused_not_lost(world: World) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    [report] = [a_report(first, report_id="same")]
    with world.on_record.begin() as session:
        payload = report.model_dump(mode="json")
        session.add(ReportRow(source=report.source, report_id="same", payload=payload))
    ids = _put(world.on_record, [a_report(second, report_id="same")])
    assert await monitor.settle(world.client, world.on_record, world.task_queue, ids) == {REFUSED: 1}
    [row] = world.rows(Incoming)
    assert row.reason == f"report monitor/same came before, about secondary-sale-{first}"


# Rows that other systems insert


async def test_a_row_that_another_system_inserts_wakes_a_monitor(world: World) -> None:
    [number] = an_agent(world.on_record)
    report = a_report(number)
    async with _monitors(world, 1):
        await asyncio.sleep(0.5)  # it listens by now, and would look again only after 5 seconds
        with world.on_record.begin() as session:
            row = {"s": report.source, "i": report.report_id, "p": report.model_dump_json()}
            session.execute(
                text("insert into inbox (source, report_id, payload) values (:s, :i, cast(:p as jsonb))"), row
            )
        [incoming] = world.rows(Incoming)
        assert await _settled(world, [incoming.id]) == {HANDED: 1}
    [incoming] = world.rows(Incoming)
    assert (incoming.workflow_id, incoming.via) == (f"secondary-sale-{number}", "sql")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("[1, 2]", "the payload is no JSON object"),
        ('"text"', "the payload is no JSON object"),
        ("{}", "kind: Field required"),
        ('{"source": "other"}', "source is 'monitor' in the inbox, and 'other' in the report"),
    ],
)
async def test_a_row_that_is_no_report_is_refused_in_words(world: World, payload: str, why: str) -> None:
    with world.on_record.begin() as session:
        session.execute(
            text("insert into inbox (source, report_id, payload) values ('monitor', 'R', cast(:p as jsonb))"),
            {"p": payload},
        )
    [row] = world.rows(Incoming)
    assert await monitor.settle(world.client, world.on_record, world.task_queue, [row.id]) == {REFUSED: 1}
    assert why in str(world.rows(Incoming)[0].reason)


# Several monitors, and servers that are away


async def test_several_monitors_share_the_work_and_hand_each_report_over_once(world: World) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=60)]
    ids = _put(world.on_record, reports)
    async with _monitors(world, 3):
        assert await _settled(world, ids) == {HANDED: 60}
    await _opened(world, reports)
    assert _cases(world) == {report.number: 1 for report in reports}


async def test_while_temporal_is_away_nothing_is_acknowledged_and_nothing_is_parked(world: World) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=3)]
    ids = _put(world.on_record, reports)
    nowhere = await Client.connect("127.0.0.1:9", lazy=True)
    taken = await monitor.hand_over(nowhere, world.on_record, world.task_queue)
    assert taken.away is not None
    assert [(row.status, row.attempts) for row in world.rows(Incoming)] == [(IncomingStatus.WAITING, 0)] * 3
    assert await monitor.settle(world.client, world.on_record, world.task_queue, ids) == {HANDED: 3}


_POISON = """
create function refuse_poison() returns trigger language plpgsql as $$
begin
    if new.report_id like 'poison%' then
        raise exception 'poison';
    end if;
    return new;
end $$;
create trigger poison before insert on reports for each row execute function refuse_poison();
"""


@pytest.mark.parametrize("others", [0, 3])
async def test_a_report_that_makes_trouble_is_tried_later_and_holds_up_no_other_one(
    world: World, others: int
) -> None:
    with world.on_record.begin() as session:
        session.execute(text(_POISON))
    numbers = an_agent(world.on_record, numbers=others + 1)
    good = [a_report(number) for number in numbers[1:]]
    ids = _put(world.on_record, [a_report(numbers[0], report_id="poison"), *good])
    taken = await monitor.hand_over(world.client, world.on_record, world.task_queue)
    assert (taken.settled, taken.away) == (others, None)
    with world.on_record.begin() as session:
        [poison] = inbox.of(session, ids, IncomingStatus.WAITING)
        assert (poison.report_id, poison.attempts) == ("poison", 1)
        assert "poison" in str(poison.reason)
        session.execute(text("drop trigger poison on reports; update inbox set try_at = clock_timestamp()"))
    ended = await monitor.settle(world.client, world.on_record, world.task_queue, ids)
    assert ended == {HANDED: others + 1}


# The officer's part


async def test_an_officer_sees_refused_reports_and_sends_them_again(world: World, enforce: Enforce) -> None:
    ids = _put(world.on_record, [a_report("4007777777", source="dial-back", report_id="D-1")])
    await monitor.settle(world.client, world.on_record, world.task_queue, ids)
    [listed] = (await enforce("reports", "list", "--json")).json
    assert (listed["status"], listed["reason"]) == ("refused", "number 400-777-7777 is not in the registry")
    shown = await enforce("reports", "show", "dial-back/D-1")
    assert "400-777-7777 is not in the registry" in shown.out
    assert '"number": "4007777777"' in shown.out

    an_agent(world.on_record)
    with world.on_record.begin() as session:
        described = "agent_id, customer, customer_email, certificate, operator, renewal_due"
        session.execute(
            text(
                f"insert into numbers (number, status, holder, {described}) "
                f"select '4007777777', status, holder, {described} from numbers limit 1"
            )
        )
    assert (await enforce("reports", "retry", str(ids[0]))).code == 0
    assert await monitor.settle(world.client, world.on_record, world.task_queue, ids) == {HANDED: 1}
    refused = await enforce("reports", "retry", "dial-back/D-1")
    assert (refused.code, "is handed" in refused.err) == (1, True)


async def test_a_report_that_an_officer_discards_stays_on_record(world: World, enforce: Enforce) -> None:
    ids = _put(world.on_record, [a_report("4007777778", source="dial-back", report_id="D-2")])
    await monitor.settle(world.client, world.on_record, world.task_queue, ids)
    assert (await enforce("reports", "discard", "dial-back/D-2", "--reason", "测试号码")).code == 0
    [row] = world.rows(Incoming)
    assert (row.status, row.reason, row.settled_by) == (IncomingStatus.DISCARDED, "测试号码", "李敏")
    unknown = await enforce("reports", "discard", "dial-back/D-3", "--reason", "x")
    assert (unknown.code, "no report dial-back/D-3" in unknown.err) == (1, True)


async def test_a_file_with_bad_lines_goes_through_and_says_which(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    (tmp_path / "feed.jsonl").write_text(f"{a_report(number).model_dump_json()}\n{{half\n")
    first = await enforce("reports", "import", "feed.jsonl")
    assert first.code == 1
    assert "feed.jsonl: 2 reports, 2 of them new: 1 handed, 1 refused" in first.out
    assert "line 2 can't be read" in first.out
    again = await enforce("reports", "import", "feed.jsonl", "--json")
    assert (again.json["reports"], again.json["new"]) == (2, 0)
    assert json.dumps(again.json["refused"][0]["payload"]) == json.dumps(
        {"why": again.json["refused"][0]["reason"], "unreadable": "{half"}
    )
    status = (await enforce("monitor", "status", "--json")).json
    assert {row["source"]: (row["handed"], row["refused"]) for row in status} == {
        "monitor": (1, 0),
        "file feed.jsonl": (0, 1),
    }
