"""The dossier of a case, for an auditor or the police."""

from pathlib import Path
from typing import Annotated

import typer

from starter.cli.options import CaseId, Json


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(dossier)


def dossier(
    named: CaseId,
    to: Annotated[
        Path | None, typer.Option("-o", "--output", dir_okay=False, metavar="FILE", help="default: CASE.zip")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the file if it is there")] = False,
    as_json: Json = False,
) -> None:
    """Write all that is on record about a case into one ZIP file, with a manifest of hashes.

    In it: a cover with the timeline, the notices as they were sent, reports, evidence, payments, filings, the
    audit trail and the policy. README.txt says how to check it with standard tools. As long as the record
    doesn't change, it is the same file byte for byte. If the record was altered, the dossier says where, and
    the exit code is 1.

    \b
    Examples:
      $ enforce dossier SS-2026-00042
      $ enforce dossier 400-800-1234 -o for-the-police.zip
    """
    import hashlib

    from starter import connect, dossier
    from starter.cli import show
    from starter.files import write
    from starter.settings import Refused, Settings

    made = dossier.make(connect.on_record(Settings()), named)
    file = to or Path(f"{made.case_no}.zip")
    if file.exists() and not force:
        raise Refused(f"{file} is there already: give another name with -o, or --force to replace it")
    write({file: made.content})
    sha256 = hashlib.sha256(made.content).hexdigest()
    if as_json:
        show.json({"file": str(file), "sha256": sha256, "files": made.files, "faults": made.faults})
    else:
        show.console().print(f"{file}: {made.files} files, sha256 {sha256}", soft_wrap=True)
        for fault in made.faults:
            show.console(error=True).print(f"the record was altered: {show.outside(fault)}", soft_wrap=True)
    if made.faults:
        raise typer.Exit(1)
