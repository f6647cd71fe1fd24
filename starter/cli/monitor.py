"""`enforce monitor`: the service that takes violation reports in and hands them to their cases."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.session import Sessions
    from starter.monitor import Taken

monitor = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(monitor, name="monitor")


@monitor.callback()
def run(
    ctx: typer.Context,
    feed: Annotated[
        list[Path] | None,
        typer.Option("--follow", exists=True, metavar="PATH", help="a file or folder of JSON lines or CSV"),
    ] = None,
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="take reports in by POST /reports")
    ] = "",
) -> None:
    """Take violation reports in, and hand each to its case, until Ctrl-C.

    Reports come into the inbox of the registry: other systems insert them there, --follow reads files as they
    grow, --http takes signed requests. Several monitors share the work; one that dies loses nothing.

    \b
    Examples:
      $ enforce monitor
      $ enforce monitor --follow /var/spool/reports --http 127.0.0.1:8400
      $ enforce monitor status
    """
    if ctx.invoked_subcommand:
        return
    from starter import connect, feeds, serve, sources
    from starter import http as door
    from starter import monitor as service
    from starter.settings import Settings

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings()
    at = door.address("--http", http) if http else None
    known = sources.of(settings) if at else {}

    async def serve_all() -> None:
        client = await connect.temporal(settings)
        on_record = connect.on_record(settings, pool_size=6 + len(feed or ()) + 4 * bool(at))
        async with AsyncExitStack() as open_:
            tell = open_.enter_context(_backlog(on_record))
            parts: list[Coroutine[Any, Any, None]] = [
                service.share(client, on_record, settings.task_queue, tell),
                *(feeds.follow(on_record, path) for path in feed or ()),
            ]
            where = ""
            if at:
                url = await open_.enter_async_context(door.serving(on_record, known, *at))
                where = f" at {url}/reports"
            typer.echo(f"taking reports in{where}; Ctrl-C stops, and loses nothing")
            await serve.until_stopped(*parts)

    asyncio.run(serve_all())


@contextmanager
def _backlog(on_record: "Sessions") -> "Iterator[Callable[[Taken], None]]":
    """A progress bar where somebody watches, as long as reports wait."""
    from rich.progress import Progress

    from registry import inbox
    from starter.cli import show

    out = show.console(error=True)
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("reports", total=None, visible=False)
        done = 0

        def tell(taken: "Taken") -> None:
            nonlocal done
            if not out.is_terminal or taken.away:
                return
            with on_record() as session:
                left = inbox.waiting(session)
            done = done + taken.settled if left else 0
            progress.update(task, completed=done, total=done + left, visible=bool(left))

        yield tell


@monitor.command()
def status(as_json: Json = False) -> None:
    """Show what the inbox holds, by source: what waits and since when, what was handed over, what wasn't.

    \b
    Example:
      $ enforce monitor status
    """
    from registry import inbox
    from starter import connect
    from starter.cli import show
    from starter.settings import Settings

    with connect.on_record(Settings())() as session:
        figures = inbox.figures(session)
    if as_json:
        show.json([figure.model_dump(mode="json") for figure in figures])
        return
    columns = ("source", "waiting", "lag", "handed", "in the last minute", "refused", "parked", "discarded")
    drawn = show.rows(
        show.table(*columns),
        (
            (
                show.outside(figure.source),
                str(figure.waiting),
                f"{figure.lag:.0f} s" if figure.waiting else "",
                *(str(n) for n in (figure.handed, figure.handed_last_minute)),
                *(str(n) for n in (figure.refused, figure.parked, figure.discarded)),
            )
            for figure in figures
        ),
    )
    show.console().print(drawn if figures else "no report has come in yet")
