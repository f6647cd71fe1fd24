"""`enforce bulk`: one command of an officer for all open cases that a filter finds."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rulebook.vocabulary import Awaiting, Kind, Stage
from starter.cli.officers import finding
from starter.cli.options import (
    AwaitingWhat,
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
    from starter.cli.many import Run
    from starter.docket import Entry, Filter
    from workflows.messages import Extend, Message

bulk = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="One command for all open cases that a filter finds."
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="list the cases; do nothing")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]

_MOST = 10_000  # cases


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(bulk, name="bulk")


@bulk.command()
def verify(
    officer: Officer,
    passed: Annotated[bool | None, typer.Option("--pass/--fail", help="what was found")] = None,
    reason: Annotated[str, typer.Option("--reason", help="needed with --fail")] = "",
    kind: OfKind = None,
    stage: InStage = None,
    agent: OfAgent = None,
    number: OfNumber = None,
    awaiting: AwaitingWhat = None,
    due: Due = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Record for many cases what an officer found when checking the rectification (2.2).

    \b
    Example:
      $ enforce bulk verify --awaiting verification --agent A007 --pass
    """
    which = _which(kind, stage, agent, number, awaiting, due)
    said = finding(officer, passed, reason)
    found = "passed" if said.passed else "failed"
    _each("verify", said, which, f"verify {{}} as {found}?", dry_run, yes, as_json)


@bulk.command()
def extend(
    days: Annotated[int, typer.Argument(help="working days to add")],
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="the agent reads it")],
    kind: OfKind = None,
    stage: InStage = None,
    agent: OfAgent = None,
    number: OfNumber = None,
    awaiting: AwaitingWhat = None,
    due: Due = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Extend the limits that run by working days (4.4).

    A case whose limit you have extended by as many days for the same reason already is left out, so that the
    same command again, after Ctrl-C, extends none twice.

    \b
    Example:
      $ enforce bulk extend 2 --stage rectification --due 2026-12-01 --reason "台风停工"
    """
    from workflows.messages import Extend

    which = _which(kind, stage, agent, number, awaiting, due)
    said = understood(Extend, officer=officer, working_days=days, reason=reason)
    by = f"{days} working day{'s' * (days != 1)}"
    _each("extend", said, which, f"extend {{}} by {by}?", dry_run, yes, as_json)


@bulk.command()
def hold(
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason", help="the agent reads it")],
    kind: OfKind = None,
    stage: InStage = None,
    agent: OfAgent = None,
    number: OfNumber = None,
    awaiting: AwaitingWhat = None,
    due: Due = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Stop the clocks of cases (4.4); what is left of their limits is kept.

    \b
    Example:
      $ enforce bulk hold --agent A007 --reason "等待公安机关反馈"
    """
    from workflows.messages import HoldCase

    which = _which(kind, stage, agent, number, awaiting, due)
    said = understood(HoldCase, officer=officer, reason=reason)
    _each("hold", said, which, "hold {}?", dry_run, yes, as_json)


@bulk.command()
def resume(
    officer: Officer,
    reason: Annotated[str, typer.Option("--reason")] = "",
    kind: OfKind = None,
    stage: InStage = None,
    agent: OfAgent = None,
    number: OfNumber = None,
    awaiting: AwaitingWhat = None,
    due: Due = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let the clocks of cases go on that were held; the agents are told of the new deadlines.

    \b
    Example:
      $ enforce bulk resume --agent A007
    """
    from workflows.messages import ResumeCase

    which = _which(kind, stage, agent, number, awaiting, due)
    said = understood(ResumeCase, officer=officer, reason=reason)
    _each("resume", said, which, "resume {}?", dry_run, yes, as_json)


def _which(
    kind: Kind | None,
    stage: Stage | None,
    agent: str | None,
    number: str | None,
    awaiting: Awaiting | None,
    due: datetime | None,
) -> "Filter":
    from starter import docket

    said = {
        "kind": kind,
        "stage": stage,
        "agent": agent,
        "number": number,
        "awaiting": awaiting,
        "due_on": due and due.date(),
    }
    if not any(said.values()):
        raise typer.BadParameter(
            "which cases? Say --kind, --stage, --agent, --number, --awaiting or --due, or several of them"
        )
    return understood(docket.Filter, **said)


def _each(
    command: str, said: "Message", which: "Filter", question: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Carry a command out on each case that the filter finds, if it is meant, and print what came of each."""
    from starter.cli import prompts, show
    from starter.cli.many import several
    from workflows.messages import Extend

    found = asyncio.run(_open_cases(which))
    extended = _extended(found, said) if isinstance(said, Extend) else set()
    cases = [case for case in found if case.case_no not in extended]
    if not as_json:
        show.entries(cases, len(cases))
        if extended:
            typer.echo(f"{several(len(extended), 'case')} more: extended so already")
    run = None
    if cases and not dry_run:
        prompts.agreed(question.format(several(len(cases), "case")), yes)
        run = asyncio.run(_carry_out(command, said, cases))
    if as_json:
        show.json(_as_data(command, dry_run, cases, extended, run))
    elif run:
        _say(cases, run)
    if run and run.exit_code:
        raise typer.Exit(run.exit_code)


async def _open_cases(which: "Filter") -> "list[Entry]":
    """The open cases that the filter finds, each once; what goes on beside them takes other commands."""
    from rulebook.vocabulary import workflow_id
    from starter import connect, docket
    from starter.settings import Refused, Settings

    listed, total = await docket.cases(await connect.temporal(Settings()), which, _MOST)
    if total > len(listed):
        raise Refused(f"{total:,} cases match, and at most {_MOST:,} can be told at once: narrow it down")
    once = {entry.run_id: entry for entry in listed if entry.case_no}
    return [case for case in once.values() if case.workflow_id == workflow_id(case.kind, case.number)]


def _extended(cases: "Sequence[Entry]", said: "Extend") -> set[str]:
    """Which of the cases this officer has extended by as many days, for the same reason, already."""
    from sqlalchemy import select

    from registry.models import AuditLine
    from starter import connect
    from starter.settings import Settings

    text = f"Limit extended by {said.working_days} working days ({said.reason})"
    with connect.on_record(Settings())() as session:
        return set(
            session.scalars(
                select(AuditLine.case_no).where(
                    AuditLine.case_no.in_([case.case_no for case in cases]),
                    AuditLine.step.startswith("extend-"),
                    AuditLine.actor == said.officer,
                    AuditLine.text.startswith(text, autoescape=True),
                )
            )
        )


async def _carry_out(command: str, said: "Message", cases: "Sequence[Entry]") -> "Run":
    from starter import connect, desk, lookup
    from starter.cli import many
    from starter.settings import Settings

    client = await connect.temporal(Settings())

    async def act(entry: "Entry") -> str:
        case = lookup.Case(
            workflow_id=entry.workflow_id,
            run_id=entry.run_id,
            case_no=entry.case_no or "",
            stage=entry.stage or "",
            awaiting=entry.awaiting,
            open=True,
            number=entry.number,
        )
        return await desk.act(client, case, command, said)

    return await many.carry_out("cases", cases, act)


def _say(cases: "Sequence[Entry]", run: "Run") -> None:
    from rulebook.vocabulary import written
    from starter.cli import show
    from starter.cli.many import several

    drawn = show.table("case", "number", "", "answer")
    for case, outcome, text in _results(cases, run):
        drawn.add_row(case.case_no or "", written(case.number), outcome, show.outside(text))
    show.console().print("", drawn)
    done = sum(outcome == "done" for _, outcome, _ in _results(cases, run))
    typer.echo(f"{done:,} of {several(len(cases), 'case')} done")


def _results(cases: "Sequence[Entry]", run: "Run | None") -> "list[tuple[Entry, str, str]]":
    """What came of each case: done, refused or not tried, and the answer."""
    results = []
    for case, told in zip(cases, run.told if run else [None] * len(cases), strict=True):
        outcome = "not tried" if told is None else "refused" if told.refused else "done"
        text = told.text.removeprefix(f"{case.case_no}: ") if told else ""
        results.append((case, outcome, text))
    return results


def _as_data(
    command: str,
    dry_run: bool,
    cases: "Sequence[Entry]",
    extended: Collection[str],
    run: "Run | None",
) -> dict[str, object]:
    return {
        "command": command,
        "dry_run": dry_run,
        "cases": [
            {
                "workflow_id": case.workflow_id,
                "case_no": case.case_no,
                "number": case.number,
                "outcome": outcome,
                "text": text,
            }
            for case, outcome, text in _results(cases, run)
        ],
        "done_before": sorted(extended),
    }
