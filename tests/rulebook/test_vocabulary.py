"""The words of the rulebook: numbers, and text from outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rulebook.vocabulary import (
    LEGAL_MOVES,
    FilingStatus,
    FineStatus,
    Kind,
    Number400,
    NumberStatus,
    OneLine,
    Stage,
    one_line,
    operator_of,
    workflow_id,
    written,
)

numbers: TypeAdapter[str] = TypeAdapter(Number400)
words: TypeAdapter[str] = TypeAdapter(OneLine)


@pytest.mark.parametrize(
    "said", ["4008001234", "400-800-1234", "400 800 1234", "4008-001-234", " 400-800-1234 ", "400 - 8001234"]
)
def test_a_number_is_understood_however_it_is_written(said: str) -> None:
    assert numbers.validate_python(said) == "4008001234"


@given(st.from_regex(r"400[0-9]{7}", fullmatch=True))
def test_a_number_as_people_write_it_is_the_same_number(number: str) -> None:
    assert numbers.validate_python(written(number)) == number


@pytest.mark.parametrize(
    "said",
    [
        "",
        "400800123",
        "40080012345",
        "8008001234",
        "4008001234\n",
        "+86 400 800 1234",
        "400800123x",
        "４００８００１２３４",
        "400٨٠٠١٢٣٤",
        "4008001234 OR 1=1",
        4008001234,
        None,
    ],
)
def test_what_is_no_400_number_is_refused(said: object) -> None:
    with pytest.raises(ValidationError):
        numbers.validate_python(said)


@given(st.text())
def test_text_from_outside_makes_one_line_without_hidden_characters(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    assert line == line.strip() == one_line(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("北京𠮷祥通信（集团）有限公司 A&B “张三”", "北京𠮷祥通信（集团）有限公司 A&B “张三”"),
        ("甲公司\r\nBcc: evil@x.example", "甲公司 Bcc: evil@x.example"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("a\u2028b\u2029c\x85d\x0be", "a b c d e"),
        ("\u202e400\u202c\u2066公司\u2069", "400 公司"),
        ("甲\u200b\ufeff公司\u200d", "甲 公司"),
        ("\u3000甲\u3000 \t公司\xa0", "甲 公司"),
        ("{{7*7}}{% raw %}", "{{7*7}}{% raw %}"),
    ],
)
def test_text_keeps_its_words_and_loses_what_could_deceive(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize("said", ["", " ", "\r\n\t", "\u200b\u202e", "长" * 201])
def test_a_name_is_neither_empty_nor_endless(said: str) -> None:
    with pytest.raises(ValidationError):
        words.validate_python(said)


def test_a_violation_has_one_id_a_number_and_a_kind() -> None:
    assert workflow_id(Kind.SECONDARY_SALE, "4008001234") == "secondary-sale-4008001234"


def test_every_kind_has_a_clause_a_prefix_and_words_of_its_own() -> None:
    assert {kind: (kind.clause, kind.prefix, kind.label) for kind in Kind} == {
        Kind.FRAUD: ("1", "FR", "诈骗 · fraud"),
        Kind.SECONDARY_SALE: ("2", "SS", "私自转售 · secondary sale"),
        Kind.SERVICE_FAILURE: ("3", "SF", "服务失职 · service failure"),
    }


@pytest.mark.parametrize(
    ("prefixes", "operator"),
    [("06", "中国联通"), ("17", "中国移动"), ("89", "中国电信"), ("2345", "")],
)
def test_the_fourth_digit_tells_the_operator(prefixes: str, operator: str) -> None:
    assert {operator_of(f"400{prefix}001234") for prefix in prefixes} == {operator}


def test_what_is_final_stays_so() -> None:
    final = {word for words, moves in LEGAL_MOVES.items() for word in words if word not in dict(moves)}
    # An account closed for good, and a filing that was acknowledged, are final unless their case is undone.
    assert final == {NumberStatus.FREE, FineStatus.VOID, FilingStatus.WAIVED, FilingStatus.WITHDRAWN}
    assert {status for status in FilingStatus if status.done} == {
        FilingStatus.ACKNOWLEDGED,
        FilingStatus.WAIVED,
        FilingStatus.WITHDRAWN,
    }


def test_a_case_is_in_progress_until_it_has_an_outcome() -> None:
    assert {stage for stage in Stage if not stage.ended} == {
        Stage.OPENING,
        Stage.RECTIFICATION,
        Stage.PUNISHMENT,
        Stage.PAYMENT,
        Stage.SHUTDOWN,
        Stage.TAKE_BACK,
        Stage.APPROVAL,
        Stage.CLOSURE,
        Stage.FILING,
        Stage.APPEAL,
        Stage.RESTITUTION,
    }
