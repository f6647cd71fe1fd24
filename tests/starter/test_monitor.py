"""Reports that come in by themselves: each counts once, none is lost."""

from pathlib import Path

from sqlalchemy import func, select

from registry.models import Case, ReportRow
from rulebook.report import Report
from rulebook.vocabulary import Kind, Stage, workflow_id
from starter import monitor
from starter.monitor import Taken
from tests.world import CaseInTime, World, a_report, an_agent


async def _take_in(world: World, feed: Path) -> Taken:
    return await monitor.take_in(world.client, world.on_record, world.task_queue, feed)


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


async def test_the_same_file_twice_gives_each_case_once(world: World, tmp_path: Path) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=5)]
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines(reports))
    assert await _take_in(world, feed) == Taken(5, 0, [])
    await _opened(world, reports)
    assert await _take_in(world, feed) == Taken(0, 5, [])
    assert _cases(world) == {report.number: 1 for report in reports}


async def test_half_a_file_and_then_the_whole_gives_each_case_once(world: World, tmp_path: Path) -> None:
    reports = [a_report(number) for number in an_agent(world.on_record, numbers=6)]
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines(reports)[: len(_lines(reports[:3])) + 20])
    half = await _take_in(world, feed)
    assert (half.handed_over, [line.line for line in half.set_aside]) == (3, [4])
    feed.write_text(_lines(reports))
    assert (await _take_in(world, feed)).set_aside == []
    await _opened(world, reports)
    assert _cases(world) == {report.number: 1 for report in reports}
    assert not monitor.refused_file(feed).exists()


async def test_a_crash_between_record_and_case_is_made_good_by_the_next_run(
    world: World, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    report = a_report(number)
    with world.on_record.begin() as session:
        payload = report.model_dump(mode="json")
        session.add(ReportRow(source=report.source, report_id=report.report_id, payload=payload))
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines([report]))
    assert (await _take_in(world, feed)).handed_over == 1
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


async def test_bad_lines_are_set_aside_with_their_reason_and_good_ones_go_through(
    world: World, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    good = a_report(number)
    bad = {
        "{": "Invalid JSON",
        "[]": "Input should be an object",
        good.model_dump_json().replace('"regular"', '"odd"'): "business: Input should be",
        good.model_dump_json().replace("}", ',"colour":1}'): "colour: Extra inputs",
        a_report("4009999999").model_dump_json(): "number 400-999-9999 is not in the registry",
        "\ud800": "Invalid JSON",
    }
    feed = tmp_path / "feed.jsonl"
    feed.write_bytes("\n".join([*bad, "", good.model_dump_json()]).encode("utf-8", "surrogatepass"))
    taken = await _take_in(world, feed)
    assert taken.handed_over == 1
    assert [line.line for line in taken.set_aside] == [1, 2, 3, 4, 5, 6]
    for line, why in zip(taken.set_aside, bad.values(), strict=True):
        assert why in line.why


async def test_one_report_id_for_two_violations_is_set_aside_not_lost(world: World, tmp_path: Path) -> None:
    [first, second] = an_agent(world.on_record, numbers=2)
    feed = tmp_path / "feed.jsonl"
    feed.write_text(_lines([a_report(first, report_id="same")]))
    await _take_in(world, feed)
    feed.write_text(_lines([a_report(second, report_id="same")]))
    [line] = (await _take_in(world, feed)).set_aside
    assert line.why == f"report monitor/same came before, about secondary-sale-{first}"
