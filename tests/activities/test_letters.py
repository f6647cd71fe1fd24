"""A letter's three forms: they say the same, look like a letter, and can't be forged from inside."""

import re
import subprocess
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest

from activities.letters import Block, Letters, environment, read
from rulebook.vocabulary import Kind, NoticeKind
from starter.specimens import AT, letters_of, preview, specimens

HEAD = "Title\n\n" + "=" * 50 + "\nHouse\nNotice: N1\n" + "=" * 50 + "\n\n"

HOSTILE = [
    "<script>alert(1)</script>",
    "</p></section><h1>处罚撤销</h1>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; &#x3c;",
    "{{ policy }} {% include 'zh/letter.txt.j2' %}",
    '#panic("typst") $x^2$ #image("/etc/passwd") \\u{1F600} *b* _i_ `c` // @ref <label>',
    "一行\n【处罚决定】本案撤销\r\n  1. 罚款 0 元\u2028【缴款期限】无\u2029\x85\x0b\x0c",
    "\x1b[31m红\x1b[0m\x00\x07\x9b31m",
    "\u202e反向\u202c\u2066隔离\u2069\u200b零宽\ufeff",
    '=HYPERLINK("http://evil.example","点击")',
    "𠮷野家𪚥龘㐂 e\u0301 👩‍👩‍👧‍👦 ﷽ ﻿",
    "长" * 4000,
    "a" * 4000,
    "z̸̧̢̛͎̰̱" * 200,
]


class _Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if "body" in self.tags:
            self.text += data


def _page(html: str) -> _Text:
    page = _Text()
    page.feed(html)
    return page


def _marks(text: str) -> str:
    """A text without what only lays it out."""
    return re.sub(r"[\s=\-]", "", unicodedata.normalize("NFKC", text))


def _house_first(text: str) -> str:
    """A letter's text in the order of its page: the letterhead comes before the title."""
    parts = (part.strip().split("\n", 3) for part in text.split("-" * 50))
    return "".join(house + title + rest for title, _, house, rest in parts)


@pytest.fixture(scope="module")
def letters() -> Letters:
    return Letters()


ALL = [(kind, notice) for kind in Kind for notice in letters_of(kind)]


@pytest.mark.parametrize(("kind", "notice"), ALL)
def test_each_form_of_a_letter_says_the_same_in_every_situation(
    letters: Letters, kind: Kind, notice: NoticeKind
) -> None:
    for specimen in specimens(kind, notice):
        written = preview(letters, specimen)
        assert _marks(_page(written.html).text) == _marks(_house_first(written.text))
        assert written.pdf.startswith(b"%PDF-")


def test_the_pdf_says_the_same_too(letters: Letters, tmp_path: Path) -> None:
    written = preview(letters, next(specimens(Kind.SECONDARY_SALE, NoticeKind.PUNISHMENT)))
    (tmp_path / "letter.pdf").write_bytes(written.pdf)
    try:
        text = subprocess.run(
            ["pdftotext", "-raw", tmp_path / "letter.pdf", "-"], check=True, capture_output=True
        ).stdout.decode()
    except FileNotFoundError:
        pytest.skip("pdftotext isn't installed")
    for said in ("处罚通知书", "2,000.00元(大写:贰仟元整)", "2026年2月26日24:00", "Punishmentnotice"):
        assert said in _marks(text)


def test_the_same_letter_is_the_same_bytes_and_embeds_its_fonts(letters: Letters) -> None:
    one, two = (
        preview(maker, next(specimens(Kind.FRAUD, NoticeKind.PUNISHMENT))) for maker in (letters, Letters())
    )
    assert one == two
    assert one.pdf.count(b"/FontFile3") == 2


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_comes_from_outside_is_shown_and_never_obeyed(letters: Letters, hostile: str) -> None:
    specimen = next(specimens(Kind.FRAUD, NoticeKind.PUNISHMENT))
    facts = dict(specimen.facts)
    plain = preview(letters, specimen)
    agent, number = facts["agent"], facts["number"]
    agent.name = agent.contact = number.customer = number.certificate = number.operator = hostile
    facts["reports"] = [facts["reports"][0].model_copy(update={"facts": hostile, "report_id": hostile})]

    written = letters.write(specimen.kind, specimen.notice, facts, AT)

    assert len(written.text.splitlines()) == len(plain.text.splitlines())
    assert [char for char in written.text if unicodedata.category(char) in ("Cc", "Cf", "Zl")] == [
        "\n"
    ] * written.text.count("\n")
    page = _page(written.html)
    assert page.tags == _page(plain.html).tags
    assert page.text.count("【处罚决定】") == plain.text.count("【处罚决定】") + written.text.count(
        "】本案撤销"
    ) - plain.text.count("】本案撤销")
    zh = read("zh", written.text.partition("-" * 50)[0])
    assert [block.label for block in zh.blocks if block.label.startswith("【")] == [
        *("【涉及号码】", "【实名登记客户】", "【基础运营商】", "【认定事实】", "【处罚决定】"),
        *("【缴款期限】", "【缴款方式】", "【缴清之后】", "【逾期后果】", "【情节严重】", "【如何申诉】"),
    ]
    assert written.pdf.startswith(b"%PDF-")


def test_a_line_is_what_it_begins_like() -> None:
    page = read(
        "zh",
        HEAD + "致：甲公司\n联系人：王芳\n\n贵司名下号码一案，\n依据 Rule\nbook 第2条：处理\n【决定】\n"
        "罚款。\n  1. 第一\n     400-800-1234\n  - 第二\n注：暂定\n\n签名\n2026年",
    )
    assert page.blocks == (
        Block(kind="text", label="致：", text="甲公司"),
        Block(kind="text", label="联系人：", text="王芳"),
        Block(kind="text", text="贵司名下号码一案，依据 Rule book 第2条：处理"),
        Block(kind="text", label="【决定】", text="罚款。"),
        Block(kind="item", mark="1.", text="第一"),
        Block(kind="line", text="400-800-1234"),
        Block(kind="item", mark="-", text="第二"),
        Block(kind="text", label="注：", text="暂定"),
    )
    assert (page.title, page.house, page.head) == ("Title", "House", ("Notice: N1",))
    assert page.signature == ("签名", "2026年")


@pytest.mark.parametrize("text", ["", "Title\n\nno head", "\n" + HEAD + "text"])
def test_what_isnt_laid_out_as_a_letter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a letter is"):
        read("zh", text)


def test_a_filled_in_value_never_leaves_its_line() -> None:
    template = environment().from_string("【名称】{{ name }}\n【决定】罚款")
    assert template.render(name="甲\n【决定】撤销\x85\u2028") == "【名称】甲 【决定】撤销  \n【决定】罚款"
