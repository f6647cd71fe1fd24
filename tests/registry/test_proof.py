"""The record proves itself: what was altered, moved, taken out or put in since is found and named (5.6)."""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from registry import audit
from registry.models import Appeal, AuditLine, Case, Evidence, Notice
from registry.proof import Proof, examine, examine_all
from registry.session import Sessions, snapshot
from rulebook.vocabulary import NoticeKind
from tests.registry.test_models import a_case
from tests.world import shanghai

AT = shanghai("2026-03-02")
LETTER = "关于责令限期整改的通知\n".encode()


class Answer(audit.Done):
    """What a step answers."""

    more: Any = None


class Served(audit.Done):
    """What a step answers that has served a notice."""

    notice_no: str
    sha256: str


def say(session: Session, case_no: str | None, step: str, said: str = "") -> None:
    audit.record(session, case_no, step, Answer(line=audit.line(AT, "李敏", said or f"第{step}步")))


@pytest.fixture
def session(on_record: Sessions, case: Case) -> Iterator[Session]:
    """A case with four lines, in hands that the database does not stop."""
    with on_record() as session:
        for step in "abcd":
            say(session, case.case_no, step)
        session.execute(text("alter table audit_trail disable trigger user"))
        session.execute(text("alter table audit_trail drop constraint uq_audit_trail_case_no_serial"))
        yield session


def found(session: Session, case: Case, sql: str) -> list[str]:
    """What is found after somebody has done this to the registry."""
    session.execute(text(sql))
    return list(examine(session, case.case_no).faults)


def test_a_record_that_nobody_touched_proves_itself(session: Session, case: Case) -> None:
    proof = examine(session, case.case_no)
    last = session.query(AuditLine).order_by(AuditLine.serial.desc()).limit(1).one()
    assert proof == Proof(case_no=case.case_no, lines=4, head=last.hash, faults=())
    assert re.fullmatch("[0-9a-f]{64}", proof.head)


@pytest.mark.parametrize(
    "change",
    ["text = '免于处罚'", "actor = '王芳'", "result = '{\"amount\": 1}'", "at = 'infinity'", "step = 'x'"],
)
def test_a_line_that_was_altered_is_named_with_what_it_says_now(
    session: Session, case: Case, change: str
) -> None:
    [fault] = found(session, case, f"update audit_trail set {change} where serial = 2")
    assert fault.startswith("line 2 (")
    assert "is not what was recorded" in fault
    now = session.query(AuditLine.text).filter(AuditLine.serial == 2).scalar()
    assert f"it now says, by {'王芳' if 'actor' in change else '李敏'}: {now}" in fault


@pytest.mark.parametrize(
    ("serials", "missing"),
    [("1", "line 1 is"), ("2", "line 2 is"), ("2, 3", "lines 2 to 3 are"), ("4", "line 4 is")],
)
def test_lines_that_were_taken_out_are_missed_also_the_last_ones(
    session: Session, case: Case, serials: str, missing: str
) -> None:
    faults = found(session, case, f"delete from audit_trail where serial in ({serials})")
    assert faults[0] == f"{missing} missing"
    assert [("can't be proved" in fault) for fault in faults[1:]] == [True] * (len(faults) - 1)
    assert len(faults) == (1 if serials == "4" else 2), "what follows the next line is proved by it"


def test_a_record_that_was_emptied_is_missed(session: Session, case: Case) -> None:
    assert found(session, case, "delete from audit_trail") == ["lines 1 to 4 are missing"]
    assert found(session, case, "update cases set lines = 0") == [], "that is what a new case looks like"


def test_a_record_that_goes_on_after_lines_were_taken_out_is_still_proved(
    session: Session, case: Case
) -> None:
    session.execute(text("delete from audit_trail where serial >= 3"))
    audit.lock(session, case.case_no)  # as the next step does
    say(session, case.case_no, "e")
    assert examine(session, case.case_no).faults == ("lines 3 to 4 are missing",)


def test_lines_that_were_swapped_are_named_with_their_places(session: Session, case: Case) -> None:
    faults = found(session, case, "update audit_trail set serial = 5 - serial where serial in (2, 3)")
    assert faults == [
        "line 3 (b, 2026-03-02 10:00) was recorded as line 2: it was moved",
        "line 2 (c, 2026-03-02 10:00) was recorded as line 3: it was moved",
    ]


def test_lines_that_are_told_in_another_order_are_found(session: Session, case: Case) -> None:
    [fault] = found(session, case, "update audit_trail set id = id + 100 where serial = 2")
    assert fault == "the lines stand in another order than they were recorded in"


@pytest.mark.parametrize("counted", [4, 5])
def test_a_line_that_was_put_in_is_named(session: Session, case: Case, counted: int) -> None:
    faults = found(
        session,
        case,
        f"""
        update cases set lines = {counted};
        update audit_trail set serial = serial + 1 where serial > 1;
        insert into audit_trail (case_no, step, at, actor, text, result, serial, hash)
            select case_no, 'forged', at, '王芳', '罚款已缴', '{{}}', 2, hash from audit_trail
            where serial = 1;
        """,
    )
    [put_in] = [fault for fault in faults if "was put in" in fault]
    assert put_in.startswith("line 2 (forged, ")
    assert "it now says, by 王芳: 罚款已缴" in put_in
    assert sum("was moved" in fault for fault in faults) == 3


def test_a_line_that_was_put_in_at_the_end_is_beyond_what_the_case_counts(
    session: Session, case: Case
) -> None:
    say(session, case.case_no, "forged", "罚款已缴")
    [fault] = found(session, case, "update cases set lines = 4")
    assert fault.startswith("line 5 (forged, 2026-03-02 10:00) is beyond the 4 lines that the case counts")


def test_a_line_whose_hash_was_made_anew_does_not_fit_the_next(session: Session, case: Case) -> None:
    lines = session.query(AuditLine).order_by(AuditLine.serial).all()
    say(session, case.case_no, "e", "免于处罚")
    forged = session.query(AuditLine).filter(AuditLine.step == "e").one()
    says = {
        "case_no": case.case_no,
        "serial": 2,
        "step": "b",
        "at": "2026-03-02T02:00:00.000000+00:00",
        "actor": "李敏",
        "text": "免于处罚",
        "result": forged.result,
        "recorded_at": f"{lines[1].recorded_at.astimezone(UTC).isoformat(timespec='microseconds')}",
    }
    session.execute(
        update(AuditLine)
        .where(AuditLine.serial == 2)
        .values(text="免于处罚", result=forged.result, hash=audit.hashed(says, lines[0].hash))
    )
    [fault] = examine(session, case.case_no).faults
    assert fault.startswith("line 3 (c, 2026-03-02 10:00) is not what was recorded, or line 2 is not")


def test_what_a_forger_wrote_cannot_act_in_a_terminal(session: Session, case: Case) -> None:
    [fault] = found(session, case, "update audit_trail set text = E'\\x1b[2J\n伪造' where serial = 1")
    assert fault.isprintable()


def test_data_is_proved_however_the_database_writes_it(session: Session, case: Case) -> None:
    more = {
        "b": [-0.0, 1e22, 1e-7, 5e-324, 1.5, 2**70],
        "aa": '\u2028\\"é\x7f',
        "": None,
        "𠮷": True,
        "\ue000": 1,
    }
    line = audit.line(AT, "李敏", "数据")
    audit.record(session, case.case_no, "data", Answer(line=line, more=more))
    assert examine(session, case.case_no).faults == ()
    [fault] = found(
        session,
        case,
        "update audit_trail set result = jsonb_set(result, '{more,b,4}', '1.50') where serial = 5",
    )
    assert fault.startswith("line 5 (data, ")


# Letters and files


def served(session: Session, case: Case, step: str = "notice") -> str:
    """A notice that was served, with its line; its number."""
    sha256 = hashlib.sha256(LETTER).hexdigest()
    notice = Notice(
        notice_no=f"{case.case_no}-N1",
        case_no=case.case_no,
        step=step,
        kind=NoticeKind.RECTIFICATION_ORDER,
        recipient="a@agent.example",
        content=LETTER,
        sha256=sha256,
        drafted_at=AT,
        served_at=AT,
    )
    session.add(notice)
    line = audit.line(AT, "李敏", "Notice served")
    audit.record(session, case.case_no, step, Served(line=line, notice_no=notice.notice_no, sha256=sha256))
    return notice.notice_no


OTHER = hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ("update notices set content = 'other'", ["the letter is not the one that was recorded"]),
        (f"update notices set content = 'other', sha256 = '{OTHER}'", ["says that the letter served has"]),
        (
            f"update notices set sha256 = '{OTHER}'",
            ["the letter is not the one that was recorded", "says that the letter served has"],
        ),
        ("update notices set served_at = null", ["the notice says that it was not"]),
        ("delete from notices", ["says that it was served, and it is gone"]),
        (
            "delete from audit_trail where serial = 5",
            ["line 5 is missing", "was served, and no line says so"],
        ),
    ],
)
def test_a_letter_is_proved_by_the_line_that_says_that_it_was_served(
    session: Session, case: Case, change: str, faults: list[str]
) -> None:
    notice_no = served(session, case)
    proof = examine(session, case.case_no)
    assert (proof.notices, proof.faults) == (1, ())
    told = found(session, case, change)
    assert len(told) == len(faults)
    for fault, expected in zip(told, faults, strict=True):
        assert expected in fault
        assert notice_no in fault or "line 5" in fault


def test_a_notice_that_bounced_and_was_served_again_is_proved_by_both_lines(
    session: Session, case: Case
) -> None:
    notice_no = served(session, case)
    line = audit.line(AT, "李敏", "Notice served by hand")
    again = Served(line=line, notice_no=notice_no, sha256=hashlib.sha256(LETTER).hexdigest())
    audit.record(session, case.case_no, "again", again)
    faults = found(session, case, f"update notices set content = 'other', sha256 = '{OTHER}'")
    assert [fault.split(" (")[0] for fault in faults] == [
        f"notice {notice_no}: line {serial}" for serial in (5, 6)
    ]


def test_a_notice_that_is_only_drafted_needs_no_line(session: Session, case: Case) -> None:
    served(session, case)
    session.execute(text("update cases set lines = 4"))
    assert (
        found(session, case, "update notices set served_at = null; delete from audit_trail where serial = 5")
        == []
    )


def named_files(session: Session, case: Case) -> dict[str, str]:
    """A file of an appeal and one that proves service by hand; their hashes by what names them."""
    hashes = {by: hashlib.sha256(by.encode()).hexdigest() for by in ("appeal", "receipt")}
    for by, sha256 in hashes.items():
        session.add(
            Evidence(sha256=sha256, name=f"{by}, 1.pdf", content=by.encode(), added_at=AT, added_by="李敏")
        )
    session.add(
        Appeal(
            appeal_no=f"{case.case_no}-A1",
            case_no=case.case_no,
            statement="有误",
            evidence=[hashes["appeal"]],
            filed_at=AT,
            filed_by="陈静",
        )
    )
    served(session, case)
    by_hand = f"by hand, EMS 1234567890123, by 李敏; proof receipt, 1.pdf, {hashes['receipt']}"
    session.flush()
    session.execute(update(Notice).values(receipt=by_hand))
    return hashes


@pytest.mark.parametrize(("by", "named"), [("appeal", "appeal {}-A1"), ("receipt", "notice {}-N1")])
def test_a_file_that_was_altered_or_is_gone_is_named_with_who_names_it(
    session: Session, case: Case, by: str, named: str
) -> None:
    sha256 = named_files(session, case)[by]
    proof = examine(session, case.case_no)
    assert (proof.files, proof.faults) == (2, ())
    [altered] = found(session, case, f"update evidence set content = 'x' where sha256 = '{sha256}'")
    assert altered.startswith(
        f"evidence {sha256}, named by {named.format(case.case_no)}, is not the file that was recorded"
    )
    [gone] = found(session, case, f"delete from evidence where sha256 = '{sha256}'")
    assert gone == f"evidence {sha256}, named by {named.format(case.case_no)}, is not on record"


# All cases


def test_all_cases_are_examined_and_the_lines_that_belong_to_none(
    on_record: Sessions, session: Session, case: Case
) -> None:
    other = a_case(case, closed_at=AT, outcome="settled")
    session.add(other)
    session.flush()
    for step in "xyz":
        say(session, other.case_no, step)
        say(session, None, "registry-import")
    assert [(p.case_no, p.lines, p.faults) for p in examine_all(session)] == [
        (case.case_no, 4, ()),
        (other.case_no, 3, ()),
        (None, 3, ()),
    ]
    session.execute(text("update audit_trail set text = '' where case_no is null and serial = 2"))
    session.execute(text(f"update audit_trail set case_no = '{case.case_no}', serial = 5 where step = 'y'"))
    first, second, none = examine_all(session)
    now = first.faults[0][first.faults[0].index("it now says, by 李敏: 第y步") :]
    assert [fault.partition(" (y, 2026-03-02 10:00) ")[::2] for fault in first.faults] == [
        ("line 5", f"is not what was recorded, or line 4 is not: {now}"),
        ("line 5", f"is beyond the 4 lines that the case counts: {now}"),
    ]
    assert second.faults[0] == "line 2 is missing"
    assert none.faults[0].startswith("line 2 (registry-import, ")


def test_what_is_recorded_during_an_examination_does_not_seem_a_fault(
    on_record: Sessions, case: Case
) -> None:
    with snapshot(on_record) as session:
        examine(session, case.case_no)
        with on_record.begin() as later:
            say(later, case.case_no, "a")
        assert examine(session, case.case_no).lines == 0


# Whatever it says

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(timezones=st.just(UTC))
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "case_no": st.none(),
    "serial": st.integers(1, 2**31 - 1),
    "step": TEXT,
    "at": MOMENTS,
    "actor": TEXT,
    "text": TEXT,
    "result": JSON,
    "recorded_at": MOMENTS,
    "hash": st.text("0123456789abcdef", min_size=64, max_size=64),
}
in_one_database = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@in_one_database
@given(st.data())
def test_whatever_is_altered_in_whatever_line_is_found_and_named(
    on_record: Sessions, case: Case, data: st.DataObject
) -> None:
    with on_record() as session:
        session.execute(text("alter table audit_trail disable trigger user"))
        for step in range(data.draw(st.integers(1, 4))):
            line = audit.line(data.draw(MOMENTS), data.draw(TEXT), data.draw(TEXT))
            audit.record(session, case.case_no, f"step {step}", Answer(line=line, more=data.draw(JSON)))
        assert examine(session, case.case_no).faults == ()
        lines = session.query(AuditLine).order_by(AuditLine.serial).all()
        altered = data.draw(st.sampled_from(lines))
        field = data.draw(st.sampled_from(sorted(CHANGES)))
        value = data.draw(CHANGES[field])
        assume(value != getattr(altered, field))
        assume(field != "serial" or value > len(lines))
        session.execute(update(AuditLine).where(AuditLine.id == altered.id).values({field: value}))
        faults = examine(session, case.case_no).faults
        assert any(re.search(rf"\bline {altered.serial}\b", fault) for fault in faults)
