"""The `enforce` command line: what compliance officers type.

Each command is declared in a module beside this one, and imports what it needs when it runs: help and shell
completion must not wait for Temporal and SQLAlchemy.
"""

import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group
from typer.models import CommandInfo

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


COMMANDS = {
    "serve": "up demo worker",
    "registry": "registry",
    "monitor": "monitor",
    "reports": "reports",
    "detect": "detect",
    "cases": "report cases case watch",
    "explain": "explain",
    "notices": "notices",
    "dossier": "dossier",
    "officers": "rectified verify paid extend dismiss",
    "bulk": "bulk",
    "todo": "todo due",
    "figures": "figures",
    "fairness": "appeal decide hold resume served bounced reinstate refunded substitute review",
    "fraud": "serious approve reject filing reopen unfreeze",
    "agents": "agent renewals renewed",
    "policy": "policy",
    "calendar": "calendar",
    "reconcile": "reconcile",
}
"""What each module beside this one declares."""

_HELP = """Violation enforcement for 400 numbers: every violation is one durable case.

A case is named as the Temporal Web UI shows it (secondary-sale-4008001234), by its case number
(SS-2026-00042), or by its 400 number alone (4008001234, 400-800-1234) where that is unambiguous.

\b
Exit codes: 0 done, 1 refused (the text says why), 2 not understood,
3 a server or worker does not answer, 130 interrupted.
"""
_EPILOG = """\b
An officer's day:
  $ export ENFORCE_OFFICER=li.min
  $ enforce cases --awaiting verification
  $ enforce case 400-800-1234
  $ enforce verify 400-800-1234 --pass
"""


def program(typed: str = "") -> typer.Typer:
    """The command that was typed, or all of them.

    To import and build them all takes 40 ms, a tenth of what one that asks about a case takes.
    """
    app = typer.Typer(
        name="enforce",
        cls=_Enforce,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=_HELP,
        epilog=_EPILOG,
    )
    meant = [module for module, names in COMMANDS.items() if typed in names.split()]
    for module in meant or COMMANDS:
        import_module(f"starter.cli.{module}").add_to(app)
    if meant:
        app.registered_commands = [one for one in app.registered_commands if name_of(one) == typed]
    for commands in (app, *(group.typer_instance for group in app.registered_groups)):
        for command in commands.registered_commands if commands else ():
            command.cls = Asking
    return app


def name_of(command: CommandInfo) -> str:
    """What one types for it."""
    return command.name or str(getattr(command.callback, "__name__", ""))


def show_soon() -> None:
    """Begin to import `show`, for while a server answers; who imports it then waits for what is left of it.

    In a thread that nobody waits for where there is nothing to show: a refusal, Ctrl-C.
    """
    Thread(target=import_module, args=("starter.cli.show",), daemon=True).start()


def main() -> None:
    """Run the command line."""
    # Names are Chinese: a terminal or pipe with a narrower encoding must not end in a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code: object = 0
    typed = "".join(sys.argv[1:2])
    try:
        # The group, or the only command that was built would be the whole program.
        get_group(program(typed))() if typed in " ".join(COMMANDS.values()).split() else program()()
    except SystemExit as ends:
        code = ends.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):  # whoever read it has seen enough
            if stream:  # none where it was closed before
                stream.flush()
    # Not sys.exit: the client's threads can abort an interpreter that is shutting down (temporalio/sdk-python
    # issue 300), after the command has done its work and told so.
    os._exit(code if isinstance(code, int) else 1)
