"""The letters: one wording, edited as plain text in templates/, and the three forms in which it leaves.

The plain text is the letter; HTML and PDF show the same lines in a nicer dress. What a line is shows in how
it begins, so whoever edits the wording needs no markup:

    【标签】text            a label, as is `标签：` or `Label: ` at the start of a line
      1. text   - text      an item of a list
         text               an indented line stands by itself
    text                   anything else goes on with what is above it
"""

import json
import os
import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import typst
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, meta
from pydantic import BaseModel, ConfigDict
from pylopdf_fonts_zh_cn import sans_path

from rulebook.money import capitals
from rulebook.vocabulary import Kind, NoticeKind, day_of, printable, written

TEMPLATES = Path(__file__).parent.parent / "templates"

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")

_RULE = "=" * 50
_BETWEEN = "-" * 50

_LABEL = re.compile(r"(【[^】]{1,20}】|[^\s【：，。；、（]{1,8}：|[A-Z][A-Za-z ]{0,40}:(?= |$))\s*(.*)")
_ITEM = re.compile(r" +(\d+\.|-) +(.*)")


class Block(BaseModel):
    """A paragraph, an item of a list with its mark, or a line that stands by itself."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["text", "item", "line"]
    label: str = ""
    mark: str = ""
    text: str


class Page(BaseModel):
    """The letter in one language, as its parts."""

    model_config = ConfigDict(frozen=True)

    language: Language
    title: str
    house: str
    head: tuple[str, ...]
    blocks: tuple[Block, ...]
    signature: tuple[str, ...]


class Written(BaseModel):
    """A letter in its three forms; its subject is the title of the Chinese one."""

    model_config = ConfigDict(frozen=True)

    subject: str
    text: str
    html: str
    pdf: bytes


def _day(moment: datetime | date) -> date:
    return day_of(moment) if isinstance(moment, datetime) else moment


def _chinese_date(moment: datetime | date) -> str:
    day = _day(moment)
    return f"{day.year}年{day.month}月{day.day}日"


def _english_date(moment: datetime | date) -> str:
    day = _day(moment)
    return f"{day.day} {day:%B %Y}"


def _amount(value: Decimal | int) -> str:
    return f"{value:,.2f}"


def _in_full(value: Decimal | int) -> str:
    return f"{_amount(value)} 元（大写：{capitals(value)}）"


def _harmless(value: Any) -> Any:
    """What a template fills in is never more than the line on which it stands."""
    return printable(value) if isinstance(value, str) else value


def environment(templates: Path = TEMPLATES) -> Environment:
    """The templates of plain text: a variable that is not known is an error, never a gap in a letter."""
    wording = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        # Plain text: there is no markup to escape, and what could forge a line is taken out.
        autoescape=False,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    wording.filters |= {
        "written": written,
        "zh_date": _chinese_date,
        "en_date": _english_date,
        "amount": _amount,
        "yuan": _in_full,
    }
    return wording


# One thread a letter: many are set side by side, and threads of its own cost a third more CPU.
os.environ.setdefault("RAYON_NUM_THREADS", "1")


class Letters:
    """The letters that agents and customers get, from a folder of templates."""

    def __init__(self, templates: Path = TEMPLATES) -> None:
        self._templates = templates
        self._wording = environment(templates)
        dress = Environment(
            loader=FileSystemLoader(templates), undefined=StrictUndefined, autoescape=True, trim_blocks=True
        )
        self._html = dress.get_template("letter.html.j2")
        self._fonts = typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            font_paths=[sans_path().parent],
        )

    def write(self, kind: Kind, notice: NoticeKind, facts: dict[str, Any], at: datetime) -> Written:
        """Write a letter. Raises `jinja2.TemplateError` where its template asks for what isn't there."""
        texts = [
            re.sub(r"\n{3,}", "\n\n", self.template(language, kind, notice).render(facts))
            for language in LANGUAGES
        ]
        pages = [read(language, text) for language, text in zip(LANGUAGES, texts, strict=True)]
        return Written(
            subject=pages[0].title,
            text=f"\n{_BETWEEN}\n".join(texts),
            html=self._html.render(pages=pages),
            pdf=self.typeset("letter", [page.model_dump() for page in pages], at, "pdf"),
        )

    def template(self, language: Language, kind: Kind, notice: NoticeKind) -> Template:
        """The letter of this kind of violation, else the one that serves all kinds."""
        name = f"{notice}.txt.j2"
        return self._wording.select_template([f"{language}/{kind}/{name}", f"{language}/{name}"])

    # There is one of these in a process.
    @cache  # noqa: B019
    def asks(self, kind: Kind, notice: NoticeKind) -> frozenset[str]:
        """The names of the facts that this letter may say, in either language."""
        letters = [self.template(language, kind, notice).name for language in LANGUAGES]
        return frozenset[str]().union(*map(self._names, filter(None, letters)))

    def _names(self, template: str) -> set[str]:
        assert self._wording.loader
        source, *_ = self._wording.loader.get_source(self._wording, template)
        tree = self._wording.parse(source)
        parts = filter(None, meta.find_referenced_templates(tree))
        return meta.find_undeclared_variables(tree).union(*map(self._names, parts))

    def typeset(self, layout: str, content: Any, at: datetime, form: Literal["pdf", "svg"]) -> bytes:
        """Set content in a layout of templates/: the same bytes for the same content and time.

        Content goes in as data, so nothing in it can be taken for markup.
        """
        # One for each letter: a compiler can't be shared by threads, the fonts can.
        compiler = typst.Compiler(
            self._templates / f"{layout}.typ", root=self._templates, font_paths=self._fonts
        )
        pages = compiler.compile(
            format=form,
            sys_inputs={"layout": layout, "content": json.dumps(content, ensure_ascii=False)},
            timestamp=int(at.timestamp()),
        )
        assert isinstance(pages, bytes)
        return pages


@cache
def letters() -> Letters:
    """The letters as this release words them: its templates and fonts are read once in a process."""
    return Letters()


def read(language: Language, text: str) -> Page:
    """Take a letter's text apart. Raises `ValueError` where it isn't laid out as a letter."""
    lines = text.rstrip().split("\n")
    rules = [at for at, line in enumerate(lines) if line == _RULE]
    if len(rules) != 2 or not lines[0].strip():
        raise ValueError("a letter is its title, then its head between two lines of 50 `=`, then the rest")
    house, *head = lines[rules[0] + 1 : rules[1]]
    *paragraphs, signature = _paragraphs(lines[rules[1] + 1 :])
    return Page(
        language=language,
        title=lines[0].strip(),
        house=house,
        head=tuple(head),
        blocks=tuple(block for paragraph in paragraphs for block in _blocks(paragraph)),
        signature=tuple(signature),
    )


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _blocks(lines: list[str]) -> Iterator[Block]:
    block: Block | None = None
    for line in lines:
        begun = _begun(line)
        if begun is None and block is not None and block.kind == "text":
            block = block.model_copy(update={"text": _joined(block.text, line)})
            continue
        if block is not None:
            yield block
        block = begun or Block(kind="text", text=line.strip())
    if block is not None:
        yield block


def _begun(line: str) -> Block | None:
    """The block that this line begins, or none if it goes on with the one above."""
    if item := _ITEM.fullmatch(line):
        return Block(kind="item", mark=item[1], text=item[2].strip())
    if line.startswith(" "):
        return Block(kind="line", text=line.strip())
    if label := _LABEL.fullmatch(line):
        return Block(kind="text", label=label[1], text=label[2])
    return None


def _joined(before: str, after: str) -> str:
    """Two lines of one paragraph: only Latin ones need a space in between."""
    if not before:
        return after
    gap = "" if ord(before[-1]) >= 0x2E80 or ord(after[0]) >= 0x2E80 else " "
    return before + gap + after
