"""`enforce calendar`: what officers see of the working days, and how they change them."""

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.models import AuditLine, CalendarDay
from registry.session import Sessions
from tests.starter.conftest import Enforce, Ran
from tests.starter.screen import ENFORCE
from tests.world import World, a_report, an_agent

HEADING = "day,what,reason\n"
# Assumed for 2039: Wednesday 2 March is off for flood relief, made up on Saturday the 5th.
PUBLISHED = HEADING + (
    "2039-01-24,off,春节\n2039-01-25,off,春节\n2039-01-26,off,春节\n2039-03-02,off,抗洪\n"
    "2039-03-05,works,抗洪调休\n2039-04-05,off,清明节\n2039-05-02,off,劳动节\n2039-05-27,off,端午节\n"
    "2039-10-03,off,国庆节\n"
)


@pytest.fixture
def published(tmp_path: Path) -> str:
    """A file with an arrangement of 2039, in the encoding of an office."""
    (tmp_path / "2039.csv").write_bytes(PUBLISHED.encode("gb18030"))
    return "2039.csv"


def _on_record(on_record: Sessions) -> tuple[int, int]:
    """How many days and lines of the trail."""
    with on_record() as session:
        days, lines = session.scalars(select(CalendarDay)).all(), session.scalars(select(AuditLine)).all()
    return len(days), len(lines)


async def test_an_import_moves_the_deadline_of_an_open_case(
    world: World, enforce: Enforce, published: str
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2039-03-01")

    tried = await enforce("calendar", "import", published, "--dry-run")
    assert (tried.code, tried.err) == (0, "")
    assert tried.out == (
        "would load 2039.csv: 9 days added, 0 changed, 0 on record already\n"
        "1 open cases looked at: 1 deadlines move later, 1 are no longer provisional\n"
    )
    assert await case.last_day() == "2039-03-04"
    assert _on_record(world.on_record)[0] == 0

    done = await enforce("calendar", "import", published)
    assert done.out == tried.out.replace("would load", "loaded"), done.err
    await case.once(lambda told: len(told.notices) == 2)
    assert await case.last_day() == "2039-03-05"
    with world.on_record() as session:
        [line] = session.scalars(select(AuditLine).where(AuditLine.case_no.is_(None)))
    assert (line.actor, line.text) == ("李敏", "Calendar imported: 9 days added, 0 changed")


async def test_an_import_that_is_repeated_changes_nothing(
    world: World, enforce: Enforce, published: str
) -> None:
    await enforce("calendar", "import", published)
    before = _on_record(world.on_record)
    again = await enforce("calendar", "import", published, "--json")
    assert (again.json["added"], again.json["changed"], again.json["unchanged"]) == ([], [], 9)
    assert again.json["cases"] == {"looked_at": 0, "moved": 0, "firm": 0}
    assert _on_record(world.on_record) == before


async def test_a_day_that_was_on_record_otherwise_is_told(
    world: World, enforce: Enforce, published: str, tmp_path: Path
) -> None:
    await enforce("calendar", "import", published)
    (tmp_path / "late.csv").write_text(HEADING + "2039-03-05,off,不再调休\n2039-03-08,closing,机房搬迁\n")
    told = await enforce("calendar", "import", "late.csv")
    assert "2039-03-05: off (不再调休), before works (抗洪调休)\n" in told.out, told.err
    assert "1 days added, 1 changed, 0 on record already" in told.out


async def test_a_file_with_a_fault_is_refused_as_a_whole_with_its_lines(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(
        HEADING + "2039-03-07,closing,搬迁\n2039-03-08,works,x\n2020-01-01,closing,x\n"
    )
    (tmp_path / "worse.csv").write_text(HEADING + "3月8日,off,x\n")
    said = await enforce("calendar", "import", "bad.csv")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "error: bad.csv: nothing was loaded\n"
        "  line 3, column day: 2039-03-08 is worked anyway, being a Tuesday\n"
        "  line 4, column day: 2020-01-01 is past\n"
    )
    said = await enforce("calendar", "import", "worse.csv")
    assert (said.code, "line 2, column day: '3月8日' is no day" in said.err) == (1, True)
    assert _on_record(world.on_record) == (0, 0)


async def test_nothing_is_loaded_while_temporal_does_not_answer(
    world: World, enforce: Enforce, published: str
) -> None:
    said = await enforce("calendar", "import", published, TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (said.code, said.out) == (3, "")
    assert _on_record(world.on_record) == (0, 0)


async def test_a_year_is_shown_as_published_or_provisional(
    world: World, enforce: Enforce, published: str
) -> None:
    [heading, *days] = (await enforce("calendar", "show", "2026")).out.splitlines()
    assert heading.strip() == "2026: published (public calendar)"
    assert [" ".join(day.split()) for day in days[:3]] == [
        "2026-01-01 Thu off 元旦",
        "2026-01-02 Fri off 休息日（由 2026-01-04 调休）",
        "2026-01-04 Sun works 调休",
    ]
    assert (await enforce("calendar", "show", "2039")).out.startswith("2039: provisional")
    await enforce("calendar", "import", published)
    told = (await enforce("calendar", "show", "2039", "--json")).json
    assert (told["year"], told["published_in"], len(told["days"])) == (2039, ["registry"], 9)
    assert told["days"][3] == {"day": "2039-03-02", "what": "off", "reason": "抗洪"}
    assert (await enforce("calendar", "show", "1999")).code == 2


async def test_a_year_that_is_written_to_a_file_can_be_imported(
    world: World, enforce: Enforce, published: str, tmp_path: Path
) -> None:
    async def again(year: str) -> Ran:
        (tmp_path / "out.csv").write_text((await enforce("calendar", "show", year, "--csv")).out)
        return await enforce("calendar", "import", "out.csv", "--json")

    (tmp_path / "closing.csv").write_text(HEADING + "2039-03-08,closing,机房搬迁\n")
    await enforce("calendar", "import", "closing.csv")
    assert (await again("2039")).json["unchanged"] == 1, "what is only computed is not written"
    await enforce("calendar", "import", published)
    assert (await again("2039")).json["unchanged"] == 10
    assert (await again("2026")).json["added"] == []


@pytest.mark.parametrize("command", ["show", "import"])
def test_the_help_has_an_example(command: str) -> None:
    shown = subprocess.run(
        [ENFORCE, "calendar", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"$ enforce calendar {command}" in shown.partition("Example")[2].partition("Options")[0]
