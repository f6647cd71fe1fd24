"""`enforce policy`: what policies say, and what a draft would have made of the cases on record."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from rulebook.backtest import Backtest, Outcome
    from starter.policies import Difference

policy = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Policies, and drafts of them.")

_DAY = ["%Y-%m-%d"]
Draft = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="a draft: a TOML file")
]
Which = typer.Argument(help="a day on which a policy was in force, or a TOML file")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(policy, name="policy")


@policy.command("show")
def show_policy(
    day: Annotated[
        datetime | None, typer.Argument(metavar="DATE", formats=_DAY, help="today if not given")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the policy in force on a day, and all that are published with their days.

    \b
    Examples:
      $ enforce policy show
      $ enforce policy show 2026-11-01
    """
    from rulebook.policy import published
    from starter import policies
    from starter.cli import show

    on = day.date() if day else _today()
    shown, known = policies.in_force_on(on), published()
    if as_json:
        show.json({"on": on, "policy": shown, "published": [p.effective for p in known]})
        return
    out = show.console()
    out.print(f"In force on {on}:")
    out.print(show.rows(show.table("key", "value"), ((k, str(v)) for k, v in shown.values().items())))
    out.print("\nPublished:")
    for one, then in zip(known, [*known[1:], None], strict=True):
        out.print(f"  from {one.effective}" + (f" until {then.effective}" if then else ""))


@policy.command()
def check(file: Draft, as_json: Json = False) -> None:
    """Check a draft: name all that is wrong with it, or say that it can be published, and what is new in it.

    \b
    Example:
      $ enforce policy check draft.toml
    """
    from starter import policies
    from starter.cli import show

    draft, now = policies.checked(file), policies.in_force_on(_today())
    new = policies.differences(now, draft)
    if as_json:
        show.json({"policy": draft, "in_force": now.effective, "differences": new})
        return
    typer.echo(
        f"{file} can be published, to be in force from {draft.effective}: each of its {len(draft.values())} "
        f"values is known, there, and within its bounds. Against the policy of {now.effective}:"
    )
    _print_differences(new, str(now.effective), file.name)


@policy.command()
def diff(a: Annotated[str, Which], b: Annotated[str, Which], as_json: Json = False) -> None:
    """Compare two policies: what they set differently.

    \b
    Examples:
      $ enforce policy diff 2017-02-16 draft.toml
      $ enforce policy diff 2026-01-01 2027-01-01 --json
    """
    from starter import policies
    from starter.cli import show

    found = policies.differences(policies.named(a), policies.named(b))
    if as_json:
        show.json(found)
    else:
        _print_differences(found, a, b)


@policy.command()
def backtest(
    draft: Annotated[str, typer.Argument(metavar="FILE", help="a draft: a TOML file")],
    since: Annotated[datetime, typer.Option("--since", formats=_DAY, metavar="DATE", help="first day")],
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=_DAY, metavar="DATE", help="last day; today if not given"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what would have become of the cases opened on these days under a draft.

    All acts of agents and officers stay at the moments at which they were done; nothing on record is touched.
    Printed are the cases that would have gone otherwise, and the totals; --json prints all.

    \b
    Examples:
      $ enforce policy backtest draft.toml --since 2026-01-01
      $ enforce policy backtest draft.toml --since 2026-01-01 --until 2026-06-30 --json
    """
    from starter import connect, policies
    from starter.cli import show
    from starter.settings import Refused, Settings

    drafted, first = policies.named(draft), since.date()
    last = until.date() if until else max(first, _today())
    if last < first:
        raise Refused(f"{last} is before {first}")
    on_record = connect.on_record(Settings())
    tested = policies.against_the_record(on_record, drafted, first, last, datetime.now(UTC))
    if as_json:
        show.json(tested)
    else:
        _print_backtest(tested)


def _today() -> date:
    from rulebook.vocabulary import SHANGHAI

    return datetime.now(SHANGHAI).date()


def _print_differences(found: "list[Difference]", a: str, b: str) -> None:
    from starter.cli import show

    drawn = show.rows(show.table("key", a, b), ((d.key, str(d.old), str(d.new)) for d in found))
    show.console().print(drawn if found else "no difference")


def _print_backtest(tested: "Backtest") -> None:
    from rulebook.backtest import Change
    from rulebook.money import yuan
    from rulebook.vocabulary import written
    from starter.cli import show

    out = show.console()
    changed = [case for case in tested.cases if case.change is not Change.SAME]
    drawn = show.table("case", "number", "agent", "on record → under the draft", "change", "note")
    for case in changed:
        under = _told(case.under_draft) if case.under_draft else "not opened"
        drawn.add_row(
            case.case_no,
            written(case.number),
            show.outside(case.agent),
            f"{_told(case.on_record)} → {under}",
            case.change,
            case.note,
        )
    if changed:
        out.print(drawn)
    out.print(
        f"\n{len(tested.cases)} cases opened from {tested.since} until {tested.until}, "
        f"{len(changed)} would have gone otherwise:"
    )
    was, would = tested.on_record, tested.under_draft
    totals = (
        ("cases fined", str(was.fined), str(would.fined)),
        ("fines", yuan(was.yuan), yuan(would.yuan)),
        ("accounts shut down", str(was.accounts_shut_down), str(would.accounts_shut_down)),
        ("numbers taken back for service", str(was.numbers_taken_back), str(would.numbers_taken_back)),
        ("cases spared every penalty", "", str(tested.changes.get(Change.SPARED, 0))),
    )
    out.print(show.rows(show.table("", "on record", "under the draft"), totals))
    out.print("\nWhat can't be known:")
    for unknown in tested.unknown:
        out.print(f"  {unknown}", soft_wrap=True)


def _told(outcome: "Outcome") -> str:
    from rulebook.money import yuan
    from starter.cli import show

    said = str(outcome.stage)
    if outcome.offence:
        said += f", {yuan(outcome.fine)} (offence {outcome.offence})"
    if outcome.taken_back_at:
        said += f", {show.when(outcome.taken_back_at)}"
    return said
