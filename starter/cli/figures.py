"""`enforce figures`: what the registry adds up to, in the terminal, as a page, as CSV files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.figures import Figures
    from starter.figures import Table

_NARROWEST, _WIDEST = 8, 24  # of a bar, in columns
_GAP = 2
_ROWS = 24


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(figures)


def figures(
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since", formats=["%Y-%m-%d"], metavar="DATE", help="only cases opened on that day or later"
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", dir_okay=False, metavar="FILE", help="write a page with plots")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", file_okay=False, metavar="FOLDER", help="write a CSV file each")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the figures: cases, time to each stage, money, mistakes, repeat offenders, what falls due.

    All is of one moment, and of the cases opened since a day (Asia/Shanghai), or of all. Not so what falls
    due in the coming two weeks and what waits for officers: that is of all cases. The page needs no network.

    \b
    Examples:
      $ enforce figures
      $ enforce figures --since 2026-01-01 --html figures.html --csv figures
    """
    from registry.figures import figures
    from registry.session import snapshot
    from starter import connect
    from starter import figures as shown
    from starter.cli import show
    from starter.settings import Settings

    with snapshot(connect.on_record(Settings())) as session:
        counted = figures(session, datetime.now(UTC), since.date() if since else None)
    written = []
    if html:
        shown.write_page(html, counted)
        written.append(html)
    if csv:
        written += shown.write_csv(csv, counted)
    if as_json:
        show.json(counted)
    elif written:
        for file in written:
            show.console().print(str(file), soft_wrap=True)
    else:
        out = show.console()
        out.print(*draw(counted, out), sep="\n")


def draw(counted: "Figures", out: "Console") -> "Iterator[RenderableType]":
    """The tables with a bar in each row, as wide as the terminal allows."""
    from rich.text import Text

    from starter import figures
    from starter.cli import show

    of = f"cases opened since {counted.since}" if counted.since else "all cases"
    yield Text(f"{show.when(counted.as_of)} (Asia/Shanghai), {of}")
    for table in figures.tables(counted):
        yield Text(f"\n{table.title}", style="bold cyan")
        if table.note:
            yield Text(table.note, style="dim")
        if not table.rows:
            yield Text("none")
            continue
        yield _drawn(table, out)
        if len(table.rows) > _ROWS:
            yield Text(f"{_ROWS} of {len(table.rows)} shown: --csv or --html has all", style="dim")


def _drawn(table: "Table", out: "Console") -> "RenderableType":
    from rich.bar import Bar

    from starter import figures
    from starter.cli import show

    rows, above = [list(table.columns)], ""
    for row in table.rows[:_ROWS]:
        first, *others = map(figures.shown, row)
        rows.append(["" if first == above else first, *others])
        above = first

    def needs() -> int:
        """How many columns of the terminal the table takes beside its bars."""
        plain = show.rows(show.table(*rows[0]), rows[1:])
        return out.measure(plain, options=out.options.update(max_width=999)).maximum + _GAP

    if needs() + _NARROWEST > out.width:
        rows = [[cell.replace(" · ", "\n") for cell in row] for row in rows]
    bar = max(_NARROWEST, min(_WIDEST, out.width - needs()))
    headings, *rows = rows
    drawn = show.table(*headings, "")
    for column, cell in zip(drawn.columns, table.rows[0], strict=False):
        column.justify = "right" if figures.is_amount(cell) else "left"
    drawn.columns[-1].width = bar
    most = max(figures.size(row[table.bar]) for row in table.rows)
    for cells, row in zip(rows, table.rows, strict=False):
        long = figures.size(row[table.bar])
        drawn.add_row(*cells, Bar(most, 0, long) if long else "")
    return drawn
