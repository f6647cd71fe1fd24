"""`enforce reports`: what came into the inbox, and what an officer does about it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rulebook.vocabulary import IncomingStatus
from starter.cli.options import Json, Officer

if TYPE_CHECKING:
    from registry.models import Incoming

reports = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Violation reports as they came in, and what became of them.",
)
ReportId = Annotated[str, typer.Argument(metavar="REPORT", help="its number in the list, or SOURCE/ID")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(reports, name="reports")


@reports.command("list")
def list_(
    status: Annotated[
        list[IncomingStatus] | None, typer.Option("--status", help="may be given several times")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="of one source")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="at most so many, the newest first")] = 50,
    as_json: Json = False,
) -> None:
    """List reports; without --status those that an officer should look at: refused and parked.

    \b
    Examples:
      $ enforce reports list
      $ enforce reports list --status waiting --source dial-back
    """
    from registry import inbox
    from starter import connect
    from starter.cli import show
    from starter.settings import Settings

    wanted = status or [IncomingStatus.REFUSED, IncomingStatus.PARKED]
    with connect.on_record(Settings())() as session:
        found = inbox.listed(session, wanted, source, limit)
    if as_json:
        show.json([_as_data(report) for report in found])
    else:
        show.incoming(found)


@reports.command()
def show(named: ReportId, as_json: Json = False) -> None:
    """Show a report as it came in, and what became of it.

    \b
    Example:
      $ enforce reports show dial-back/DB-26110004
    """
    from starter import connect
    from starter.cli import show as print_
    from starter.settings import Settings

    with connect.on_record(Settings())() as session:
        report = _found(session, named)
    if as_json:
        print_.json(_as_data(report))
    else:
        print_.incoming([report])
        print_.json(report.payload)


@reports.command()
def retry(named: Annotated[list[str], typer.Argument(metavar="REPORT...")], officer: Officer) -> None:
    """Let reports that were refused, parked or discarded be handed over again, as they came.

    \b
    Example:
      $ enforce reports retry 4711 dial-back/DB-26110004
    """
    from registry import inbox
    from starter import connect
    from starter.settings import Refused, Settings

    with connect.on_record(Settings()).begin() as session:
        for name in named:
            report = _found(session, name)
            if report.status in (IncomingStatus.WAITING, IncomingStatus.HANDED):
                raise Refused(f"report {name} is {report.status}: there is nothing to send again")
            inbox.send_again(session, report, datetime.now(UTC), officer)
    typer.echo(f"{len(named)} reports wait for a monitor again")


@reports.command()
def discard(
    named: Annotated[list[str], typer.Argument(metavar="REPORT...")],
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="why nothing comes of it")],
) -> None:
    """Discard reports that were refused or parked: nothing comes of them, and you answer for that.

    \b
    Example:
      $ enforce reports discard 4711 --reason "a test of the detection system"
    """
    from registry import inbox
    from starter import connect
    from starter.settings import Refused, Settings

    if not reason.strip():
        raise Refused("--reason: say why")
    with connect.on_record(Settings()).begin() as session:
        for name in named:
            report = _found(session, name)
            if report.status not in (IncomingStatus.REFUSED, IncomingStatus.PARKED):
                raise Refused(f"report {name} is {report.status}: only refused and parked ones are discarded")
            inbox.discard(session, report, reason, datetime.now(UTC), officer)
    typer.echo(f"{len(named)} reports discarded")


@reports.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines or CSV")],
    as_json: Json = False,
) -> None:
    """Take in a file of violation reports, and wait until each is with its case or refused.

    Safe to repeat: each report counts once, by its source and id. Exit code 1 if any was refused; it is kept
    with its reason, see `enforce reports list`.

    \b
    Example:
      $ enforce reports import reports.jsonl
      $ head -1 reports.jsonl
      {"source": "dial-back", "report_id": "D-1", "kind": "secondary-sale", "number": "400-800-1234",
       "business": "regular", "facts": "..."}
    """
    from rich.progress import Progress

    from registry import inbox
    from starter import connect, feeds, monitor
    from starter.cli import show as print_
    from starter.settings import Settings

    settings = Settings()
    [file] = feeds.files(file)
    on_record = connect.on_record(settings)
    came = feeds.read_all(on_record, file)

    async def settle() -> dict[IncomingStatus, int]:
        client = await connect.temporal(settings)
        with Progress(console=print_.console(error=True), transient=True) as progress:
            task = progress.add_task(file.name, total=len(came.ids))
            return await monitor.settle(
                *(client, on_record, settings.task_queue, came.ids),
                lambda settled: progress.update(task, completed=settled),
            )

    ended = asyncio.run(settle())
    left = (IncomingStatus.REFUSED, IncomingStatus.PARKED)
    with on_record() as session:
        troubled = inbox.of(session, came.ids, *left)
    if as_json:
        told = {"reports": len(came.ids), "new": came.new, "ended": ended}
        print_.json(told | {"refused": [_as_data(report) for report in troubled]})
    else:
        typer.echo(f"{file.name}: {len(came.ids)} reports, {came.new} of them new: {print_.ended(ended)}")
        if troubled:
            print_.incoming(troubled[:20])
    if troubled:
        raise typer.Exit(1)


def _found(session: Any, named: str) -> "Incoming":
    from registry import inbox
    from starter.settings import Refused

    report = inbox.found(session, named)
    if report is None:
        raise Refused(f"no report {named} has come in: name it by its number, or as SOURCE/ID")
    return report


def _as_data(report: "Incoming") -> dict[str, Any]:
    return {
        "id": report.id,
        "source": report.source,
        "report_id": report.report_id,
        "via": report.via,
        "received_at": report.received_at,
        "status": report.status,
        "reason": report.reason,
        "attempts": report.attempts,
        "settled_at": report.settled_at,
        "settled_by": report.settled_by,
        "workflow_id": report.workflow_id,
        "payload": report.payload,
    }
