"""Asking who sits at the terminal for what is missing, and whether it is meant; nobody else is asked."""

import signal
import sys
from typing import Any

import typer
from typer.core import TyperCommand

from starter.settings import Refused


def person() -> bool:
    """Whether a person sits there: input and what is said beside the output are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


class Asking(TyperCommand):
    """A command that asks a person for each argument and option that it needs and wasn't given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command, as often as something is missing and a person says it."""
        while True:
            try:
                return super().parse_args(ctx, list(args))
            except typer.BadParameter as wrong:
                missing = wrong.param if hasattr(wrong, "param_type") else None
                if missing is None or not person():
                    raise
                # Not among the words: there, an answer that begins with a dash would be an option.
                ctx.default_map = (ctx.default_map or {}) | {missing.name: _answer(missing)}


def _answer(missing: Any) -> str | list[str]:
    argument = missing.param_type_name == "argument"
    named = (missing.metavar or missing.name).upper() if argument else missing.opts[0]
    answer = ask(f"{named} ({missing.help})" if missing.help else named)
    return [answer] if missing.nargs == -1 else answer


def ask(question: str) -> str:
    """What a person answers; asked again until it is something.

    Ctrl-C ends the program as any other; raises `Refused` at the end of input.
    """
    while not (answer := _said(question)):
        pass
    return answer


def _said(question: str) -> str:
    # A running event loop would only take note of Ctrl-C, and have the command carried out after all.
    noting = signal.signal(signal.SIGINT, signal.SIG_DFL)
    line = ""
    try:
        typer.echo(f"{question}: ", nl=False, err=True)
        line = sys.stdin.readline()
        line.encode()  # what a terminal of another encoding sends may have come in as it is
    except UnicodeError:
        typer.echo(f"that is not text in {sys.stdin.encoding}", err=True)
        return ""
    finally:
        signal.signal(signal.SIGINT, noting)
        if not line:
            typer.echo(err=True)
    if not line:
        raise Refused("nothing was done: there is no answer")
    return line.strip()


def choose(question: str, *answers: str) -> str:
    """Which of the answers a person chooses. Raises `Refused` where nobody sits there."""
    if not person():
        raise Refused(f"{question} Say {' or '.join(f'--{answer}' for answer in answers)}")
    while True:
        said = ask(f"{question} [{'/'.join(answers)}]").lower()
        meant = [answer for answer in answers if answer.startswith(said)]
        if len(meant) == 1:
            return meant[0]


def agreed(question: str, yes: bool) -> None:
    """Go on only if it is meant: by a person, or by `--yes` where nobody sits there. Raises `Refused`."""
    if yes:
        return
    if not person():
        raise Refused("nobody is there to confirm it: say --yes if it is meant, or --dry-run to look first")
    if _said(f"{question} [y/N]").lower() not in ("y", "yes"):
        raise Refused("nothing was done")


def typed_out(what: str, number: str) -> None:
    """Have a person type the 400 number before what can't be undone easily; nobody else is asked.

    Raises `Refused` where another number is typed.
    """
    if not person():
        return
    typer.echo(f"{what}; this can't be undone easily", err=True)
    if ask(f"type {number} to go on").replace("-", "").replace(" ", "") != number:
        raise Refused(f"that is not {number}: nothing was done")
