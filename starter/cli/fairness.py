"""Fairness: appeals and decisions, clocks that stand still, notices served by hand, what an undo leaves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.officers import tell
from starter.cli.options import CaseId, Json, Officer, understood

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.lookup import Case
    from workflows.messages import Message

Reason = Annotated[str, typer.Option("--reason", help="the agent reads it")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (appeal, decide, hold, resume, served, bounced, reinstate, refunded, substitute, review):
        app.command()(command)


def appeal(
    named: CaseId,
    officer: Officer,
    statement: Annotated[str, typer.Option("--statement", help="what the agent says")],
    evidence: Annotated[
        list[Path] | None,
        typer.Option("--evidence", exists=True, dir_okay=False, help="a file; may be given several times"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Record the agent's appeal (5.1), during the case or for 30 days after it; its clock stops.

    \b
    Example:
      $ enforce appeal SS-2026-00042 --statement "号码一直由登记客户使用" --evidence contract.pdf
    """
    from starter import contests
    from starter.settings import Settings
    from workflows.messages import AppealReceived

    settings = Settings()
    understood(AppealReceived, by=officer, statement=statement)
    now = datetime.now(UTC)
    kept: list[str] = []
    if evidence:
        from starter import connect
        from starter.evidence import keep

        on_record = connect.on_record(settings)
        kept = [keep(on_record, file, officer, now) for file in evidence]
    said = understood(AppealReceived, by=officer, statement=statement, evidence=tuple(kept))
    tell(named, lambda client, case: contests.appeal(client, settings.task_queue, case, said), as_json)


def decide(
    named: CaseId,
    officer: Officer,
    reason: Reason,
    uphold: Annotated[
        bool | None, typer.Option("--uphold/--overturn", help="does the case stand, or is it undone?")
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide an appeal (5.1): the case stands, or everything that it did is undone (5.2).

    Never by the officer who opened or verified the case, or found its circumstances serious.

    \b
    Examples:
      $ enforce decide SS-2026-00042 --uphold --reason "回拨记录证实号码由他人使用"
      $ enforce decide SS-2026-00042 --overturn --reason "登记客户与用户系同一企业"
    """
    from starter import contests
    from starter.cli import prompts
    from workflows.messages import Decide

    if uphold is None:
        uphold = prompts.choose("How is it decided: does the case stand?", "uphold", "overturn") == "uphold"
    said = understood(Decide, officer=officer, upheld=uphold, reason=reason)
    undone = "" if uphold else "everything that the case did is undone"
    tell(named, lambda client, case: contests.decide(client, case, said), as_json, undone)


def hold(named: CaseId, officer: Officer, reason: Reason, as_json: Json = False) -> None:
    """Stop the clock of a case (4.4); what is left of its limit is kept.

    \b
    Example:
      $ enforce hold 400-800-1234 --reason "等待公安机关反馈"
    """
    from workflows.messages import HoldCase

    _act(named, "hold", HoldCase, as_json, officer=officer, reason=reason)


def resume(
    named: CaseId,
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason")] = "",
    as_json: Json = False,
) -> None:
    """Let the clock of a case go on that was held; the agent is told of the new deadline.

    \b
    Example:
      $ enforce resume 400-800-1234
    """
    from workflows.messages import ResumeCase

    _act(named, "resume", ResumeCase, as_json, officer=officer, reason=reason)


def served(
    named: CaseId,
    officer: Officer,
    by: Annotated[str, typer.Option("--by", help="how, e.g. courier, in person")],
    on: Annotated[datetime, typer.Option("--on", formats=["%Y-%m-%d"], metavar="DATE", help="the day")],
    proof: Annotated[
        Path, typer.Option("--proof", exists=True, dir_okay=False, help="a file: receipt, photo")
    ],
    as_json: Json = False,
) -> None:
    """Record that you have served a notice that could not be delivered (4.6): its clock starts that day.

    \b
    Example:
      $ enforce served 400-800-1234 --by "EMS 1234567890123" --on 2026-12-01 --proof receipt.jpg
    """
    from starter import connect, contests
    from starter.evidence import keep
    from starter.settings import Settings
    from workflows.messages import ServedByHand

    understood(ServedByHand, officer=officer, method=by, on=on.date(), proof="0" * 64)
    kept = keep(connect.on_record(Settings()), proof, officer, datetime.now(UTC))
    said = understood(ServedByHand, officer=officer, method=by, on=on.date(), proof=kept)
    tell(named, lambda client, case: contests.served(client, case, said), as_json)


def bounced(
    what: Annotated[
        str, typer.Argument(metavar="NOTICE|FILE", help="notice number, or the mail that came back")
    ],
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="why, if it isn't in the mail")] = "",
    as_json: Json = False,
) -> None:
    """Record that a notice came back as undeliverable (4.6): nobody is punished on its limit meanwhile.

    It waits for an officer who serves it another way; its limit counts anew from that day.

    \b
    Examples:
      $ enforce bounced returned.eml
      $ enforce bounced SS-2026-00042-N1 --reason "the mailbox doesn't exist"
    """
    from starter import bounces, contests
    from workflows.messages import NoticeBounced

    notice_no, why = what, reason
    if Path(what).is_file():
        notice_no, said = bounces.read(Path(what))
        why = reason or said
    message = understood(NoticeBounced, notice_no=notice_no.upper(), reason=why, by=officer)
    case_no = notice_no.upper().rpartition("-N")[0]
    tell(case_no or notice_no, lambda client, case: contests.bounced(client, case, message), as_json)


def reinstate(
    named: CaseId,
    officer: Officer,
    reason: Reason,
    keep: Annotated[
        bool, typer.Option("--keep", help="let the shutdown stay, where one waits to be taken back")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take back the shutdown of an account whose fine was paid in time but known late, or paid late (6.3).

    The account and its numbers are what they would be without the shutdown; fine and offence stand, what is
    unpaid stays due, and cases that the shutdown has ended stay so. After a fraud, the account stays
    suspended until `reopen`.

    \b
    Examples:
      $ enforce reinstate SS-2026-00042 --reason "银行已于期限内入账，系平台登记迟延"
      $ enforce reinstate SS-2026-00042 --keep --reason "入账日期登记有误"
    """
    from starter import contests
    from starter.settings import Settings
    from workflows.messages import ReinstatementStart

    async def do(client: "Client", case: "Case") -> str:
        said = understood(ReinstatementStart, case_no=case.case_no, officer=officer, reason=reason, keep=keep)
        return await contests.reinstate(client, Settings().task_queue, case, said)

    back = "" if keep else "the shutdown is taken back, and its numbers are the agent's again"
    tell(named, do, as_json, back)


def refunded(
    named: CaseId,
    officer: Officer,
    reference: Annotated[str, typer.Option("--reference", help="the bank's reference of the refund")],
    as_json: Json = False,
) -> None:
    """Record that you have given money back: what an ended case owes, or all that was paid in an undone one.

    What a case owes back once it has ended is what was paid above its fine, or without one (6.2); where it
    was undone, all that was paid (5.2). It is recorded as a whole, and a reference counts once.

    \b
    Example:
      $ enforce refunded SS-2026-00042 --reference ICBC-20270104-0011
    """
    from starter import contests
    from starter.settings import Settings
    from workflows.messages import Refunded

    said = understood(Refunded, officer=officer, reference=reference)
    queue = Settings().task_queue
    tell(named, lambda client, case: contests.refunded(client, queue, case, said), as_json)


def substitute(
    named: CaseId,
    number: Annotated[str, typer.Argument(help="the number that can't be returned")],
    officer: Officer,
    replacement: Annotated[
        str | None, typer.Option("--with", metavar="NUMBER", help="the number given instead")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="needed without --with")] = "",
    as_json: Json = False,
) -> None:
    """Record what the agent got for a number that is out of quarantine and can't be returned (5.2, 5.3).

    \b
    Examples:
      $ enforce substitute SS-2026-00042 400-800-1234 --with 400-800-9876
      $ enforce substitute SS-2026-00042 400-800-1234 --reason "代理商书面放弃"
    """
    from workflows.messages import Substituted

    said = {"number": number, "substitute": replacement, "reason": reason}
    _restore(named, "substituted", Substituted, as_json, officer=officer, **said)


def review(
    named: CaseId,
    fined: Annotated[str, typer.Argument(metavar="FINED", help="the later case whose fine is reviewed")],
    officer: Officer,
    reason: Reason,
    lower: Annotated[bool | None, typer.Option("--lower/--keep")] = None,
    as_json: Json = False,
) -> None:
    """Review a fine that was higher because of a case that was undone (5.5); CASE is the undone one.

    \b
    Example:
      $ enforce review SS-2026-00042 SS-2026-00077 --lower --reason "前案已撤销，按首次违规处罚"
    """
    from starter.settings import Refused
    from workflows.messages import FineReviewed

    if lower is None:
        raise Refused("is the fine lowered, or kept? Say --lower or --keep")
    said = {"case_no": fined.upper(), "lower": lower, "reason": reason}
    _restore(named, "reviewed", FineReviewed, as_json, officer=officer, **said)


def _act(named: str, command: str, model: "type[Message]", as_json: bool, **said: object) -> None:
    from starter import desk

    message = understood(model, **said)
    tell(named, lambda client, case: desk.act(client, case, command, message), as_json)


def _restore(named: str, command: str, model: "type[Message]", as_json: bool, **said: object) -> None:
    from starter import contests

    message = understood(model, **said)

    async def do(client: "Client", case: "Case") -> str:
        return await contests.restore(client, case, command, message)

    tell(named, do, as_json)
