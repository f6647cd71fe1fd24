"""The command line, as a process of its own against real servers."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from registry.importer import COLUMNS
from registry.models import AuditLine, Case, Number
from rulebook.vocabulary import Stage
from starter.cli import name_of, program
from tests.starter.conftest import Enforce, run
from tests.starter.screen import ENFORCE
from tests.world import World, a_report, an_agent

COMMANDS = sorted(set(map(name_of, program().registered_commands)))


async def test_an_officers_day_from_report_to_verified_rectification(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    opened = await enforce("report", number, "--facts", "实际用户与登记客户不一致")
    assert opened.code == 0, opened.err
    assert "opened on report officer/" in opened.out

    assert "reported" in (await enforce("rectified", number, "--statement", "已收回")).out
    assert await world.found(f"Number = '{number}' and Awaiting = 'verification'")
    assert number[3:6] in (await enforce("cases", "--awaiting", "verification")).out
    story = await enforce("case", number)
    assert "next: enforce verify SS-" in story.out
    assert "Rectification reported: 已收回" in story.out

    verified = await enforce("verify", number, "--pass")
    assert (verified.code, verified.err) == (0, "")
    assert "closes without a fine" in verified.out
    assert "rectified" in (await enforce("case", number)).out


async def test_the_officer_who_acts_is_in_the_audit_trail(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    await enforce("report", number, "--facts", "x")
    await enforce("extend", number, "2", "--reason", "台风停工", "--officer", "王静")
    with world.on_record() as session:
        by = {line.text: line.actor for line in session.scalars(select(AuditLine))}
    assert {actor for text, actor in by.items() if "extended" in text} == {"王静"}
    assert {actor for text, actor in by.items() if "opened" in text} == {"李敏"}


async def test_a_case_is_named_by_case_number_workflow_id_or_400_number(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    case_no = (await case.story()).case_no
    for named in (case.id, number, f"{number[:3]}-{number[3:6]}-{number[6:]}", case_no, case_no.lower()):
        told = await enforce("case", named, "--json")
        assert (told.code, told.json["case_no"]) == (0, case_no), told.err


async def test_every_command_that_prints_data_prints_json(world: World, enforce: Enforce) -> None:
    [number, other] = an_agent(world.on_record, numbers=2)
    assert (await enforce("report", number, "--facts", "x", "--json")).json["workflow_id"].endswith(number)
    await world.open(a_report(other))
    assert await world.found(f"Number in ('{number}', '{other}') and Stage = 'rectification'", expected=2)
    listed = (await enforce("cases", "--json")).json
    assert {number, other} <= {case["number"] for case in listed}
    assert (await enforce("rectified", number, "--json")).json["case_no"].startswith("SS-")
    assert "passed" not in (await enforce("verify", number, "--pass", "--json")).json["text"]
    assert (await enforce("extend", other, "1", "--reason", "x", "--json")).json["text"]
    assert (await enforce("paid", other, "5", "--reference", f"R{other}", "--json")).json["text"]
    assert (await enforce("dismiss", other, "--reason", "x", "--json")).json["text"]
    assert (await enforce("case", other, "--json")).json["balance"]["paid"] == "5.00"


async def test_cases_are_filtered_by_stage_agent_number_and_deadline(world: World, enforce: Enforce) -> None:
    [first, second] = an_agent(world.on_record, numbers=2)
    waits, ends = await world.open(a_report(first)), await world.open(a_report(second))
    await ends.dismiss()
    await ends.ended()
    story = await waits.story()
    assert story.deadline
    assert await world.found(f"Number in ('{first}', '{second}') and Stage != 'opening'", expected=2)
    assert await world.found(f"Number = '{second}' and Stage = 'dismissed'")

    async def listed(*words: str) -> set[str]:
        said = await enforce("cases", "--agent", story.agent_id, *words, "--json")
        return {case["number"] for case in said.json}

    last_day = str(story.deadline.last_day)
    assert await listed() == {first}
    assert await listed("--all") == {first, second}
    assert await listed("--ended") == {second}
    assert await listed("--stage", "dismissed") == {second}
    assert await listed("--stage", "rectification", "--due", last_day) == {first}
    assert await listed("--due", "2026-01-01") == set()
    assert await listed("--number", f"{first[:3]}-{first[3:6]}-{first[6:]}") == {first}
    assert await listed("--number", "4009999999") == set()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["report", "4000000000", "--facts", "x"], 1, "number 400-000-0000 is not in the registry"),
        (["report", "12345", "--facts", "x"], 1, "number: String should match"),
        (["report", "4000000000", "--facts", ""], 1, "facts: must not be empty"),
        (["case", "nonsense"], 1, "'nonsense' names no case"),
        (["case", "SS-2020-00001"], 1, "no case SS-2020-00001, neither with Temporal nor in the registry"),
        (["verify", "4000000000", "--pass"], 1, "no case 4000000000, neither with Temporal nor"),
        (["verify", "4000000000"], 1, "Say --pass or --fail"),
        (
            ["paid", "4000000000", "12.345", "--reference", "R"],
            1,
            "amount: Decimal input should have",
        ),
        (["paid", "4000000000", "-5", "--reference", "R"], 2, "No such option"),
        (["extend", "4000000000", "100", "--reason", "x"], 1, "working_days: Input should be less than"),
        (["cases", "--stage", "nowhere"], 2, "'nowhere' is not one of"),
        (["cases", "--number", "123"], 1, "number: String should match"),
        (["registry", "import", "missing.csv"], 2, "does not exist"),
    ],
)
async def test_what_cannot_be_done_is_said_in_words(
    enforce: Enforce, words: list[str], code: int, why: str
) -> None:
    said = await enforce(*words)
    assert (said.code, said.out) == (code, "")
    assert why in said.err
    assert "Traceback" not in said.err


async def test_a_command_that_the_stage_forbids_is_refused_with_the_reason(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    nothing = await enforce("verify", number, "--pass")
    assert (nothing.code, nothing.out) == (1, "")
    assert "the agent has not reported rectification" in nothing.err
    await case.dismiss()
    await case.ended()
    over = await enforce("extend", number, "1", "--reason", "x")
    assert over.code == 1
    assert "the case has ended: dismissed" in over.err


async def test_a_command_without_an_officer_is_not_understood(enforce: Enforce) -> None:
    said = await enforce("dismiss", "4000000000", "--reason", "x", ENFORCE_OFFICER="")
    assert said.code == 2
    assert "--officer" in said.err


async def test_servers_that_do_not_answer_have_an_exit_code_of_their_own(
    enforce: Enforce, tmp_path: Path
) -> None:
    away = await enforce("cases", TEMPORAL_ADDRESS="127.0.0.1:1")
    assert away.code == 3
    assert "no Temporal server answers at 127.0.0.1:1: start one with `enforce up`" in away.err
    registry = "postgresql://127.0.0.1:1/x"
    gone = await enforce("report", "4000000000", "--facts", "x", ENFORCE_DATABASE_URL=registry)
    assert (gone.code, "the registry does not answer" in gone.err) == (3, True)
    nowhere = await run("report", "4000000000", "--facts", "x", env={"ENFORCE_OFFICER": "x"}, cwd=tmp_path)
    assert nowhere.code == 3


async def test_a_payment_after_the_shutdown_lowers_the_debt(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    assert await case.until("2038-06-01") is Stage.SHUT_DOWN
    paid = await enforce("paid", number, "400.10", "--reference", f"ICBC-{number}")
    assert "¥599.90 still due" in paid.out, paid.err
    again = await enforce("paid", number, "400.10", "--reference", f"ICBC-{number}")
    assert "¥599.90 still due" in again.out, again.err
    other = await enforce("paid", number, "1", "--reference", f"ICBC-{number}")
    assert (other.code, "was counted already" in other.err) == (1, True)
    told = (await enforce("case", number, "--json")).json
    assert (told["balance"], told["stage"]) == ({"fine": "1000.00", "paid": "400.10"}, "shut-down")


async def test_an_ended_case_is_told_from_the_registry_when_temporal_has_forgotten_it(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    case_no = (await case.story()).case_no
    await case.dismiss("号码有误")
    await case.ended()
    address = world.client.service_client.config.target_host
    forget = ["workflow", "delete", "--yes", "-w", case.id, "--address", address]
    temporal = await asyncio.create_subprocess_exec(ENFORCE.with_name("temporal"), *forget)
    assert await temporal.wait() == 0
    told = await enforce("case", case_no)
    assert told.code == 0, told.err
    assert "Case closed: dismissed (号码有误)" in told.out


async def test_names_from_outside_cannot_act_in_the_terminal(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record, name="[red]甲[/red]\x1b[31m公司\n假行", agent_id="A\x1b[0m")
    await world.open(a_report(number, source="[bold]源\x1b]0;x\x07"))
    for words in (["case", number], ["cases", "--number", number]):
        shown = await enforce(*words)
        assert shown.code == 0, shown.err
        assert "\x1b" not in shown.out
        assert "\x07" not in shown.out
    assert "[red]甲[/red] [31m公司 假行" in (await enforce("case", number)).out


async def test_a_case_opens_in_the_web_ui(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    run_id = (await case.handle.describe()).run_id
    shown = await enforce("case", number, "--web", BROWSER="true")
    assert shown.out.strip() == f"http://web.example/namespaces/default/workflows/{case.id}/{run_id}/timeline"


HEADING = ",".join(COLUMNS) + "\n"
ROW = (
    "{agent},甲代理,王芳,a@agent.example,13800000000,{number},乙客户,b@customer.example,"
    "91310000MA1FL0000X,中国电信,2027-03-31\n"
)


async def test_a_registry_file_is_loaded_as_a_whole_or_not_at_all(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_bytes((HEADING + ROW.format(agent="B1", number="400-100-0001")).encode("gb18030"))
    bad.write_text(
        HEADING + ROW.format(agent="B2", number="4001000002") + ROW.format(agent="B2", number="12")
    )
    refused = await enforce("registry", "import", "bad.csv")
    assert refused.code == 1
    assert "nothing was loaded\n  line 3, column number: " in refused.err
    tried = await enforce("registry", "import", "good.csv", "--dry-run")
    assert "would load good.csv: 1 agents and 1 numbers added" in tried.out
    with world.on_record() as session:
        assert session.scalars(select(Number)).all() == []
    assert (await enforce("registry", "import", "good.csv", "--json")).json["numbers_added"] == 1
    with world.on_record() as session:
        assert session.get_one(Number, "4001000001").customer == "乙客户"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    shown = subprocess.run([ENFORCE, command, "--help"], capture_output=True, text=True, check=True).stdout
    assert f"enforce {command}" in shown.partition("Example")[2].partition("Options")[0]


def test_help_and_completion_wait_for_neither_temporal_nor_the_database() -> None:
    code = "import sys, starter.cli; sys.exit(bool({'temporalio', 'sqlalchemy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shell_completes_commands_and_their_words() -> None:
    completing = {
        "_ENFORCE_COMPLETE": "complete_bash",
        "COMP_WORDS": "enforce cases --stage re",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([ENFORCE], env=completing, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {
        "rectification",
        "rectified",
        "rejected",
        "restitution",
        "restored",
    }


async def test_a_registry_without_a_schema_says_what_to_do(
    enforce: Enforce, database_url: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("alter table waits rename to put_aside"))
    ran = await enforce("todo")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "error: the registry has another schema: start a worker of this version, it brings it up to date\n"
    )


async def test_a_case_without_a_workflow_says_how_it_is_taken_up_again(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await world.open(a_report(number))).case_no()
    with world.on_record.begin() as session:
        session.get_one(Case, case_no).workflow_id = f"secondary-sale-elsewhere-{number}"
    ran = await enforce("case", f"secondary-sale-elsewhere-{number}")
    assert ran.code == 1
    assert f"{case_no} is open in the registry, but nothing goes on in it" in ran.err
