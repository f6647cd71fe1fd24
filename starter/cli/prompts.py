"""Asking who sits at the terminal for what is missing, and whether it is meant; nobody else is asked."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from starter.settings import Refused


def person() -> bool:
    """Whether a person sits there: input and what is said beside the output are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Asking(TyperCommand):
    """A command that asks a person for each argument and option that it needs and wasn't given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command, as often as something is missing and a person says it."""
        given = list(args)
        while True:
            try:
                return super().parse_args(ctx, list(given))
            except typer.BadParameter as wrong:
                missing = wrong.param if hasattr(wrong, "param_type") else None
                if missing is None or not person():
                    raise
                given = self._with_answer(given, missing)

    def _with_answer(self, given: list[str], missing: Any) -> list[str]:
        said = missing.help or missing.human_readable_name
        if missing.param_type_name == "argument":
            # In front of a lone --, after which everything is an argument too.
            at = given.index("--") if "--" in given else len(given)
            return [*given[:at], ask(f"{missing.human_readable_name} ({said})"), *given[at:]]
        option = missing.opts[0]
        return [f"{option}={ask(f'{option} ({said})')}", *given]


def ask(question: str) -> str:
    """What a person answers; asked again until it is something."""
    answer: str = typer.prompt(question, err=True)
    return answer.strip()


def choose(question: str, *answers: str) -> str:
    """Which of the answers a person chooses. Raises `Refused` where nobody sits there."""
    if not person():
        raise Refused(f"{question} Say {' or '.join(f'--{answer}' for answer in answers)}")
    while True:
        said = ask(f"{question} [{'/'.join(answers)}]").lower()
        meant = [answer for answer in answers if said and answer.startswith(said)]
        if len(meant) == 1:
            return meant[0]


def agreed(question: str, yes: bool) -> None:
    """Go on only if it is meant: by a person, or by `--yes` where nobody sits there. Raises `Refused`."""
    if yes:
        return
    if not person():
        raise Refused("nobody is there to confirm it: say --yes if it is meant, or --dry-run to look first")
    if not typer.confirm(question, err=True):
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
