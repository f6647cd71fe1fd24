"""Arguments and options that several commands share, and what an officer says with them."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from rulebook.vocabulary import Awaiting, Kind, Stage, faults
from starter.settings import Refused

M = TypeVar("M", bound=BaseModel)

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

# Which cases

OfKind = Annotated[Kind | None, typer.Option("--kind")]
InStage = Annotated[Stage | None, typer.Option("--stage")]
OfAgent = Annotated[str | None, typer.Option("--agent", help="an agent's id")]
OfNumber = Annotated[str | None, typer.Option("--number", help="a 400 number")]
AwaitingWhat = Annotated[Awaiting | None, typer.Option("--awaiting", help="what an officer must do")]
Due = Annotated[
    datetime | None,
    typer.Option("--due", formats=["%Y-%m-%d"], help="deadline on this day or before", metavar="DATE"),
]


def understood(model: type[M], **said: Any) -> M:
    """A message, report or filter as the officer gave it. Raises `Refused` with what is wrong with it."""
    try:
        return model.model_validate(said)
    except ValidationError as error:
        raise Refused(faults(error)) from error
