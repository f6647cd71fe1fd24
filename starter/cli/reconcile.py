"""`enforce reconcile`: after a restore, bring the registry and Temporal together."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starter.reconcile import Disagreement, Finding

_POOL = 10


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(reconcile)


def reconcile(
    mend: Annotated[bool, typer.Option("--mend", help="mend what can be mended; else only look")] = False,
    officer: Annotated[
        str,
        typer.Option("--officer", envvar="ENFORCE_OFFICER", help="who mends; it goes into the audit trail"),
    ] = "",
    as_json: Json = False,
) -> None:
    """Find where the registry and Temporal disagree on cases after a restore, and mend it.

    Run it before workers and monitors start; it needs none. It reads the history of every workflow that
    Temporal still has, and the record of every case. Safe to repeat: mended or told once, nothing is found
    again.

    \b
    What it finds:
      numbering  the registry would give case numbers that Temporal knows: moved on
      unknown    goes on in Temporal, not on record: ended, its reports handed in again
      behind     the record has lost steps of a case: begun again from the record
      stranded   open on record, nothing goes on in it: begun again from the record
      ended      ended on record, goes on in Temporal: told to look, and ends
      ahead      Temporal has forgotten steps: none is done again, it heals by itself
      lost       the record has lost what has ended in Temporal: told, and noted once
      beside     an appeal, or what is left after an undo, waits on record, and nothing goes on
                 in which it could be done: begun again

    A case that is begun again finds its steps on record, gets the payments and rectifications that came in
    once more, and at least its full limit; what officers had decided meanwhile is listed with the command to
    type. Exit code 1: something is left to mend or to type.

    \b
    Examples:
      $ enforce reconcile
      $ enforce reconcile --mend
      $ enforce reconcile --json
    """
    from starter.cli import show
    from starter.settings import Refused

    if mend and not officer:
        raise Refused("who mends? Set ENFORCE_OFFICER, or say --officer")
    found = asyncio.run(_run(mend, officer))
    if as_json:
        show.json([one.model_dump(mode="json") for one in found])
    else:
        _print(found)
    if any(one.outcome in ("to-mend", "left") for one in found):
        raise typer.Exit(1)


async def _run(mend: bool, officer: str) -> "list[Finding]":
    from rich.progress import Progress

    from starter import connect, mending
    from starter import reconcile as desk
    from starter.cli import show
    from starter.settings import Settings

    settings = Settings()
    client = await connect.temporal(settings)
    on_record = connect.on_record(settings, _POOL)
    out = show.console(error=True)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("histories", total=None)
        found = await desk.compare(
            client,
            on_record,
            settings.task_queue,
            lambda read, total: progress.update(task, completed=read, total=total),
        )
    if not mend:
        return [one.finding for one in found]
    mend_one = mending.Mending(client, on_record, settings.task_queue, officer).mend
    first = [one for one in found if one.finding.what is desk.What.NUMBERING]
    rest = [one for one in found if one.finding.what is not desk.What.NUMBERING]
    return [*await _mended(mend_one, first), *await _mended(mend_one, rest)]


async def _mended(
    mend: "Callable[[Disagreement], Awaitable[Finding]]", found: "list[Disagreement]"
) -> "list[Finding]":
    """Mend them, some at once; what could not be mended says why."""
    from starter.cli import many

    became = [one.finding for one in found]

    async def one(index: int) -> str:
        became[index] = await mend(found[index])
        return ""

    run = await many.carry_out("cases", range(len(found)), one)
    for index, told in enumerate(run.told):
        if told and told.refused:
            text = f"{became[index].text}; not mended: {told.text}"
            became[index] = became[index].model_copy(update={"outcome": "left", "text": text})
    return became


def _print(found: "list[Finding]") -> None:
    from collections import Counter

    from starter.cli import show
    from starter.cli.many import several

    out = show.console()
    if not found:
        out.print("the registry and Temporal agree")
        return
    drawn = show.table("what", "case", "", "found")
    for one in found:
        told = [
            one.text,
            *(f"lost: {line}" for line in one.lost),
            *(f"type: {typed}" for typed in one.commands),
        ]
        named = one.case_no or one.workflow_id
        drawn.add_row(one.what, named, one.outcome, "\n".join(map(show.outside, told)))
    out.print(drawn)
    counted = Counter(one.outcome for one in found)
    typer.echo(", ".join(f"{count:,} {outcome}" for outcome, count in counted.items()))
    if counted["to-mend"]:
        typer.echo(f"`enforce reconcile --mend` mends {several(counted['to-mend'], 'disagreement')}")
