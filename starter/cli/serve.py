"""`enforce up`, `demo`, `worker`, `monitor`: what runs until somebody stops it."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from starter.monitor import Taken


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (up, demo, worker, monitor):
        app.command()(command)


def up() -> None:
    """Run everything here: PostgreSQL, Temporal with its Web UI, a worker, and the monitor.

    The data lies in .enforce (ENFORCE_HOME) and survives a restart. Report files (*.jsonl) put into
    .enforce/reports are taken in by themselves. Ctrl-C stops all; the next `enforce up` resumes all.

    \b
    Example:
      $ enforce up
      $ enforce registry import samples/registry.csv     (in another terminal)
    """
    from starter import connect, local, monitor, serve
    from starter.cli import show
    from starter.settings import Settings

    _log()
    settings = Settings()
    typer.echo(f"starting PostgreSQL and Temporal in {settings.home.resolve()}")

    async def run(web: str) -> None:
        async with serve.cases(settings) as client:
            watching = asyncio.create_task(
                monitor.watch(
                    client,
                    connect.on_record(settings),
                    settings.task_queue,
                    settings.reports_folder,
                    show.taken,
                )
            )
            typer.echo(
                f"Web UI    {web}\n"
                f"reports   {settings.reports_folder.resolve()}/*.jsonl are taken in\n"
                f"notices   {settings.outbox_folder.resolve()}\n"
                "Ctrl-C stops everything; the cases wait, and go on with the next `enforce up`"
            )
            stopping = asyncio.create_task(serve.stopped())
            await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
            typer.echo("stopping")
            if watching.done():
                watching.result()
            watching.cancel()

    with local.servers(settings) as temporal:
        asyncio.run(run(temporal.web))


def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="end by itself instead of staying up")] = False,
) -> None:
    """Watch the system at work: a sample registry, a feed of violations, and their weeks in seconds.

    \b
    Examples:
      $ enforce demo
      $ enforce demo --exit
    """
    from starter.cli import demo as play

    _log()
    play.run(stay=not exit_)


def worker() -> None:
    """Serve cases with the servers named by the environment, or with those of a running `enforce up`.

    \b
    Example:
      $ TEMPORAL_ADDRESS=temporal.internal:7233 ENFORCE_DATABASE_URL=postgresql://... enforce worker
    """
    from starter import serve
    from starter.settings import Settings

    _log()
    settings = Settings()

    async def run() -> None:
        async with serve.cases(settings) as client:
            where = f"{client.service_client.config.target_host}, namespace {client.namespace}"
            typer.echo(f"serving task queue {settings.task_queue} of {where}; Ctrl-C stops")
            await serve.stopped()
            typer.echo("stopping: what runs is finished first")

    asyncio.run(run())


def monitor(
    feed: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a file of JSON lines")],
    as_json: Json = False,
) -> None:
    """Start cases from a file of violation reports, one JSON object a line.

    Safe to repeat: each report counts once, by its source and id. Lines that can't be taken are listed and
    set aside in FILE.refused.jsonl; the others go through. Exit code 1 if any was set aside.

    \b
    Example:
      $ enforce monitor reports.jsonl
      $ head -1 reports.jsonl
      {"source": "dial-back", "report_id": "D-1", "kind": "secondary-sale", "number": "400-800-1234",
       "business": "regular", "facts": "..."}
    """
    from rich.progress import Progress

    from starter import connect
    from starter import monitor as feeds
    from starter.cli import show
    from starter.settings import Settings

    settings = Settings()

    async def run() -> "Taken":
        client = await connect.temporal(settings)
        on_record = connect.on_record(settings)
        with Progress(console=show.console(error=True), transient=True) as progress:
            task = progress.add_task(feed.name, total=None)
            return await feeds.take_in(
                client,
                on_record,
                settings.task_queue,
                feed,
                lambda done, lines: progress.update(task, completed=done, total=lines),
            )

    taken = asyncio.run(run())
    if as_json:
        show.json(taken._asdict() | {"set_aside": [line._asdict() for line in taken.set_aside]})
    else:
        show.taken(feed, taken)
    if taken.set_aside:
        raise typer.Exit(1)


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
