"""`enforce figures`: the figures in the terminal, as a page that needs no network, and as CSV files."""

import csv
import io
import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from registry.figures import (
    AHEAD,
    Day,
    Ended,
    Figures,
    Money,
    Offences,
    Offender,
    OfOfficers,
    Open,
    Span,
    State,
    Took,
    Undone,
)
from registry.waits import Figure
from rulebook.vocabulary import Awaiting, Kind, Stage
from starter.cli.figures import draw
from starter.figures import page, tables, write_csv, write_page
from starter.settings import Refused
from tests.starter.conftest import Enforce, run
from tests.world import World, a_report, an_agent, shanghai

HOSTILE = '=HYPERLINK("http://x.example")</svg><script src="//x.example">alert(1)</script>\x1b[31m\u202e甲'
FRAUD, SALE = Kind.FRAUD, Kind.SECONDARY_SALE


def some_figures(named: str = "郑州万呼网络科技有限公司", since: date | None = None) -> Figures:
    """Figures of every sort; the names from outside are `named`."""
    day = date(2026, 3, 4)
    return Figures(
        as_of=shanghai("2026-03-04", "09:30"),
        since=since,
        open=(
            Open(kind=SALE, state=State.APPEAL, cases=1),
            Open(kind=FRAUD, state=State.PAYMENT, cases=12),
        ),
        ended=(
            Ended(kind=SALE, outcome=Stage.RECTIFIED, cases=1234),
            Ended(kind=SALE, outcome=Stage.DISMISSED, cases=6),
        ),
        times=tuple(
            Took(span=span, kind=kind, cases=3, median=timedelta(hours=36), p90=timedelta(days=9, hours=5))
            for span in Span
            for kind in (None, SALE)
        ),
        money=(
            Money(
                kind=SALE,
                fines=3,
                fined=Decimal("4000.00"),
                paid=Decimal("2500.01"),
                owed=Decimal("2000.00"),
                owed_back=Decimal("500.01"),
                voided=Decimal("1000.00"),
                refunded=Decimal("0.00"),
            ),
        ),
        undone_by_kind=(Undone(of=SALE, ended=1240, undone=6),),
        undone_by_source=(Undone(of=named, ended=8, undone=1), Undone(of="hotline", ended=1, undone=0)),
        offences=(Offences(kind=SALE, offences=1, agents=7), Offences(kind=SALE, offences=3, agents=1)),
        repeat_offenders=(
            Offender(agent_id="A013", name=named, kind=SALE, offences=3),
            Offender(agent_id="A1", name="ASCII Ltd", kind=FRAUD, offences=2),
        ),
        days=tuple(
            Day(day=day + timedelta(days=n), works=n % 2 == 0, rectification=n, payment=2 * n)
            for n in range(AHEAD)
        ),
        officers=(
            OfOfficers(
                what=Awaiting.VERIFICATION,
                waiting=2,
                longest=5,
                waited=Figure(what=Awaiting.VERIFICATION, count=9, median=1.5, p90=4, raised=3),
            ),
            OfOfficers(what=Awaiting.APPEAL, waiting=1, longest=0, waited=None),
        ),
    )


NONE = Figures(
    as_of=shanghai("2026-03-04"),
    since=None,
    open=(),
    ended=(),
    times=(),
    money=(),
    undone_by_kind=(),
    undone_by_source=(),
    offences=(),
    repeat_offenders=(),
    days=some_figures().days,
    officers=(),
)


# The page


@pytest.mark.parametrize("of", [some_figures(), some_figures(HOSTILE), NONE], ids=["some", "hostile", "none"])
def test_the_page_refers_to_nothing_outside_itself(of: Figures) -> None:
    text = page(of).replace('xmlns="http://www.w3.org/2000/svg"', "")
    text = text.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    if "x.example" in text:  # as text, in a table or a label
        text = re.sub(r"=HYPERLINK\([^<>]*x\.example[^<>]*", "", text)
    assert re.findall(r"https?:|//|url\(|@import|@font-face|<script|<link|<img|href|src=", text) == []
    assert "<svg" in text


def test_no_name_from_outside_acts_on_the_page() -> None:
    text = page(some_figures(HOSTILE))
    assert "=HYPERLINK(" in text
    assert "<script" not in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_the_page_says_everything_in_plain_words_and_kinds_in_both_languages() -> None:
    text = page(some_figures(since=date(2026, 1, 1)))
    for said in (
        "2026-03-04 09:30",
        "of cases opened since 2026-01-01",
        "私自转售 · secondary sale",
        "¥2,000.00",
    ):
        assert said in text
    for table in tables(some_figures()):
        assert f'<section id="{table.name}">' in text
        assert table.title in text
    assert text.count("<svg") == 7


def test_the_same_figures_make_the_same_page() -> None:
    assert page(some_figures()) == page(some_figures())


def test_who_reads_a_page_while_it_is_written_anew_reads_all_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(file, some_figures())
    with file.open(encoding="utf-8") as reading:
        write_page(file, NONE)
        assert reading.read() == page(some_figures())
    assert file.read_text("utf-8") == page(NONE)


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(Refused, match=r"page\.html can't be written: Is a directory"):
        write_page(tmp_path / "page.html", NONE)
    with pytest.raises(Refused, match="can't be written: No such file or directory"):
        write_page(tmp_path / "no" / "page.html", NONE)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


# CSV


def _read(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"))))


def test_each_table_is_a_file_that_a_spreadsheet_reads(tmp_path: Path) -> None:
    written = write_csv(tmp_path / "new" / "folder", some_figures())
    assert {file.stem for file in written} == {table.name for table in tables(some_figures())}
    assert all(file.read_bytes().startswith(b"\xef\xbb\xbf") for file in written)
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == {file.name for file in written}
    by_name = {file.stem: _read(file) for file in written}
    assert by_name["repeat-offenders"][1] == [
        "A013",
        "郑州万呼网络科技有限公司",
        "私自转售 · secondary sale",
        "3",
    ]
    assert by_name["times-in-hours"][1][3:] == ["36.00", "221.00"]
    assert ["owed back", "0", "500.01", "0", "500.01"] in by_name["money-in-yuan"]
    assert by_name["undone-by-source"][1][1:] == ["8", "1", "0.1250"]
    assert by_name["officers"][1:] == [
        ["verification", "2", "5", "9", "1.5", "4", "3"],
        ["appeal", "1", "0", "0", "", "", "0"],
    ]


def test_no_cell_of_a_file_acts_as_a_formula(tmp_path: Path) -> None:
    for named in (HOSTILE, "+1", "-1", "@SUM(A1)", "\t=1"):
        for file in write_csv(tmp_path, some_figures(named)):
            assert [c for row in _read(file) for c in row if c.startswith(("=", "+", "-", "@", "\t"))] == []


def test_files_that_cannot_be_written_leave_the_old_ones_whole(tmp_path: Path) -> None:
    write_csv(tmp_path, some_figures())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / "cases.csv").unlink()
    (tmp_path / "cases.csv").mkdir()
    with pytest.raises(Refused, match=r"cases\.csv can't be written"):
        write_csv(tmp_path, NONE)
    del before["cases.csv"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    with pytest.raises(Refused, match="can't be made"):
        write_csv(tmp_path / "days.csv", NONE)


# The terminal


def _drawn(of: Figures, width: int, terminal: bool = False) -> list[str]:
    out = Console(width=width, file=io.StringIO(), force_terminal=terminal, highlight=False, markup=False)
    out.print(*draw(of, out), sep="\n")
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_every_line_fits_the_terminal_and_every_bar_begins_where_the_others_do(width: int) -> None:
    lines = _drawn(some_figures(), width)
    assert max(cell_len(line) for line in lines) <= width
    begins, titles = dict[str, set[int]](), {table.title for table in tables(some_figures())}
    title = ""
    for line in lines:
        title = line if line in titles else title
        if "█" in line:
            begins.setdefault(title, set()).add(cell_len(line[: line.index("█")]))
    assert len(begins) >= 8
    assert all(len(columns) == 1 for columns in begins.values())


def test_eighty_columns_break_no_word() -> None:
    shown = " ".join(_drawn(some_figures(), 80))
    for word in (
        "rectification",
        "verification",
        "secondary sale",
        "ASCII Ltd",
        "1 d 12 h",
        "2,500.01",
        "12.5%",
    ):
        assert word in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_colours_are_for_terminals_only(terminal: bool) -> None:
    assert any("\x1b[" in line for line in _drawn(some_figures(), 80, terminal)) == terminal


def test_no_name_from_outside_acts_in_the_terminal() -> None:
    shown = "\n".join(_drawn(some_figures(HOSTILE), 160))
    assert "HYPERLINK" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_a_long_table_says_how_much_of_it_is_shown() -> None:
    offenders = tuple(
        Offender(agent_id=f"A{n:03}", name="甲", kind=SALE, offences=100 - n) for n in range(60)
    )
    shown = _drawn(some_figures().model_copy(update={"repeat_offenders": offenders}), 160)
    assert any("A000" in line for line in shown)
    assert not any("A059" in line for line in shown)
    assert any(re.match(r"\d+ of 60 shown", line) for line in shown)


def test_nothing_is_shown_as_none() -> None:
    shown = _drawn(NONE, 80)
    assert shown.count("none") == len([table for table in tables(NONE) if not table.rows])


# The command


async def test_officers_get_the_figures_of_a_case_that_is_open(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number, source="hotline"))
    told = (await enforce("figures", "--json")).json
    assert told["open"] == [{"kind": "secondary-sale", "state": "rectification", "cases": 1}]
    assert [span["span"] for span in told["times"]] == ["report-to-notice"] * 2
    assert sum(day["rectification"] for day in told["days"]) == 1
    shown = await enforce("figures")
    assert (shown.code, "1 open, 0 ended" in shown.out) == (0, True)
    later = (await enforce("figures", "--since", "2099-01-01", "--json")).json
    assert (later["open"], later["since"]) == ([], "2099-01-01")


async def test_figures_are_asked_of_the_registry_alone_and_written_where_one_says(
    database_url: str, tmp_path: Path
) -> None:
    env = {"ENFORCE_DATABASE_URL": database_url}
    ran = await run("figures", "--html", "page.html", "--csv", "tables", env=env, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert {tmp_path / line for line in ran.out.splitlines()} == {
        tmp_path / "page.html",
        *(tmp_path / "tables").iterdir(),
    }
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    refused = await run("figures", "--html", "no/page.html", env=env, cwd=tmp_path)
    assert (refused.code, refused.err) == (
        1,
        "error: no/page.html can't be written: No such file or directory\n",
    )
