"""Write docs/reference.md: each command of `enforce`, in the words of its own help."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from starter.cli import program

FILE = Path(__file__).parents[2] / "docs" / "reference.md"

_PREFACE = """\
# Reference of the commands

<!-- Written by `make reference` from the command line's own help: change it there, not here. -->

`enforce --help` lists the commands, `enforce COMMAND --help` says of one of them what stands here, and
`enforce --install-completion` teaches the shell their names. Who sits at a terminal is asked for what is
missing.
"""
_VALUES = {"int": "COUNT", "int range": "COUNT", "file": "FILE", "Path": "FILE", "dir": "FOLDER"}


def reference() -> str:
    """The whole reference: the same on any terminal and in any environment."""
    top = get_command(program())
    commands = list(_commands(typer.Context(top, info_name="enforce")))
    rows = (
        f"[`{ctx.command_path}`](#{ctx.command_path.replace(' ', '-')}) | {_in_short(ctx)}"
        for ctx in commands
    )
    parts = [_PREFACE, *_prose(top.help or ""), _table("command | what it does", rows)]
    parts += [part for ctx in commands for part in _section(ctx)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _commands(above: typer.Context) -> Iterator[typer.Context]:
    """What can be typed below a group, by name; a group too where it does something itself."""
    assert isinstance(above.command, TyperGroup)
    command: Any
    for name, command in sorted(above.command.commands.items()):
        ctx = typer.Context(command, info_name=name, parent=above)
        group = isinstance(command, TyperGroup)
        if not group or command.invoke_without_command:
            yield ctx
        if group:
            yield from _commands(ctx)


def _in_short(ctx: typer.Context) -> str:
    """The first sentence of what a command says of itself, up to a colon."""
    first = " ".join((ctx.command.help or "").partition("\n\n")[0].split())
    return _cell(_plain(re.split(r"[.:](?: |$)", first)[0]))


def _section(ctx: typer.Context) -> Iterator[str]:
    params: list[Any] = list(ctx.command.params)
    arguments = [param for param in params if param.param_type_name == "argument"]
    asked = [p for p in params if p.param_type_name == "option" and p.required and not p.envvar]
    words = [ctx.command_path, *(_named(param, ctx) for param in [*arguments, *asked]), "[OPTIONS]"]
    yield f"## {ctx.command_path}"
    yield _fenced([" ".join(words)])
    yield from _prose(ctx.command.help or "")
    yield _table("argument or option | meaning | ", (_row(param, ctx) for param in params))


def _named(param: Any, ctx: typer.Context) -> str:
    """An argument or option as it is typed."""
    if param.param_type_name == "argument":
        name: str = param.metavar or param.name.upper()
        return name if param.required or name.startswith("[") else f"[{name}]"
    name = " / ".join([", ".join(param.opts), *param.secondary_opts])
    return name if param.is_flag else f"{name} {param.metavar or _VALUES.get(_type(param, ctx), 'TEXT')}"


def _type(param: Any, ctx: typer.Context) -> str:
    """What typer shows as the type of a value: a word, or the words that are allowed."""
    shown = re.search(r"<(?:list\[)?([^<>\]]*)\]?>$", param.get_help_record(ctx)[0])
    return shown[1] if shown else ""


def _row(param: Any, ctx: typer.Context) -> str:
    # What typer itself says of it (default, variable, bounds) stands last, in brackets.
    said = re.fullmatch(r"(.*?) *(?:\[([^\]]*)\])?", param.get_help_record(ctx)[1], re.DOTALL)
    assert said
    also = [said[2] or ""]
    if "|" in (allowed := _type(param, ctx)):
        also.insert(0, f"one of {allowed.replace('|', ', ')}")
    cells = f"`{_named(param, ctx)}`", _plain(said[1]), _plain("; ".join(filter(None, also)))
    return " | ".join(map(_cell, cells))


def _table(headings: str, rows: Iterator[str]) -> str:
    lines = [f"| {row} |" for row in rows]
    under = "|---" * (headings.count("|") + 1) + "|"
    return "\n".join([f"| {headings} |", under, *lines]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(text: str) -> str:
    """Text, outside of backticks kept from what Markdown would make of it."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*<\[])", r"\\\1", part) for i, part in enumerate(parts))


def _prose(said: str) -> Iterator[str]:
    """The paragraphs of a help; where one keeps its lines, what is indented is to be typed, or a file."""
    for paragraph in said.split("\n\n"):
        lines = paragraph.removeprefix("\b\n").split("\n")
        for indented, some in groupby(lines, lambda line: line.startswith("  ")):
            block = [line.removeprefix("  ") for line in some]
            yield _fenced(block) if indented else _plain(" ".join(block))


def _fenced(block: list[str]) -> str:
    return "\n".join(["```", *block, "```"])


if __name__ == "__main__":
    FILE.write_text(reference(), "utf-8")
