"""`enforce notices`: letters as they were sent, and proof that the record is what was recorded."""

import asyncio
import hashlib
import os
import pty
import subprocess
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from sqlalchemy import select, text

from registry.models import AuditLine, Case, Notice
from registry.session import Sessions
from rulebook.vocabulary import NoticeKind
from tests.starter.conftest import Enforce
from tests.starter.screen import ENFORCE
from tests.world import World, a_report, an_agent, shanghai

ZH, EN = "关于责令限期整改的通知\n【号码】400-800-1234", "Order to rectify\nNumber: 400-800-1234"
HTML, PDF = "<p>关于责令限期整改的通知</p>\n", b"%PDF-1.7\n\xff\x00\r\n"


def a_letter(words: str = f"{ZH}\n\n{EN}\n", *, dressed: bool = True, subject: str = "责令整改") -> bytes:
    letter = EmailMessage(policy=SMTP)
    letter["Subject"], letter["Message-ID"] = subject, "<N1.20380104@platform.example>"
    letter.set_content(words, cte="base64" if dressed else "8bit")
    if dressed:
        letter.add_alternative(HTML, subtype="html", cte="base64")
        letter.add_attachment(PDF, maintype="application", subtype="pdf", filename="通知.pdf")
    return letter.as_bytes()


def sent(on_record: Sessions, content: bytes, **said: str) -> str:
    """Put a letter on record that was sent in a case of its own; its number."""
    [number] = an_agent(on_record)
    with on_record.begin() as session:
        case_no = f"SS-2038-{number[-5:]}"
        agent_id = session.execute(text(f"select agent_id from numbers where number = '{number}'")).scalar()
        session.add(
            Case(
                case_no=case_no,
                kind="secondary-sale",
                number=number,
                agent_id=agent_id,
                workflow_id=f"secondary-sale-{number}",
                run_id="run",
                policy=shanghai("2017-02-16").date(),
                opened_at=shanghai("2038-01-04"),
                opened_by="monitor",
            )
        )
        session.flush()
        letter = {"receipt": "250 2.0.0 Ok: queued as 4F2", "recipient": "a@agent.example"} | said
        notice = Notice(
            notice_no=f"{case_no}-N1",
            case_no=case_no,
            step="notice",
            kind=NoticeKind.RECTIFICATION_ORDER,
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            drafted_at=shanghai("2038-01-04"),
            served_at=shanghai("2038-01-04", "10:01"),
            working_days=3,
            last_day=shanghai("2038-01-07").date(),
            **letter,
        )
        session.add(notice)
    return notice.notice_no


async def test_a_letter_is_shown_with_what_proves_it_and_what_it_says(world: World, enforce: Enforce) -> None:
    content = a_letter()
    notice_no = sent(world.on_record, content)
    shown = await enforce("notices", "show", notice_no.lower())
    facts, _, words = shown.out.partition("\n\n")
    assert [line.split(None, 1) for line in facts.splitlines()] == [
        ["notice", f"{notice_no}   rectification-order, of case {notice_no[:-3]}"],
        ["to", "a@agent.example"],
        ["drafted", "2038-01-04 10:00"],
        ["served", "2038-01-04 10:01"],
        ["receipt", "250 2.0.0 Ok: queued as 4F2"],
        ["deadline", "2038-01-07 24:00 (Asia/Shanghai)"],
        ["message", "<N1.20380104@platform.example>"],
        ["subject", "责令整改"],
        ["size", f"{len(content):,} bytes"],
        ["sha256", hashlib.sha256(content).hexdigest()],
        [
            "attached",
            f"通知.pdf   application/pdf, {len(PDF)} bytes, sha256 {hashlib.sha256(PDF).hexdigest()}",
        ],
    ]
    assert words.rstrip() == f"{ZH}\n\n{EN}"
    told = (await enforce("notices", "show", notice_no, "--json")).json
    assert (told["subject"], told["size"], told["attachments"][0]["name"]) == (
        "责令整改",
        len(content),
        "通知.pdf",
    )


async def test_a_letter_that_the_system_has_sent_is_shown_as_it_arrived(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    notice_no = f"{await case.case_no()}-N1"
    arrived = (world.outbox / f"{notice_no}.eml").read_bytes()
    assert (await enforce("notices", "show", notice_no, "--eml")).out.encode() == arrived
    shown = (await enforce("notices", "show", notice_no)).out
    assert f"receipt   outbox: {notice_no}.eml" in shown
    assert hashlib.sha256(arrived).hexdigest() in shown
    assert "整改" in shown.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("--text", f"{ZH}\n\n{EN}\n".replace("\n", "\r\n").encode()),
        ("--html", HTML.replace("\n", "\r\n").encode()),
        ("--pdf", PDF),
        ("--eml", a_letter()),
    ],
)
async def test_each_form_of_a_letter_is_written_byte_for_byte(
    world: World, enforce: Enforce, tmp_path: Path, form: str, expected: bytes
) -> None:
    content = a_letter()
    notice_no = sent(world.on_record, content)
    told = await enforce("notices", "show", notice_no, form, "-o", "letter")
    written = (tmp_path / "letter").read_bytes()
    assert told.out == f"letter: {len(written):,} bytes\n", told.err
    assert written == (content if form == "--eml" else expected)


async def test_a_letter_of_plain_text_only_says_so_when_another_form_is_wanted(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    notice_no = sent(world.on_record, a_letter(dressed=False))
    assert f"{ZH}\n\n{EN}" in (await enforce("notices", "show", notice_no)).out
    await enforce("notices", "show", notice_no, "--text", "-o", "letter.txt")
    assert (tmp_path / "letter.txt").read_bytes().decode().splitlines() == [
        *ZH.splitlines(),
        "",
        *EN.splitlines(),
    ]
    for form in ("--html", "--pdf"):
        refused = await enforce("notices", "show", notice_no, form)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith(f"error: notice {notice_no} was sent as plain text only")


async def test_a_letter_from_a_hostile_hand_cannot_act_in_the_terminal(
    world: World, enforce: Enforce
) -> None:
    hostile = a_letter("[red]整改[/red]\x1b[2J\x07\u202e\r\n\x9b31mdone\n", subject="[bold]x\u202e")
    notice_no = sent(
        world.on_record, hostile, recipient="a\x1b]0;x\x07@agent.example", receipt="250\x1b[0m\nOk"
    )
    for out in (
        (await enforce("notices", "show", notice_no)).out,
        (await enforce("notices", "show", notice_no, "--json")).json["text"],
    ):
        assert "[red]整改[/red] [2J" in out
        assert {c for c in out if not c.isprintable()} == {"\n"}


async def typed_in_a_terminal(database_url: str, *words: str) -> str:
    """What a terminal shows of a command, and how it ended."""
    ours, theirs = pty.openpty()
    env = os.environ | {"ENFORCE_DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(ENFORCE, *words, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    code = await asyncio.wait_for(process.wait(), 60)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    return f"{code}: {shown}"


async def test_bytes_are_not_written_to_a_terminal(on_record: Sessions, database_url: str) -> None:
    notice_no = sent(on_record, a_letter("整改\x1b[2J\n"))
    for form in ("html", "pdf", "eml"):
        shown = await typed_in_a_terminal(database_url, "notices", "show", notice_no, f"--{form}")
        assert shown.startswith(f"1: error: a terminal can't show {form}: write it to a file with -o FILE")
    shown = await typed_in_a_terminal(database_url, "notices", "show", notice_no, "--text")
    assert shown.split() == ["0:", "整改", "[2J"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "SS-2038-00001-N9"), "no notice SS-2038-00001-N9 is in the registry"),
        (("show", "X", "--pdf", "--html"), "one form at a time"),
        (("show", "X", "--pdf", "--json"), "one form at a time"),
        (("show", "X", "-o", "x.pdf"), "in which form shall x.pdf be written?"),
        (("verify",), "of which case?"),
        (("verify", "X", "--all"), "of which case?"),
        (("verify", "4008001234"), "no case or notice 4008001234 is in the registry"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(
    world: World, enforce: Enforce, words: tuple[str, ...], said: str
) -> None:
    refused = await enforce("notices", *words)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"error: {said}")


async def test_a_file_that_cannot_be_written_is_told(world: World, enforce: Enforce) -> None:
    notice_no = sent(world.on_record, a_letter())
    told = await enforce("notices", "show", notice_no, "--pdf", "-o", "nowhere/x.pdf")
    assert (told.code, told.err) == (1, "error: nowhere/x.pdf: No such file or directory\n")


# Proof


def tamper(on_record: Sessions, sql: str) -> None:
    with on_record.begin() as session:
        session.execute(text("alter table audit_trail disable trigger user"))
        session.execute(text(sql))


async def test_a_case_is_verified_by_whatever_name_it_goes(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    case_no = await case.case_no()
    with world.on_record() as session:
        lines = session.scalars(
            select(AuditLine).where(AuditLine.case_no == case_no).order_by(AuditLine.serial)
        ).all()
    for named in (
        case_no,
        case_no.lower(),
        f"{case_no}-N1",
        case.id,
        number,
        f"400-{number[3:6]}-{number[6:]}",
    ):
        told = await enforce("notices", "verify", named)
        assert told == (
            0,
            f"OK {case_no}: {len(lines)} lines, 1 notices, 0 files of evidence, all as they were recorded\n"
            f"head {lines[-1].hash}\n",
            "",
        )
    told = await enforce("notices", "verify", number, "--json")
    assert told.json == {
        "ok": True,
        "case_no": case_no,
        "lines": len(lines),
        "notices": 1,
        "files": 0,
        "head": lines[-1].hash,
        "faults": [],
    }


async def test_what_is_wrong_with_a_case_is_told_in_words_and_by_the_exit_code(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case_no = await (await world.open(a_report(number))).case_no()
    tamper(
        world.on_record, "update audit_trail set text = '[red]免于处罚', step = E'\\x1b[2J' where serial = 1"
    )
    tamper(world.on_record, "update notices set content = 'other'")
    told = await enforce("notices", "verify", case_no)
    heading, line, letter = told.out.splitlines()
    assert (told.code, heading.endswith("; 2 faults")) == (1, True)
    assert line.startswith("  line 1 ([2J, ")
    assert "[red]免于处罚" in line
    assert letter.startswith(f"  notice {case_no}-N1: the letter is not the one that was recorded")
    assert "\x1b" not in told.out
    as_data = await enforce("notices", "verify", case_no, "--json")
    assert (as_data.code, as_data.json["ok"], len(as_data.json["faults"])) == (1, False, 2)
    shown = await enforce("notices", "show", f"{case_no}-N1")
    assert "THIS IS NOT WHAT WAS RECORDED" in shown.out


async def test_all_cases_are_verified_and_only_those_with_faults_are_told(
    world: World, enforce: Enforce
) -> None:
    first, second = an_agent(world.on_record, numbers=2)
    sound, altered = [await (await world.open(a_report(n))).case_no() for n in (first, second)]
    told = await enforce("notices", "verify", "--all")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("OK: 2 cases, ")
    assert " 2 notices, 0 files of evidence, all as they were recorded" in told.out

    tamper(world.on_record, f"delete from audit_trail where case_no = '{altered}' and serial > 1")
    told = await enforce("notices", "verify", "--all")
    assert (told.code, told.err) == (1, "")
    assert told.out.startswith(f"{altered}: 1 lines, ")
    assert "missing" in told.out
    assert sound not in told.out
    listed = (await enforce("notices", "verify", "--all", "--json")).json
    assert [(c["case_no"], bool(c["faults"])) for c in listed["cases"]] == [
        (sound, False),
        (altered, True),
        (None, False),
    ]


@pytest.mark.parametrize("command", ["show", "verify"])
def test_the_help_has_an_example(command: str) -> None:
    shown = subprocess.run(
        [ENFORCE, "notices", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"$ enforce notices {command}" in shown.partition("Example")[2].partition("Options")[0]
