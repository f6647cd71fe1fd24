"""What an officer decides in a case of fraud: serious circumstances, filings, reopening, unfreezing."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.officers import tell
from starter.cli.options import CaseId, Json, Officer, understood

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.lookup import Case


class Became(StrEnum):
    """What can become of a filing."""

    SUBMITTED = "submitted"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    WAIVED = "waived"
    WITHDRAWN = "withdrawn"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (serious, approve, reject, filing, reopen, unfreeze):
        app.command()(command)


def serious(
    named: CaseId,
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="why the circumstances are serious")],
    evidence: Annotated[
        list[str] | None, typer.Option("--evidence", help="may be given several times")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the circumstances of a fraud serious (1.6); another officer has to approve.

    \b
    Example:
      $ enforce serious FR-2026-00007 --reason "涉案金额巨大" --evidence "报案回执 2026-1123"
    """
    from starter import findings
    from starter.settings import Settings
    from workflows.messages import SeriousProposed

    async def propose(client: "Client", case: "Case") -> str:
        said = understood(
            SeriousProposed,
            case_no=case.case_no,
            officer=officer,
            reasons=reason,
            evidence=tuple(evidence or ()),
        )
        return await findings.propose(client, Settings().task_queue, said)

    tell(named, propose, as_json)


def approve(named: CaseId, officer: Officer, as_json: Json = False) -> None:
    """Approve that the circumstances are serious: the account is closed for good (1.6).

    \b
    Example:
      $ enforce approve FR-2026-00007 --officer wang.jing
    """
    from starter import desk, findings
    from workflows.messages import Approve

    said = understood(Approve, officer=officer)

    async def decide(client: "Client", case: "Case") -> str:
        return await desk.act(client, await findings.proceeding(client, case), "approve", said)

    tell(
        named, decide, as_json, "the account is closed for good, its numbers are reclaimed and filings leave"
    )


def reject(
    named: CaseId,
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason")],
    as_json: Json = False,
) -> None:
    """Reject that the circumstances are serious: the case goes on as before.

    \b
    Example:
      $ enforce reject FR-2026-00007 --reason "证据不足" --officer wang.jing
    """
    from starter import desk, findings
    from workflows.messages import Reject

    said = understood(Reject, officer=officer, reason=reason)

    async def decide(client: "Client", case: "Case") -> str:
        return await desk.act(client, await findings.proceeding(client, case), "reject", said)

    tell(named, decide, as_json)


def filing(
    filing_no: Annotated[
        str, typer.Argument(metavar="FILING", help="its number, as `enforce case` shows it")
    ],
    became: Annotated[Became, typer.Argument(help="what became of it")],
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="needed with refused and waived")] = "",
    as_json: Json = False,
) -> None:
    """Say what became of a filing (1.6); one that was refused comes back to be submitted again.

    A filing of a case that was undone is withdrawn, once its recipient has been told (5.2).

    \b
    Examples:
      $ enforce filing FR-2026-00007-F1 submitted
      $ enforce filing FR-2026-00007-F1 refused --reason "附件不全"
    """
    from starter import contests, desk, findings
    from workflows.messages import FilingReported

    said = understood(
        FilingReported, officer=officer, filing_no=filing_no, status=became.value, reason=reason
    )

    async def move(client: "Client", case: "Case") -> str:
        if await contests.restitution(client, case.case_no):
            return await contests.restore(client, case, "filing", said)
        return await desk.act(client, await findings.proceeding(client, case), "filing", said)

    tell(filing_no.rpartition("-")[0], move, as_json)


def reopen(named: CaseId, officer: Officer, as_json: Json = False) -> None:
    """Reopen the account that a case of fraud had suspended, once its fine is paid (1.4).

    \b
    Example:
      $ enforce reopen FR-2026-00007
    """
    _after(named, "reopen", officer, as_json)


def unfreeze(named: CaseId, officer: Officer, as_json: Json = False) -> None:
    """Lift the freeze of the number of a case of fraud that has ended (1.4).

    \b
    Example:
      $ enforce unfreeze FR-2026-00007
    """
    _after(named, "unfreeze", officer, as_json)


def _after(named: str, act: str, officer: str, as_json: bool) -> None:
    from starter import desk
    from starter.settings import Settings
    from workflows.messages import OfficerAct

    async def do(client: "Client", case: "Case") -> str:
        said = understood(OfficerAct, case_no=case.case_no, act=act, officer=officer)
        return await desk.after(client, Settings().task_queue, said)

    tell(named, do, as_json)
