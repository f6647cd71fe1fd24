"""`enforce report`, `enforce cases`, `enforce case`: open, list, look."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rulebook.vocabulary import Business, Kind
from starter.cli import show_soon
from starter.cli.options import (
    AwaitingWhat,
    CaseId,
    Due,
    InStage,
    Json,
    OfAgent,
    Officer,
    OfKind,
    OfNumber,
    understood,
)

if TYPE_CHECKING:
    from temporalio.client import Client

    from registry.shown import Story
    from starter.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(report)
    app.command()(cases)
    app.command()(case)
    app.command()(watch)


def report(
    number: Annotated[str, typer.Argument(help="the 400 number")],
    facts: Annotated[str, typer.Option("--facts", help="what was found; the agent reads it")],
    officer: Officer,
    kind: Annotated[Kind, typer.Option("--kind")] = Kind.SECONDARY_SALE,
    business: Annotated[Business, typer.Option("--business", help="of the end user")] = Business.REGULAR,
    source: Annotated[str, typer.Option("--source", help="who observed it")] = "officer",
    report_id: Annotated[
        str, typer.Option("--id", help="the source's own id of the report; made up if not given")
    ] = "",
    as_json: Json = False,
) -> None:
    """Open a case by hand, or add evidence to the open one.

    \b
    Examples:
      $ enforce report 400-800-1234 --facts "实际用户与登记客户不一致"
      $ enforce report 4008001234 --facts "..." --business irregular --source hotline --id H-77
    """
    from rulebook.report import Report
    from starter import connect, lookup
    from starter.cli import show
    from starter.reports import submit
    from starter.settings import Settings, Unreachable

    settings = Settings()
    violation = understood(
        Report,
        source=source,
        report_id=report_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}",
        kind=kind,
        number=number,
        business=business,
        facts=facts,
        observed_at=datetime.now(UTC),
        reported_by=officer,
    )

    async def run() -> None:
        client = await connect.temporal(settings)
        went = await submit(client, connect.on_record(settings), settings.task_queue, violation)
        case_no = went.handled_in or ""
        if went.handled_in:
            answer = f"report {violation.key} was handled in {went.handled_in} already"
        else:
            answer = f"report {violation.key} was handed to {went.workflow_id}"
            try:
                told = await lookup.story_when(
                    client, went.workflow_id, lambda told: any(violation.key in n.text for n in told.lines)
                )
            except Unreachable as later:
                answer += f" and will be taken up there ({later})"
            else:
                case_no = told.case_no
                answer = next((n.text for n in reversed(told.lines) if violation.key in n.text), answer)
        if as_json:
            show.json({"workflow_id": went.workflow_id, "case_no": case_no, "text": answer})
        else:
            typer.echo(answer)

    asyncio.run(run())


async def _story(settings: "Settings", client: "Client", named: str) -> "Story":
    """An open case tells its story itself; of an ended one the registry does."""
    from starter import findings, lookup

    try:
        found = await lookup.find(client, named)
        if found.open or not found.case_no:
            return await findings.whole_story(client, found)
        named = found.case_no
    except lookup.NotKept:
        pass
    from starter import archive, connect

    told = archive.story(connect.on_record(settings), named)
    awaiting = {what for p in await lookup.beside(client, told.case_no) for what in p.awaiting}
    awaiting |= set(told.awaiting)
    return told.model_copy(update={"awaiting": tuple(sorted(awaiting))})


def cases(
    stage: InStage = None,
    agent: OfAgent = None,
    number: OfNumber = None,
    kind: OfKind = None,
    awaiting: AwaitingWhat = None,
    due: Due = None,
    ended: Annotated[bool, typer.Option("--ended", help="ended cases instead of open ones")] = False,
    everything: Annotated[bool, typer.Option("--all", help="open and ended cases")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="at most so many, the newest first")] = 50,
    web: Annotated[bool, typer.Option("--web", help="open the list in the Temporal Web UI")] = False,
    as_json: Json = False,
) -> None:
    """List cases: the open ones, unless told otherwise.

    \b
    Examples:
      $ enforce cases --awaiting verification
      $ enforce cases --due 2026-12-01 --agent A007
      $ enforce cases --ended --stage shut-down --json
      $ enforce cases --agent A007 --web
    """
    from starter import connect, docket
    from starter.settings import Settings

    ends = None if everything or (stage and stage.ended) else ended
    which = understood(
        docket.Filter,
        ended=ends,
        kind=kind,
        stage=stage,
        agent=agent,
        number=number,
        awaiting=awaiting,
        due_on=due and due.date(),
    )

    async def run() -> None:
        settings = Settings()
        show_soon()
        client = await connect.temporal(settings)
        if web:
            _open(settings.web_view(client.namespace, which.query()))
            return
        listed, total = await docket.cases(client, which, limit)
        from starter.cli import show

        if as_json:
            show.json(listed)
        else:
            show.entries(listed, total)

    asyncio.run(run())


def _open(page: str) -> None:
    typer.echo(page)
    typer.launch(page)


def case(
    named: CaseId,
    web: Annotated[bool, typer.Option("--web", help="open it in the Temporal Web UI")] = False,
    as_json: Json = False,
) -> None:
    """Tell the whole story of a case: stage, deadline, timeline, notices, money.

    \b
    Examples:
      $ enforce case SS-2026-00042
      $ enforce case 400-800-1234 --web
      $ enforce case secondary-sale-4008001234 --json
    """
    from starter import connect, lookup
    from starter.settings import Settings

    settings = Settings()

    async def run() -> None:
        show_soon()
        client = await connect.temporal(settings)
        if web:
            found = await lookup.find(client, named)
            _open(settings.web_page(client.namespace, found.workflow_id, found.run_id))
            return
        told = await _story(settings, client, named)
        from starter.cli import show

        if as_json:
            show.json(told)
        else:
            show.console().print(show.story(told))

    asyncio.run(run())


def watch(named: CaseId) -> None:
    """Follow a case live until it ends, or until Ctrl-C; a pipe gets each line of its story as it comes.

    \b
    Example:
      $ enforce watch 400-800-1234
    """
    from starter import connect
    from starter.settings import Settings

    settings = Settings()

    async def run() -> None:
        show_soon()
        client = await connect.temporal(settings)
        told = await _story(settings, client, named)
        from rich.live import Live

        from starter.cli import show

        out = show.console()
        with Live(show.story(told), console=out, auto_refresh=False, transient=True) as live:
            known = 0
            while True:
                if out.is_terminal:
                    live.update(show.story(told), refresh=True)
                else:
                    for line in told.lines[known:]:
                        out.print(show.when(line.at), show.outside(line.by), show.outside(line.text))
                    known = len(told.lines)
                if told.stage.ended:
                    break
                await asyncio.sleep(1)
                told = await _story(settings, client, told.workflow_id)
        if out.is_terminal:
            out.print(show.story(told))

    asyncio.run(run())
