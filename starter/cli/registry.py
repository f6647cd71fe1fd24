"""`enforce registry`: agents and numbers on record, and what is told about the numbers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from starter.cli.options import Json, Officer

registry = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Agents and numbers on record.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(registry, name="registry")


@registry.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a CSV file")],
    officer: Officer,
    what: Annotated[
        Literal["numbers", "complaints", "observations", "alerts"] | None,
        typer.Option("--what", help="what the file holds; told by its columns if not given"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the file, load nothing")] = False,
    as_json: Json = False,
) -> None:
    """Load agents and numbers, or what is told about numbers, from a CSV file: all rows or none.

    \b
    The columns of each kind of file (UTF-8 or GB 18030):
      numbers       agent_id, agent_name, contact, email, phone, number, customer,
                    customer_email, certificate, operator (may be empty: the prefix tells),
                    renewal_due
      complaints    channel, complaint_id, number, kind (service or fraud), received_at,
                    text, answered_at (empty while it isn't answered)
      observations  observation_id, number, observed_at, user, how
      alerts        operator, alert_id, number, raised_at, text
    A moment is written like 2026-11-23 09:12, in Shanghai if no time zone follows.

    What is on record already is brought up to date; no status changes, and no number moves to another agent.
    Safe to repeat. Complaints, observations and alerts may be about numbers that are not on record: `enforce
    detect` shows what follows from them.

    \b
    Examples:
      $ enforce registry import numbers.csv
      $ enforce registry import complaints.csv --dry-run
      $ enforce registry import hotline.csv --what complaints
    """
    from registry import importer, observations
    from registry.migrations import migrate
    from registry.observations import What
    from registry.session import sessions
    from starter import connect
    from starter.cli import show
    from starter.settings import Refused, Settings

    try:
        text = importer.decode(file.read_bytes())
        holds = What(what) if what else observations.told_by_heading(text)
        numbers = importer.read(text) if holds is What.NUMBERS else {}
        others = observations.read(text, holds) if holds is not What.NUMBERS else {}
        engine = connect.registry(Settings())
        migrate(engine)
        with sessions(engine)() as session:
            now = datetime.now(UTC)
            loaded = (
                importer.load(session, numbers, now, officer)
                if holds is What.NUMBERS
                else observations.load(session, others, holds, now, officer)
            )
            if not dry_run:
                session.commit()
    except importer.Refused as refused:
        raise Refused(f"{file}: nothing was loaded\n{refused}") from refused
    if as_json:
        show.json({"what": holds, **loaded._asdict(), "dry_run": dry_run})
        return
    if isinstance(loaded, importer.Loaded):
        told = (
            f"{loaded.agents_added} agents and {loaded.numbers_added} numbers added, "
            f"{loaded.agents_updated} and {loaded.numbers_updated} brought up to date"
        )
    else:
        told = (
            f"{loaded.added} {holds} added, {loaded.updated} brought up to date, "
            f"{loaded.unchanged} on record already"
        )
    typer.echo(f"{'would load' if dry_run else 'loaded'} {file}: {told}")
