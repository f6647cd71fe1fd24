"""Policies side by side and the backtest, at the command line."""

import subprocess
from importlib import resources
from pathlib import Path

import pytest
from typer.main import get_group

from registry.models import AuditLine
from rulebook.vocabulary import Stage, written
from starter.cli.policy import policy
from tests.starter.conftest import Enforce
from tests.starter.screen import ENFORCE
from tests.world import World, a_report, an_agent

SHIPPED = (resources.files("rulebook") / "2017-02-16.toml").read_text("utf-8")


def _draft(folder: Path, **changed: str) -> str:
    """A draft in force from 2027 on, beside the test; returns the name of its file."""
    text = SHIPPED.replace("2017-02-16\n", "2027-01-01\n")
    for key, value in changed.items():
        [line] = [line for line in text.splitlines() if line.startswith(f"{key} =")]
        text = text.replace(line, f"{key} = {value}")
    (folder / "草案.toml").write_text(text, "utf-8")
    return "草案.toml"


async def test_the_policy_in_force_on_a_day_is_shown_with_all_that_are_published(enforce: Enforce) -> None:
    shown = await enforce("policy", "show", "2020-05-01")
    assert (shown.code, shown.err) == (0, "")
    assert "In force on 2020-05-01:" in shown.out
    assert ["secondary_sale.fine.ceiling", "10000"] in [line.split() for line in shown.out.splitlines()]
    assert "Published:\n  from 2017-02-16" in shown.out
    told = (await enforce("policy", "show", "--json")).json
    assert (told["policy"]["fraud"]["fine_per_number"], told["published"]) == (30000, ["2017-02-16"])


async def test_no_policy_was_in_force_before_the_first(enforce: Enforce) -> None:
    shown = await enforce("policy", "show", "2017-02-15")
    assert (shown.code, shown.err) == (1, "error: no policy was in force on 2017-02-15\n")


async def test_a_good_draft_can_be_published_and_what_is_new_in_it_is_told(
    enforce: Enforce, tmp_path: Path
) -> None:
    draft = _draft(tmp_path, first="1500")
    checked = await enforce("policy", "check", draft)
    assert (checked.code, checked.err) == (0, "")
    assert "草案.toml can be published, to be in force from 2027-01-01" in checked.out
    assert ["secondary_sale.fine.first", "1000", "1500"] in [
        line.split() for line in checked.out.splitlines()
    ]
    told = (await enforce("policy", "check", draft, "--json")).json
    assert (told["policy"]["effective"], len(told["differences"])) == ("2027-01-01", 2)


async def test_every_fault_of_a_draft_is_named(enforce: Enforce, tmp_path: Path) -> None:
    checked = await enforce(
        "policy", "check", _draft(tmp_path, ceiling="10", days="0", rectify_regular="true")
    )
    assert (checked.code, checked.out) == (1, "")
    assert checked.err == (
        "error: 草案.toml is no policy\n"
        "  secondary_sale.rectify_regular: must be a whole number, not True\n"
        "  secondary_sale.fine: a fine must not fall with a further offence: first ≤ second ≤ ceiling\n"
        "  quarantine.days: must be at least 1, not 0\n"
    )


async def test_a_published_policy_is_not_changed(enforce: Enforce, tmp_path: Path) -> None:
    checked = await enforce("policy", "check", _draft(tmp_path, effective="2017-02-16", first="1500"))
    assert checked.code == 1
    assert "effective: the policy of 2017-02-16 is published, and never changes" in checked.err


async def test_two_policies_are_compared_by_days_or_files(enforce: Enforce, tmp_path: Path) -> None:
    draft = _draft(tmp_path, rectify_regular="2", renewal_notice="45")
    compared = await enforce("policy", "diff", "2026-01-01", draft)
    assert [line.split() for line in compared.out.splitlines()] == [
        ["key", "2026-01-01", "草案.toml"],
        ["effective", "2017-02-16", "2027-01-01"],
        ["secondary_sale.rectify_regular", "3", "2"],
        ["service_failure.renewal_notice", "30", "45"],
    ]
    assert (await enforce("policy", "diff", draft, "2026-01-01", "--json")).json[1] == {
        "key": "secondary_sale.rectify_regular",
        "old": 2,
        "new": 3,
    }
    assert (await enforce("policy", "diff", draft, draft)).out == "no difference\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["diff", "2026-01-01", "missing.toml"], 1, "missing.toml can't be read: No such file"),
        (["diff", "2016-01-01", "2026-01-01"], 1, "no policy was in force on 2016-01-01"),
        (["check", "gb18030.toml"], 1, "gb18030.toml can't be read: 'utf-8' codec"),
        (["check", "missing.toml"], 2, "does not exist"),
        (["backtest", "missing.toml", "--since", "2026-01-01"], 1, "missing.toml can't be read"),
        (["backtest", "2026-01-01", "--since", "2026-02-01", "--until", "2026-01-31"], 1, "is before"),
        (["backtest", "2026-01-01"], 2, "--since"),
        (["show", "soon"], 2, "'soon' does not match"),
    ],
)
async def test_what_cannot_be_done_with_policies_is_said_in_words(
    enforce: Enforce, tmp_path: Path, words: list[str], code: int, why: str
) -> None:
    (tmp_path / "gb18030.toml").write_bytes(f"# 草案\n{SHIPPED}".encode("gb18030"))
    said = await enforce("policy", *words)
    assert (said.code, said.out) == (code, "")
    assert why in said.err
    assert "Traceback" not in said.err


async def test_a_backtest_lists_the_cases_that_would_change_and_the_totals(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    in_time = await world.open(a_report(first), on="2038-03-01")
    await in_time.until("2038-03-04")
    await in_time.rectified()
    await in_time.verify(passed=True)
    at_once = await world.open(a_report(second), on="2038-03-01")
    await at_once.rectified()
    await at_once.verify(passed=True)
    assert {(await case.ended()).outcome for case in (in_time, at_once)} == {Stage.RECTIFIED}
    before = len(world.rows(AuditLine))
    draft = _draft(tmp_path, rectify_regular="2", first="1500")

    tested = await enforce("policy", "backtest", draft, "--since", "2038-03-01")

    assert (tested.code, tested.err) == (0, "")
    lines = [line.split() for line in tested.out.splitlines()]
    case_no, agent = await in_time.case_no(), (await in_time.story()).agent_id
    told = (
        "rectified → payment, ¥1,500.00 (offence 1) fined the record does not say how it would have gone on"
    )
    assert [case_no, written(first), agent, *told.split()] in lines
    assert await at_once.case_no() not in tested.out
    assert "2 cases opened from 2038-03-01 until 2038-03-01, 1 would have gone otherwise:" in tested.out
    assert ["cases", "fined", "0", "1"] in lines
    assert ["fines", "¥0.00", "¥1,500.00"] in lines
    assert "What can't be known:\n  How an agent would have acted" in tested.out
    assert len(world.rows(AuditLine)) == before

    told_all = (await enforce("policy", "backtest", draft, "--since", "2038-02-01", "--json")).json
    assert [case["change"] for case in told_all["cases"]] == []
    told_all = (await enforce("policy", "backtest", draft, "--since", "2038-03-01", "--json")).json
    assert {case["case_no"]: case["change"] for case in told_all["cases"]} == {
        case_no: "fined",
        await at_once.case_no(): "same",
    }
    assert told_all["under_draft"]["yuan"] == "1500.00"


async def test_a_policy_put_to_its_own_record_changes_nothing(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number), on="2038-03-01")
    tested = await enforce("policy", "backtest", "2026-01-01", "--since", "2038-03-01")
    assert "1 cases opened from 2038-03-01 until 2038-03-01, 0 would have gone otherwise:" in tested.out


@pytest.mark.parametrize("command", sorted(get_group(policy).commands))
def test_the_help_of_every_policy_command_has_an_example(command: str) -> None:
    shown = subprocess.run(
        [ENFORCE, "policy", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"enforce policy {command}" in shown.partition("Example")[2].partition("Options")[0]
