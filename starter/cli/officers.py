"""What an officer decides or records on a case: each command is one update of its workflow."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import CaseId, Json, Officer, understood
from starter.cli.prompts import typed_out

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.lookup import Case
    from workflows.messages import Verify


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

    said = understood(RectificationReported, by=officer, statement=statement)
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

    said = finding(officer, passed, reason)
    tell(named, lambda client, case: desk.act(client, case, "verify", said), as_json)


def finding(officer: str, passed: bool | None, reason: str) -> "Verify":
    """What an officer found (2.2); who sits at a terminal is asked for what is missing."""
    from starter.cli import prompts
    from workflows.messages import Verify

    if passed is None:
        passed = prompts.choose("What was found?", "pass", "fail") == "pass"
    if not passed and not reason and prompts.person():
        reason = prompts.ask("--reason (the agent reads it)")
    return understood(Verify, officer=officer, passed=passed, reason=reason)


def paid(
    officer: Officer,
    named: Annotated[
        str,
        typer.Argument(metavar="CASE", help="case number, workflow id, or 400 number", show_default=False),
    ] = "",
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="in yuan, e.g. 1000 or 599.90", show_default=False)
    ] = "",
    reference: Annotated[
        str, typer.Option("--reference", help="the bank's reference; it counts once", show_default=False)
    ] = "",
    on: Annotated[
        datetime | None,
        typer.Option(
            "--on",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="the day on which the bank had it; today if not said",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", exists=True, dir_okay=False, help="a bank statement in CSV"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be counted; count nothing")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="count without asking")] = False,
    unmatched: Annotated[
        Path | None,
        typer.Option(
            "--unmatched", metavar="FILE", dir_okay=False, help="write there what nobody could match"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Record a payment (6.1), also for a case that has ended (6.3); or count a whole bank statement.

    Of a statement (CSV, UTF-8 or GBK), a line is counted for the case whose number, or notice's number,
    stands in its remark; for the only case with money due of the 400 number in it; or for the only case of
    the agent who paid that has just this amount due. The other lines are listed with the reason. A reference
    counts once: the same file again counts nothing twice. Exit code 1: a payment was refused.

    A payment is in time if the bank had it in time. Where it becomes known only after the account was shut
    down, the case waits for an officer: see `enforce reinstate`.

    \b
    Examples:
      $ enforce paid SS-2026-00042 1000 --reference ICBC-20261201-0007 --on 2026-12-01
      $ enforce paid --from statement.csv --dry-run
      $ enforce paid --from statement.csv --unmatched unmatched.csv
    """
    one = {"CASE": named, "AMOUNT": amount, "--reference": reference}
    if file:
        if any(one.values()) or on:
            raise typer.BadParameter("one payment, or --from FILE: say only one of them")
        from starter.cli import statement

        statement.count(file, officer, dry_run=dry_run, yes=yes, unmatched=unmatched, as_json=as_json)
        return
    if dry_run or yes or unmatched:
        raise typer.BadParameter("--dry-run, --yes and --unmatched go with --from FILE")
    from starter.cli import prompts

    if any(one.values()) and prompts.person():
        named, amount, reference = (said or prompts.ask(what) for what, said in one.items())
    elif missing := [what for what, said in one.items() if not said]:
        raise typer.BadParameter(
            f"{', '.join(missing)} missing: say CASE, AMOUNT and --reference for one payment, or --from FILE"
        )
    from starter import desk
    from starter.settings import Settings
    from workflows.messages import PaymentReceived

    said = understood(PaymentReceived, by=officer, reference=reference, amount=amount, on=on and on.date())
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

    said = understood(Extend, officer=officer, working_days=days, reason=reason)
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
    from starter import contests
    from starter.settings import Settings
    from workflows.messages import Dismiss

    said = understood(Dismiss, officer=officer, reason=reason)
    queue = Settings().task_queue
    meant = "everything that the case did is undone, and it ends"
    tell(named, lambda client, case: contests.dismiss(client, queue, case, said), as_json, meant)


def tell(
    named: str, do: "Callable[[Client, Case], Awaitable[str]]", as_json: bool, for_good: str = ""
) -> None:
    """Carry a command out on the case of that name, and print its answer.

    What it does `for_good` is said before, and a person has to type the number.
    """
    from starter import connect, lookup
    from starter.cli import show
    from starter.settings import Settings

    async def run() -> None:
        settings = Settings()
        client = await connect.temporal(settings)
        try:
            case = await lookup.find(client, named)
        except lookup.NotKept:
            from starter import archive

            case = archive.find(connect.on_record(settings), named)
        if for_good:
            typed_out(f"{case.case_no or case.workflow_id}: {for_good}", case.number)
        text = await do(client, case)
        if as_json:
            show.json({"workflow_id": case.workflow_id, "case_no": case.case_no, "text": text})
        else:
            typer.echo(text)

    asyncio.run(run())
