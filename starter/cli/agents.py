"""`enforce agent`, `enforce renewals`, `enforce renewed`: agents and numbers as they stand."""

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from starter.cli.options import Json, Officer, understood


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (agent, renewals, renewed):
        app.command()(command)


def agent(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT", help="the agent's id")], as_json: Json = False
) -> None:
    """Show an agent: account, numbers, cases, offences that count, debt, quarantine.

    \b
    Example:
      $ enforce agent A013
    """
    from starter import agents, connect
    from starter.cli import show
    from starter.settings import Settings

    seen = agents.view(connect.on_record(Settings()), agent_id)
    if as_json:
        show.json(seen)
    else:
        show.agent(seen)


def renewals(as_json: Json = False) -> None:
    """List the numbers in direct service that the platform has to renew (3.3).

    \b
    Example:
      $ enforce renewals
    """
    from starter import connect, docket
    from starter.cli import show
    from starter.settings import Settings

    async def run() -> None:
        waiting = await docket.renewals(await connect.temporal(Settings()))
        if as_json:
            show.json(waiting)
        else:
            show.renewals(waiting)

    asyncio.run(run())


def renewed(
    number: Annotated[str, typer.Argument(help="the 400 number")],
    until: Annotated[
        datetime,
        typer.Option("--until", formats=["%Y-%m-%d"], metavar="DATE", help="its next renewal"),
    ],
    officer: Officer,
    as_json: Json = False,
) -> None:
    """Record that a number in direct service was renewed (3.3).

    \b
    Example:
      $ enforce renewed 400-800-1234 --until 2028-03-31
    """
    from starter import connect, desk, docket
    from starter.cli import show
    from starter.settings import Settings
    from workflows.messages import Renewed

    wanted = understood(docket.Filter, number=number).number
    said = understood(Renewed, officer=officer, until=until.date())

    async def run() -> None:
        text = await desk.renew(await connect.temporal(Settings()), wanted or "", said)
        if as_json:
            show.json({"number": wanted, "text": text})
        else:
            typer.echo(text)

    asyncio.run(run())
