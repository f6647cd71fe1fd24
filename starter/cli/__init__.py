"""The `enforce` command line: what compliance officers type.

Each command is declared here or in a module beside this one, and imports what it needs when it runs: help
and shell completion must not wait for Temporal and SQLAlchemy.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from starter.cli import (
    agents,
    bulk,
    calendar,
    cases,
    detect,
    dossier,
    explain,
    fairness,
    figures,
    fraud,
    monitor,
    notices,
    officers,
    policy,
    registry,
    reports,
    serve,
    todo,
)
from starter.cli.prompts import Asking
from starter.settings import Refused, Unreachable


class _Enforce(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; what can't be done is said in words, with an exit code of its own."""
        try:
            return super().invoke(ctx)
        except Refused as refused:
            typer.echo(f"error: {refused}", err=True)
            raise typer.Exit(refused.exit_code) from refused
        except KeyboardInterrupt as interrupted:
            raise typer.Exit(130) from interrupted
        except Exception as error:
            if not (said := _of_the_registry(error)):
                raise
            typer.echo(f"error: {said}", err=True)
            raise typer.Exit(Unreachable.exit_code) from error


def _of_the_registry(error: Exception) -> str:
    """What to say of an error of the database; "" of any other."""
    if "sqlalchemy" not in sys.modules:
        return ""
    from sqlalchemy.exc import DBAPIError

    if not isinstance(error, DBAPIError):
        return ""
    if getattr(error.orig, "pgcode", "") in ("42P01", "42703"):  # no such table, no such column
        return "the registry has another schema: start a worker of this version, it brings it up to date"
    return f"the registry does not answer as it should: {str(error.orig).strip()}"


app = typer.Typer(
    name="enforce",
    cls=_Enforce,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Violation enforcement for 400 numbers: every violation is one durable case.

    A case is named as the Temporal Web UI shows it (secondary-sale-4008001234), by its case number
    (SS-2026-00042), or by its 400 number alone (4008001234, 400-800-1234) where that is unambiguous.

    \b
    Exit codes: 0 done, 1 refused (the text says why), 2 not understood,
    3 a server or worker does not answer, 130 interrupted.
    """,
    epilog="""\b
    An officer's day:
      $ export ENFORCE_OFFICER=li.min
      $ enforce cases --awaiting verification
      $ enforce case 400-800-1234
      $ enforce verify 400-800-1234 --pass
    """,
)
_MODULES = (
    *(serve, registry, monitor, reports, detect, cases, explain, notices, dossier),
    *(officers, bulk, todo, figures, fairness, fraud, agents, policy, calendar),
)
for module in _MODULES:
    module.add_to(app)
for commands in (app, *(group.typer_instance for group in app.registered_groups)):
    for command in commands.registered_commands if commands else ():
        command.cls = Asking


def _leave_out_the_rest(named: list[str]) -> None:
    # To build all commands takes 12 ms, which is what one that asks about a case has to spare.
    commands = app.registered_commands
    meant = [one for one in commands if one.callback and [one.name or one.callback.__name__] == named]
    if meant:  # and one more, or the only command would be the whole program
        app.registered_commands = [*meant, *(one for one in commands if one not in meant)][:2]
        app.registered_groups = []


def main() -> None:
    """Run the command line."""
    # Names are Chinese: a terminal or pipe with a narrower encoding must not end in a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code: object = 0
    _leave_out_the_rest(sys.argv[1:2])
    try:
        app()
    except SystemExit as ends:
        code = ends.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):  # whoever read it has seen enough
            if stream:  # none where it was closed before
                stream.flush()
    # Not sys.exit: the client's threads can abort an interpreter that is shutting down (temporalio/sdk-python
    # issue 300), after the command has done its work and told so.
    os._exit(code if isinstance(code, int) else 1)
