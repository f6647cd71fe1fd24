"""`enforce calendar`: working days as they stand, and what changes them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.options import Json, Officer

calendar = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Holidays, make-up weekends, closing days."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(calendar, name="calendar")


@calendar.command()
def show(
    year: Annotated[int, typer.Argument(min=2001, max=2099, help="e.g. 2027")],
    as_csv: Annotated[bool, typer.Option("--csv", help="print a file that can be imported")] = False,
    as_json: Json = False,
) -> None:
    """Show how a year differs from a plain week: holidays, make-up weekends, closing days (4.2).

    A year that is not published yet is computed, and deadlines that fall into it are provisional.

    \b
    Examples:
      $ enforce calendar show 2027
      $ enforce calendar show 2026 --csv > calendar-2026.csv
    """
    from starter import calendars, connect
    from starter.cli import show as print_
    from starter.settings import Settings

    with connect.on_record(Settings())() as session:
        seen = calendars.year(session, year)
    if as_json:
        print_.json(seen)
    elif as_csv:
        typer.echo(seen.csv(), nl=False)
    else:
        known = f"published ({', '.join(seen.published_in)})" if seen.published_in else "provisional"
        print_.console().print(
            print_.rows(
                print_.table(f"{year}: {known}", "", ""),
                ((f"{d.day} {d.day:%a}", d.what, print_.outside(d.reason)) for d in seen.days),
            )
        )


@calendar.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a CSV file")],
    officer: Officer,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the file and count the deadlines; change nothing")
    ] = False,
    revised: Annotated[
        bool, typer.Option("--revised", help="the file prevails over what the public calendar says")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load the State Council's arrangement of a year, or closing days: all lines or none (4.2).

    Then the open cases whose deadline moves are brought to the new one: never to an earlier one (4.3), and
    each agent gets a letter that restates it. Days that the file doesn't name stay as they are. Safe to
    repeat: what is on record already changes nothing.

    \b
    The file (UTF-8 or GB 18030):
      day,what,reason
      2027-02-08,off,春节               a weekday that is off
      2027-02-20,works,春节调休         a weekend that is worked
      2027-03-12,closing,机房搬迁       the platform is closed
      2027-03-12,open,搬迁取消          it is not, after all
    The arrangement of a new year has to name every public holiday that falls on a weekday.

    \b
    Examples:
      $ enforce calendar import samples/calendar-2027.csv --dry-run
      $ enforce calendar import calendar-2027.csv
    """
    from rich.progress import Progress

    from registry import calendar as days
    from registry import importer
    from registry.migrations import migrate
    from registry.session import sessions
    from starter import calendars, connect
    from starter.cli import show as print_
    from starter.settings import Refused, Settings
    from workflows.calendar import Walked

    settings, now = Settings(), datetime.now(UTC)

    async def run() -> "tuple[days.CalendarImported, Walked]":
        named = days.read(importer.decode(file.read_bytes()))
        client = None if dry_run else await connect.temporal(settings)
        engine = connect.registry(settings)
        migrate(engine)
        with sessions(engine)() as session:
            imported = days.load(session, named, now, officer, revised=revised)
            if client is None:
                return imported, calendars.foresee(session, now)
            session.commit()
        with Progress(console=print_.console(error=True), transient=True) as progress:
            task = progress.add_task("open cases", total=None)

            def tell(walked: Walked) -> None:
                progress.update(task, description=str(walked))

            return imported, await calendars.walk(client, settings.task_queue, tell)

    try:
        imported, walked = asyncio.run(run())
    except importer.Refused as refused:
        raise Refused(f"{file}: nothing was loaded\n{refused}") from refused
    if as_json:
        told = imported.model_dump(mode="json", exclude={"line"})
        print_.json({"dry_run": dry_run, **told, "cases": walked})
        return
    for day in imported.changed:
        before, reason = print_.outside(day.before), print_.outside(day.reason)
        typer.echo(f"{day.day}: {day.what} ({reason}), before {before}")
    typer.echo(
        f"{'would load' if dry_run else 'loaded'} {file}: {len(imported.added)} days added, "
        f"{len(imported.changed)} changed, {imported.unchanged} on record already\n{walked}"
    )
