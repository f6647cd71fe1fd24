"""The handbooks and the README name settings, commands and words as they are."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup
from typer.main import get_command

from activities.smtp import SmtpServer
from activities.webhook import Gateway
from rulebook.vocabulary import Awaiting
from starter.cli import program
from starter.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text("utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
TYPED = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(enforce .*)$|(?<!`)`(enforce [^`]+)`", re.MULTILINE)


def unknown(typed: str) -> str:
    """The first word of a command that `enforce` does not know; "" if there is none."""
    group = get_command(program())
    _, *words = shlex.split(typed.partition(" | ")[0], comments=True)
    while isinstance(group, TyperGroup) and words and not words[0].isupper() and words[0][0] != "-":
        if words[0] not in group.commands:
            return "" if group.invoke_without_command else words[0]
        group = group.commands[words.pop(0)]
    ctx = typer.Context(group)
    known = {name for param in group.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
    return next((word for word in words if word.startswith("-") and word not in known), "")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_one(page: str) -> None:
    typed = [fenced or said for fenced, said in TYPED.findall(PAGES[page])]
    assert typed
    assert {one: word for one in typed if (word := unknown(one))} == {}


def test_the_table_of_settings_has_each_of_them_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(ENFORCE_\w+)` \|.*\| ([^|]*) \|$", PAGES["operators.md"], re.MULTILINE))
    models: dict[str, type[BaseModel]] = {"": Settings, "SMTP_": SmtpServer, "WEBHOOK_": Gateway}
    settings = (f"{prefix}{name.upper()}" for prefix, model in models.items() for name in model.model_fields)
    assert rows.keys() == {"ENFORCE_OFFICER", *(f"ENFORCE_{name}" for name in settings)}
    for prefix, model in models.items():
        for name, field in model.model_fields.items():
            if field.default and field.default is not PydanticUndefined:
                assert rows[f"ENFORCE_{prefix}{name.upper()}"] == f"`{field.default}`"


def test_each_word_for_what_waits_is_explained_to_officers() -> None:
    section = PAGES["officers.md"].partition("## The words of *awaiting*")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == [word.value for word in Awaiting]
