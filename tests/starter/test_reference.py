"""The reference says what the commands say of themselves."""

import pytest

from tests.starter.reference import FILE, reference


def test_the_reference_is_what_the_commands_say_of_themselves() -> None:
    assert FILE.read_text("utf-8") == reference(), "docs/reference.md is out of date: run `make reference`"


def test_the_reference_is_the_same_on_any_terminal_and_for_any_officer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = reference()
    for name, said in {"COLUMNS": "40", "TERM": "dumb", "NO_COLOR": "1", "ENFORCE_OFFICER": "李敏"}.items():
        monkeypatch.setenv(name, said)
    assert reference() == before
