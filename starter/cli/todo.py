"""`enforce todo` and `enforce due`: what waits for me, and what comes up."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from rulebook.vocabulary import day_of
from starter.cli import show_soon
from starter.cli.options import Json

if TYPE_CHECKING:
    from starter.todo import Task

_SHORT = 28  # characters of which report it is, where there is no room for more


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(todo)
    app.command()(due)


def todo(
    mine: Annotated[
        bool, typer.Option("--mine", help="only what you may do, in cases that you have had a hand in")
    ] = False,
    officer: Annotated[str, typer.Option("--officer", envvar="ENFORCE_OFFICER", help="who you are")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="at most so many")] = 50,
    as_json: Json = False,
) -> None:
    """List what waits for officers, the most urgent first, each with the command to type next.

    What was taken to the supervisor comes first (5.7), then what has the nearest deadline, then what has
    waited longest. Ages are working days that have passed in full.

    \b
    Examples:
      $ enforce todo
      $ enforce todo --mine --json
    """
    from starter import connect
    from starter import todo as desk
    from starter.cli import show
    from starter.settings import Refused, Settings

    if mine and not officer:
        raise Refused("whose? Set ENFORCE_OFFICER, or say --officer")
    settings = Settings()

    async def run() -> None:
        client = await connect.temporal(settings)
        now = datetime.now(UTC)
        found = await desk.tasks(client, connect.on_record(settings), officer, now, mine=mine)
        if as_json:
            show.json(found[:limit])
        else:
            _print(found[:limit], len(found), now)

    asyncio.run(run())


def _print(found: "list[Task]", total: int, now: datetime) -> None:
    from rich.text import Text

    from rulebook.vocabulary import written
    from starter.cli import show

    out = show.console()
    if not found:
        out.print("nothing waits for an officer")
        return
    wide = out.width >= show.WIDE
    drawn = show.table("what", "case", *(("about",) if wide else ()), "deadline", "age", "next")
    if not wide:  # so that most commands stand on one line
        drawn.columns[1].max_width = 14
    for task in found:
        overdue = task.deadline is not None and task.deadline <= now
        number = written(task.number) if task.number else ""
        named = task.case_no or number or task.about
        about = task.about or f"{number}   {task.agent_name or task.agent_id or ''}"
        age = "" if task.working_days is None else f"{task.working_days} d"
        drawn.add_row(
            Text(task.what, "bold red" if task.escalated_on else "bold"),
            show.outside(named if not task.about else "-" if wide else _short(task.about)),
            *((show.outside(about),) if wide else ()),
            Text(show.left(task.deadline, now) if task.deadline else "", "red" if overdue else ""),
            age + (f", escalated {task.escalated_on:%m-%d}" if task.escalated_on and wide else ""),
            Text("by another officer", "dim") if task.by_another else show.outside(task.next),
        )
    out.print(drawn)
    shown = f"{len(found)} of {total}: --limit shows more" if total > len(found) else f"{total}"
    out.print(f"{shown} waiting", style="dim")


def _short(about: str) -> str:
    """Which report it is, without what is wrong with it."""
    which = about.partition(": ")[0]
    return which if len(which) <= _SHORT else f"{which[: _SHORT - 1]}…"


def due(
    when: Annotated[
        str, typer.Argument(metavar="[today|tomorrow|week|DATE]", help="which deadlines", show_default=True)
    ] = "today",
    limit: Annotated[int, typer.Option("--limit", min=1, help="at most so many")] = 200,
    as_json: Json = False,
) -> None:
    """List the cases whose limit ends then, and what follows if nothing happens: all end at 24:00 (4.1).

    `today` also lists those that are over but held back, `week` is today and the six days after it.

    \b
    Examples:
      $ enforce due
      $ enforce due tomorrow
      $ enforce due 2026-12-01 --json
    """
    from starter import connect, docket
    from starter.settings import Settings

    now = datetime.now(UTC)
    first, last = _days(when, day_of(now))

    async def run() -> None:
        show_soon()
        client = await connect.temporal(Settings())
        wanted = docket.Filter(due_from=first, due_on=last)
        listed, total = await docket.cases(client, wanted, limit)
        listed.sort(key=lambda entry: (entry.deadline or now, entry.case_no or ""))
        from starter.cli import show

        if as_json:
            show.json([entry.model_dump(mode="json") | {"then": entry.then} for entry in listed])
        elif not listed:
            show.console().print("no limit ends then")
        else:
            show.entries(listed, total, due=True)

    asyncio.run(run())


def _days(when: str, today: date) -> tuple[date | None, date]:
    """The first and the last day that are meant; today's first day is none: what is over counts too."""
    match when:
        case "today":
            return None, today
        case "tomorrow":
            return today + timedelta(days=1), today + timedelta(days=1)
        case "week":
            return today, today + timedelta(days=6)
    try:
        day = date.fromisoformat(when)
    except ValueError:
        raise typer.BadParameter(
            f"{when!r} is none of today, tomorrow, week, or a date like 2026-12-01"
        ) from None
    return day, day
