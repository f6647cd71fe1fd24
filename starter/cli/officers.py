"""What an officer decides or records on a case: each command is one update of its workflow."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import CaseId, Json, Officer

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.desk import Case


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (rectified, verify, paid, extend, dismiss):
        app.command()(command)


def rectified(
    named: CaseId,
    officer: Officer,
    statement: Annotated[str, typer.Option("--statement", help="what the agent says it has done")] = "",
    as_json: Json = False,
) -> None:
    """Record that the agent reports rectification (2.2); an officer then verifies it.

    \b
    Example:
      $ enforce rectified 400-800-1234 --statement "已收回号码，恢复原客户使用"
    """
    from starter import desk
    from workflows.messages import RectificationReported

    said = desk.understood(RectificationReported, by=officer, statement=statement)
    tell(named, lambda client, case: desk.act(client, case, "rectified", said), as_json)


def verify(
    named: CaseId,
    officer: Officer,
    passed: Annotated[bool | None, typer.Option("--pass/--fail", help="what was found")] = None,
    reason: Annotated[str, typer.Option("--reason", help="needed with --fail")] = "",
    as_json: Json = False,
) -> None:
    """Record what an officer found when checking the rectification (2.2).

    \b
    Examples:
      $ enforce verify 400-800-1234 --pass
      $ enforce verify 400-800-1234 --fail --reason "回拨仍由原使用人接听"
    """
    from starter import desk
    from starter.settings import Refused
    from workflows.messages import Verify

    if passed is None:
        raise Refused("what was found? Say --pass or --fail")
    said = desk.understood(Verify, officer=officer, passed=passed, reason=reason)
    tell(named, lambda client, case: desk.act(client, case, "verify", said), as_json)


def paid(
    named: CaseId,
    amount: Annotated[str, typer.Argument(help="in yuan, e.g. 1000 or 599.90")],
    officer: Officer,
    reference: Annotated[str, typer.Option("--reference", help="the bank's reference; it counts once")],
    as_json: Json = False,
) -> None:
    """Record a payment (6.1), also for a case that has ended (6.3).

    \b
    Example:
      $ enforce paid SS-2026-00042 1000 --reference ICBC-20261201-0007
    """
    from starter import desk
    from starter.settings import Settings
    from workflows.messages import PaymentReceived

    said = desk.understood(PaymentReceived, by=officer, reference=reference, amount=amount)
    tell(named, lambda client, case: desk.pay(client, Settings().task_queue, case, said), as_json)


def extend(
    named: CaseId,
    days: Annotated[int, typer.Argument(help="working days to add")],
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason")],
    as_json: Json = False,
) -> None:
    """Extend the limit that runs by working days (4.4).

    \b
    Example:
      $ enforce extend 400-800-1234 2 --reason "代理商所在地台风停工"
    """
    from starter import desk
    from workflows.messages import Extend

    said = desk.understood(Extend, officer=officer, working_days=days, reason=reason)
    tell(named, lambda client, case: desk.act(client, case, "extend", said), as_json)


def dismiss(
    named: CaseId,
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="the agent reads it")],
    as_json: Json = False,
) -> None:
    """Dismiss a case that has no ground (5.2), also one that has ended: everything it did is undone.

    \b
    Example:
      $ enforce dismiss 400-800-1234 --reason "登记信息已于举报前变更"
    """
    from starter import contests, desk
    from starter.settings import Settings
    from workflows.messages import Dismiss

    said = desk.understood(Dismiss, officer=officer, reason=reason)
    queue = Settings().task_queue
    tell(named, lambda client, case: contests.dismiss(client, queue, case, said), as_json)


def tell(named: str, do: "Callable[[Client, Case], Awaitable[str]]", as_json: bool) -> None:
    """Carry a command out on the case of that name, and print its answer."""
    from starter import archive, connect, desk
    from starter.cli import show
    from starter.settings import Settings

    async def run() -> None:
        settings = Settings()
        client = await connect.temporal(settings)
        try:
            case = await desk.find(client, named)
        except desk.NotKept:
            case = archive.find(connect.on_record(settings), named)
        text = await do(client, case)
        if as_json:
            show.json({"workflow_id": case.workflow_id, "case_no": case.case_no, "text": text})
        else:
            typer.echo(text)

    asyncio.run(run())
