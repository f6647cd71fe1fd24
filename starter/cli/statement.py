"""`enforce paid --from FILE`: a bank statement, counted payment by payment and reconciled to the fen."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from starter.cli.options import understood
from starter.settings import Refused

if TYPE_CHECKING:
    from starter.cli.many import Run
    from starter.matching import Known, Matched
    from starter.statement import Statement


def count(
    file: Path, officer: str, *, dry_run: bool, yes: bool, unmatched: Path | None, as_json: bool
) -> None:
    """Match the lines of a statement, show what would be counted, count it if it is meant, and reconcile."""
    from registry.session import snapshot
    from rulebook.money import yuan
    from starter import connect, matching
    from starter.cli import prompts, show
    from starter.cli.many import several
    from starter.matching import Outcome
    from starter.settings import Settings

    if unmatched and unmatched.resolve() == file.resolve():
        raise Refused(f"--unmatched {unmatched} would replace the statement itself")
    given = _read(file)
    with snapshot(connect.on_record(Settings())) as session:
        record = matching.on_record(session, given.lines)
    matched = matching.match(given.lines, record)
    if unmatched:
        _write(unmatched, given, matched)
    if not as_json:
        _draw(matched)
    planned = matching.totals(matched).get(Outcome.TO_COUNT)
    run = None
    if planned and not dry_run:
        if not as_json:
            _reconcile(given, matched)
        prompts.agreed(f"count {several(planned.lines, 'payment')}, {yuan(planned.amount)}?", yes)
        matched, run = asyncio.run(_pay(matched, record.cases, officer))
        if not as_json:
            _tell_of_shutdowns(matched)
    if as_json:
        show.json(_as_data(file, given, matched, dry_run))
    else:
        _say(given, matched, run)
    if run and run.exit_code:
        raise typer.Exit(run.exit_code)


def _read(file: Path) -> "Statement":
    from registry import importer
    from starter import statement

    try:
        return statement.read(importer.decode(file.read_bytes()))
    except (importer.Refused, Refused) as refused:
        raise Refused(f"{file}: nothing was counted: {str(refused).strip()}") from refused


async def _pay(
    matched: "list[Matched]", cases: "dict[str, Known]", officer: str
) -> "tuple[list[Matched], Run]":
    """Count what is to be counted; what became of all lines then."""
    from starter import connect, desk, lookup
    from starter.cli import many
    from starter.matching import Outcome
    from starter.settings import Settings
    from workflows.messages import PaymentReceived

    settings = Settings()
    client = await connect.temporal(settings)

    async def pay(one: "Matched") -> str:
        known = cases[one.case_no]
        said = understood(
            PaymentReceived,
            by=officer,
            reference=one.line.reference,
            amount=one.line.amount,
            on=one.line.on,
        )
        if known.outcome is None:
            case = await lookup.find(client, known.case_no)
        else:
            case = lookup.Case(
                workflow_id=known.workflow_id,
                run_id=known.run_id,
                case_no=known.case_no,
                stage=known.outcome,
                awaiting=(),
                open=False,
                number=known.number,
            )
        return await desk.pay(client, settings.task_queue, case, said)

    to_count = [one for one in matched if one.outcome is Outcome.TO_COUNT]
    run = await many.carry_out("payments", to_count, pay)
    told = iter(run.told)
    became = []
    for one in matched:
        if one.outcome is not Outcome.TO_COUNT:
            became.append(one)
            continue
        answer = next(told)
        outcome = Outcome.NOT_TRIED
        if answer:
            outcome = Outcome.FAILED if answer.refused else Outcome.COUNTED
        became.append(
            one.model_copy(update={"outcome": outcome, "reason": answer.text if answer else "not tried"})
        )
    return became, run


def _tell_of_shutdowns(matched: "Sequence[Matched]") -> None:
    """Print which of the cases had shut the account down though the bank had the fine in time (4.5)."""
    from registry import waits
    from registry.session import snapshot
    from rulebook.vocabulary import Awaiting
    from starter import connect
    from starter.cli import show
    from starter.matching import Outcome
    from starter.settings import Settings

    counted = sorted({one.case_no for one in matched if one.outcome is Outcome.COUNTED})
    with snapshot(connect.on_record(Settings())) as session:
        waiting = waits.by_case(session, counted)
    for case_no in counted:
        if Awaiting.REINSTATEMENT in waiting[case_no]:
            said = f"{case_no}: paid in time, but the account was shut down: enforce reinstate {case_no}"
            show.console().print(said, soft_wrap=True)


def _write(file: Path, given: "Statement", matched: "Sequence[Matched]") -> None:
    """Write the lines that nobody could match, with the reason; corrected, they can be taken in again."""
    from starter.files import spreadsheet, write

    lost = [one for one in matched if one.outcome.for_a_colleague]
    wide = max([len(given.headings), *(len(one.line.cells) for one in lost)])
    rows = ([*_filled(one.line.cells, wide), str(one.line.line), one.outcome, one.reason] for one in lost)
    write({file: spreadsheet([*_filled(given.headings, wide), "line", "outcome", "reason"], rows)})


def _filled(cells: "Sequence[str]", wide: int) -> list[str]:
    return [*cells, *[""] * (wide - len(cells))]


def _draw(matched: "Sequence[Matched]") -> None:
    """Print what is to be counted, and every other line with the reason."""
    from starter.cli import show
    from starter.matching import Outcome

    out = show.console()
    wide = out.width >= show.WIDE
    to_count = [one for one in matched if one.outcome is Outcome.TO_COUNT]
    others = [one for outcome in Outcome for one in matched if one.outcome is outcome is not Outcome.TO_COUNT]
    for of, heading, why in ((to_count, "case", "matched by"), (others, "not counted", "why")):
        drawn = show.table("line", "date", "payer", "amount", heading, why, *(("remark",) if wide else ()))
        drawn.columns[3].justify = "right"
        for one in of:
            line = one.line
            drawn.add_row(
                str(line.line),
                show.outside(line.date)[:10],
                show.outside(line.payer),
                "" if line.amount is None else show.amount(line.amount),
                one.case_no if of is to_count else one.outcome,
                one.how or show.outside(one.reason or one.case_no),
                *((show.outside(line.remark),) if wide else ()),
            )
        if of:
            out.print(drawn, "")


def _reconcile(given: "Statement", matched: "Sequence[Matched]") -> None:
    """Print how many lines and how much money has which outcome, and that they add up to the statement."""
    from rulebook.money import ZERO
    from starter import matching
    from starter.cli import show

    sums = matching.totals(matched)
    drawn = show.table("outcome", "lines", "yuan")
    for column in drawn.columns[1:]:
        column.justify = "right"
    for outcome, total in sums.items():
        drawn.add_row(outcome, f"{total.lines:,}", f"{total.amount:,.2f}")
    drawn.add_row("statement", f"{given.total.lines:,}", f"{given.total.amount:,.2f}")
    show.console().print(drawn)
    added = (sum(total.lines for total in sums.values()), sum((t.amount for t in sums.values()), ZERO))
    if added != given.total:
        raise Refused(f"the outcomes do not add up to the statement: {added}")


def _say(given: "Statement", matched: "Sequence[Matched]", run: "Run | None") -> None:
    """Print what came of it."""
    from rulebook.money import ZERO, yuan
    from starter import matching
    from starter.cli import show
    from starter.cli.many import several
    from starter.matching import Outcome
    from starter.statement import Total

    out = show.console()
    if run:
        for one in matched:
            if one.outcome is Outcome.FAILED:
                said = f"line {one.line.line}, {one.case_no}: {show.outside(one.reason)}"
                out.print(said, soft_wrap=True)
    _reconcile(given, matched)
    if run is None:
        return
    counted = matching.totals(matched).get(Outcome.COUNTED, Total(0, ZERO))
    out.print(f"{counted.lines:,} of {several(len(run.told), 'payment')} counted, {yuan(counted.amount)}")
    if None in run.told:
        out.print("the same command again counts the rest, and none twice")


def _as_data(file: Path, given: "Statement", matched: "Sequence[Matched]", dry_run: bool) -> dict[str, Any]:
    from starter import matching

    return {
        "file": str(file),
        "dry_run": dry_run,
        "lines": [
            one.line.model_dump(mode="json", exclude={"cells", "fault"})
            | one.model_dump(mode="json", exclude={"line"})
            for one in matched
        ],
        "outcomes": {outcome: total._asdict() for outcome, total in matching.totals(matched).items()},
        "statement": given.total._asdict(),
    }
