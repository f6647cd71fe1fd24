"""`enforce registry`: agents and numbers on record."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the file, load nothing")] = False,
    as_json: Json = False,
) -> None:
    """Load agents and numbers from a CSV file: all rows or none.

    Columns: agent_id, agent_name, contact, email, phone, number, customer, customer_email, certificate,
    operator (may be empty: the prefix tells), renewal_due. What is on record already is brought up to date;
    no status changes, and no number moves to another agent.

    \b
    Examples:
      $ enforce registry import numbers.csv
      $ enforce registry import numbers.csv --dry-run
    """
    from registry import importer
    from registry.session import migrate, sessions
    from starter import connect
    from starter.cli import show
    from starter.settings import Refused, Settings

    try:
        rows = importer.read(importer.decode(file.read_bytes()))
        engine = connect.registry(Settings())
        migrate(engine)
        with sessions(engine)() as session:
            loaded = importer.load(session, rows, datetime.now(UTC), officer)
            if not dry_run:
                session.commit()
    except importer.Refused as refused:
        raise Refused(f"{file}: nothing was loaded\n{refused}") from refused
    if as_json:
        show.json(loaded._asdict() | {"dry_run": dry_run})
        return
    typer.echo(
        f"{'would load' if dry_run else 'loaded'} {file}: "
        f"{loaded.agents_added} agents and {loaded.numbers_added} numbers added, "
        f"{loaded.agents_updated} and {loaded.numbers_updated} brought up to date"
    )
