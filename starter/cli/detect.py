"""`enforce detect`: what complaints, observations and alerts add up to, and reporting it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json, Officer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rulebook.detection import Found


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(detect)


def detect(
    officer: Officer,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be reported; report nothing")
    ] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="with --dry-run: as it followed at the end of that day",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="POLICY",
            help="with --dry-run: by the policy in force on a day, or by a draft in a TOML file",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Report the violations that follow from complaints, observed uses and operators' alerts on record.

    Workers do so each hour. The reports go into the inbox, as those of any other system, and from there to
    their cases. The thresholds stand in the policy under [detection]. The same evidence is reported once;
    there is at most one report a day of a kind and number, about all that came meanwhile.

    \b
    Examples:
      $ enforce detect --dry-run
      $ enforce detect --dry-run --as-of 2026-11-26 --policy draft.toml
      $ enforce detect
    """
    from activities import detection
    from registry.session import snapshot
    from rulebook.vocabulary import SHANGHAI, day_of
    from starter import connect, policies
    from starter.cli import show
    from starter.settings import Refused, Settings

    if (as_of or policy) and not dry_run:
        raise Refused("--as-of and --policy only show what would be: they need --dry-run")
    now = datetime.now(UTC)
    if as_of:
        # The last moment of the day, so that it is that day's policy which is asked.
        now = as_of.replace(tzinfo=SHANGHAI) + timedelta(days=1, microseconds=-1)
    by = policies.named(policy) if policy else policies.in_force_on(day_of(now))
    on_record = connect.on_record(Settings())
    if dry_run:
        with snapshot(on_record) as session:
            found = detection.violations(session, by, now)
    else:
        with on_record.begin() as session:
            found = detection.report(session, now, officer)
    if as_json:
        show.json({"dry_run": dry_run, "as_of": now, "policy": by.effective, "found": _told(found)})
    else:
        _print(found, dry_run)


def _told(found: "Sequence[Found]") -> "list[dict[str, object]]":
    return [
        {
            "kind": one.kind,
            "number": one.number,
            "report_id": one.report.report_id,
            "facts": one.facts,
            "evidence": [row.key for row in one.evidence],
            "held_back": one.held_back,
        }
        for one in found
    ]


def _print(found: "Sequence[Found]", dry_run: bool) -> None:
    from rulebook.vocabulary import written
    from starter.cli import show

    out = show.console()
    for one in found:
        why = f"   held back: {one.held_back}" if one.held_back else ""
        out.print(f"{written(one.number)}   {one.kind.label} ({one.kind.clause}){why}", soft_wrap=True)
        out.print(f"  {show.outside(one.facts)}", soft_wrap=True)
        out.print(f"  evidence: {', '.join(show.outside(row.key) for row in one.evidence)}", soft_wrap=True)
    reported = sum(not one.held_back for one in found)
    typer.echo(
        f"{reported} violations {'would be reported' if dry_run else 'reported'}"
        if found
        else "nothing to report"
    )
