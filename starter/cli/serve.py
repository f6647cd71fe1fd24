"""`enforce up`, `demo`, `worker`: what runs until somebody stops it."""

import asyncio
import logging
from typing import Annotated, Literal

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (up, demo, worker):
        app.command()(command)


def up() -> None:
    """Run everything here: PostgreSQL, Temporal with its Web UI, a worker, and the monitor.

    The data lies in .enforce (ENFORCE_HOME) and survives a restart. Report files (*.jsonl, *.csv) put into
    .enforce/reports are taken in by themselves. Ctrl-C stops all; the next `enforce up` resumes all.

    \b
    Example:
      $ enforce up
      $ enforce registry import samples/registry.csv     (in another terminal)
    """
    from starter import connect, feeds, local, monitor, serve
    from starter.settings import Settings

    _log()
    settings = Settings()
    serve.channel(settings)  # what is wrong with it is said before anything starts
    typer.echo(f"starting PostgreSQL and Temporal in {settings.home.resolve()}")

    async def run(web: str) -> None:
        async with serve.cases(settings) as client:
            on_record, folder = connect.on_record(settings), settings.reports_folder
            folder.mkdir(parents=True, exist_ok=True)
            typer.echo(
                f"Web UI    {web}\n"
                f"reports   {folder.resolve()}/*.jsonl and *.csv are taken in\n"
                f"notices   {settings.notices_go}\n"
                "Ctrl-C stops everything; the cases wait, and go on with the next `enforce up`"
            )
            await serve.until_stopped(
                monitor.share(client, on_record, settings.task_queue), feeds.follow(on_record, folder)
            )
            typer.echo("stopping")

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


def worker(
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="tell of its health and figures there")
    ] = "",
    sdk_metrics: Annotated[
        str,
        typer.Option("--sdk-metrics", metavar="IP:PORT", help="serve the metrics of Temporal's SDK there"),
    ] = "",
    only: Annotated[
        Literal["cases", "deliveries"] | None,
        typer.Option("--only", help="serve the cases, or the deliveries that they hand over"),
    ] = None,
) -> None:
    """Serve cases with the servers named by the environment, or with those of a running `enforce up`.

    As many as you like share the work. A letter that can't leave at once is handed over to the deliveries, so
    that no case waits for another one's; somebody has to serve both. With --http, GET /healthz says whether
    it can work, and /metrics has the figures of the registry for Prometheus; those of the SDK have an address
    of their own.

    \b
    Examples:
      $ TEMPORAL_ADDRESS=temporal.internal:7233 ENFORCE_DATABASE_URL=postgresql://... enforce worker
      $ enforce worker --http 127.0.0.1:8400 --sdk-metrics 127.0.0.1:8401
      $ enforce worker --only deliveries
    """
    from starter import http as door
    from starter import serve
    from starter.settings import Settings
    from worker import Queue

    _log()
    settings = Settings()
    queue = Queue(only) if only else None
    at = door.address("--http", http) if http else None
    if sdk_metrics:
        serve.sdk_metrics(*door.address("--sdk-metrics", sdk_metrics))

    async def run() -> None:
        async with serve.cases(settings, at, queue) as client:
            where = f"{client.service_client.config.target_host}, namespace {client.namespace}"
            which = f"{only} of " if only else ""
            typer.echo(f"serving {which}task queue {settings.task_queue} of {where}; Ctrl-C stops")
            await serve.stopped()
            typer.echo("stopping: what runs is finished first")

    asyncio.run(run())


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
