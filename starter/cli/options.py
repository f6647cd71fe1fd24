"""Arguments and options that several commands share."""

from typing import Annotated

import typer

CaseId = Annotated[
    str,
    typer.Argument(metavar="CASE", help="case number, workflow id, or 400 number", show_default=False),
]
Officer = Annotated[
    str,
    typer.Option(
        "--officer", envvar="ENFORCE_OFFICER", help="who gives the command; it goes into the audit trail"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
