"""`enforce waits`: what waits for officers, and how long they have let things wait (5.7)."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from registry.waits import Figure, Waiting


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(waits)


def waits(
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="instead: how long what was done since then had waited",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what waits for officers, the longest first; with --since, the figures of what waits no more.

    Days are working days that have passed in full. What waits too long comes by mail each working day.

    \b
    Examples:
      $ enforce waits
      $ enforce waits --since 2026-01-01 --json
    """
    from registry import waits as on_clock
    from starter import connect
    from starter.settings import Settings

    with connect.on_record(Settings())() as session:
        if since:
            _print_figures(on_clock.figures(session, since.date()), as_json)
        else:
            _print_waiting(on_clock.waiting(session, datetime.now(UTC)), as_json)


def _print_waiting(waiting: "list[Waiting]", as_json: bool) -> None:
    from activities.advice import command
    from rulebook.vocabulary import written
    from starter.cli import show

    if as_json:
        show.json(
            [
                wait.model_dump(mode="json") | {"next": command(wait.what, wait.case_no, wait.number)}
                for wait in waiting
            ]
        )
        return
    drawn = show.rows(
        show.table("case", "number", "agent", "what", "since", "days", "brought up", "escalated", "next"),
        (
            (
                wait.case_no,
                written(wait.number),
                show.outside(wait.agent_id),
                wait.what,
                show.when(wait.since),
                str(wait.working_days),
                f"{wait.raised}x" if wait.raised else "",
                str(wait.escalated_on or ""),
                command(wait.what, wait.case_no, wait.number),
            )
            for wait in waiting
        ),
    )
    show.console().print(drawn if waiting else "nothing waits for an officer")


def _print_figures(figures: "list[Figure]", as_json: bool) -> None:
    from starter.cli import show

    if as_json:
        show.json(figures)
        return
    drawn = show.rows(
        show.table("what", "done", "median days", "9 in 10 within", "brought up"),
        ((f.what, str(f.count), f"{f.median:g}", str(f.p90), str(f.raised)) for f in figures),
    )
    show.console().print(drawn if figures else "nothing that waited was done since then")
