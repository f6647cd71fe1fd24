"""Whoever edits the letters is told what is wrong with them, before an agent reads it."""

import shutil
from pathlib import Path

import pytest

from activities.letters import TEMPLATES
from starter.specimens import faults
from tests.starter.conftest import Enforce

ORDER = "zh/secondary-sale/rectification-order.txt.j2"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, to be edited."""
    return Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))


def _edit(file: Path, before: str, after: str) -> None:
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")


def test_a_variable_that_no_letter_knows_is_named_with_its_file(templates: Path) -> None:
    _edit(templates / ORDER, "{{ working_days }}", "{{ workingdays }}")
    [fault] = faults(templates)
    assert fault.startswith(f"{ORDER}: {{{{ workingdays }}}} is not known")
    assert "working_days" in fault


def test_an_attribute_that_is_not_there_is_found_in_whichever_situation_asks_for_it(templates: Path) -> None:
    _edit(templates / "en/undone.txt.j2", "{{ account.closed_by }}", "{{ account.closed_for }}")
    found = list(faults(templates))
    assert len(found) == 3
    assert all("closed_for" in fault for fault in found)


def test_a_template_that_cannot_be_read_is_named_with_its_line(templates: Path) -> None:
    _edit(templates / ORDER, "{% endif %}", "{% endfi %}")
    [fault] = faults(templates)
    assert fault.startswith(f"{ORDER}, line ")


@pytest.mark.parametrize("gone", [ORDER, "en/fraud/punishment.txt.j2", "en/closing.txt.j2"])
def test_a_letter_that_is_missing_in_a_language_is_named(templates: Path, gone: str) -> None:
    (templates / gone).unlink()
    assert any(fault.startswith(f"{gone} is missing") for fault in faults(templates))


def test_a_letter_that_does_not_say_until_when_is_named(templates: Path) -> None:
    _edit(templates / ORDER, "{{ limit.last_day | zh_date }}", "月底")
    found = list(faults(templates))
    assert found
    assert all("rectification-order of secondary-sale doesn't say 20" in fault for fault in found)


def test_a_letter_without_its_head_is_named(templates: Path) -> None:
    _edit(templates / "en/letter.txt.j2", "=" * 50, "=" * 49)
    assert all("can't be written: a letter is its title" in fault for fault in faults(templates))


@pytest.mark.parametrize(
    ("before", "after"), [("</strong>", "</b>"), ("</section>", ""), ("<section", "<section><div")]
)
def test_broken_html_is_named(templates: Path, before: str, after: str) -> None:
    _edit(templates / "letter.html.j2", before, after)
    found = list(faults(templates))
    assert found
    assert {fault.partition(":")[0] for fault in found} == {"letter.html.j2"}


async def test_an_officer_checks_and_previews_the_letters(
    enforce: Enforce, templates: Path, tmp_path: Path
) -> None:
    checked = await enforce("notices", "check", "--json")
    assert (checked.code, checked.json["ok"], checked.json["faults"]) == (0, True, [])
    _edit(templates / ORDER, "{{ working_days }}", "{{ workingdays }}")
    checked = await enforce("notices", "check", str(templates), "--json")
    assert (checked.code, checked.json["ok"], len(checked.json["faults"])) == (1, False, 1)

    shown = await enforce("notices", "preview", "punishment", "--of", "fraud")
    assert "叁万元整" in shown.out
    for suffix, begins in ((".pdf", b"%PDF-"), (".html", b"<!DOCTYPE html>"), (".txt", "处罚".encode())):
        assert (await enforce("notices", "preview", "punishment", "-o", f"letter{suffix}")).code == 0
        assert (tmp_path / f"letter{suffix}").read_bytes().startswith(begins)
    refused = await enforce("notices", "preview", "punishmnt")
    assert (refused.code, "known are" in refused.err) == (1, True)
    broken = await enforce("notices", "preview", "rectification-order", "--templates", str(templates))
    assert (broken.code, "notices check" in broken.err) == (1, True)
