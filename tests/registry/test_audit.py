"""A step is done once, and its line tells of it for ever."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text

from registry import audit, holds
from registry.models import AuditLine, Case, Payment
from registry.proof import examine, examine_all
from registry.session import Sessions
from tests.registry.conftest import at_once
from tests.world import shanghai

AT = shanghai("2026-03-02")


class Paid(audit.Done):
    """What the step under test answers."""

    amount: Decimal


def pay(on_record: Sessions, case: Case, attempt: int, step: str = "pay") -> Paid:
    """A step that would leave a payment at each attempt."""
    with on_record.begin() as session:
        if done := audit.recorded(session, case.case_no, step, Paid):
            return done
        amount = Decimal(attempt) / 10
        session.add(
            Payment(
                reference=f"{step}-{attempt}",
                case_no=case.case_no,
                amount=amount,
                received_at=AT,
                recorded_by="bank",
            )
        )
        line = audit.line(AT, "bank", f"attempt {attempt}")
        return audit.record(session, case.case_no, step, Paid(line=line, amount=amount))


def payments(on_record: Sessions) -> int | None:
    with on_record() as session:
        return session.scalar(select(func.count()).select_from(Payment))


def test_a_step_that_runs_twice_answers_what_it_answered_first(on_record: Sessions, case: Case) -> None:
    first = pay(on_record, case, attempt=1)
    again = pay(on_record, case, attempt=2)
    assert again == first == Paid(line=audit.line(AT, "bank", "attempt 1"), amount=Decimal("0.1"))
    assert payments(on_record) == 1


def test_a_step_that_is_tried_by_many_at_once_has_one_effect(on_record: Sessions, case: Case) -> None:
    attempts = (lambda attempt=attempt: pay(on_record, case, attempt) for attempt in range(1, 9))
    answers = at_once(on_record, select(Case), *attempts)
    assert len(answers) == 8
    assert len(set(answers)) == 1
    assert payments(on_record) == 1


def test_a_step_that_fails_leaves_no_line_and_is_done_by_the_next_attempt(
    on_record: Sessions, case: Case
) -> None:
    pay(on_record, case, attempt=1, step="other")
    with pytest.raises(ZeroDivisionError), on_record.begin() as session:
        audit.record(session, case.case_no, "pay", audit.Done(line=audit.line(AT, "bank", "half")))
        _ = 1 // 0
    assert pay(on_record, case, attempt=2).line.text == "attempt 2"


def test_the_story_of_a_case_is_told_in_the_order_in_which_it_happened(
    on_record: Sessions, case: Case
) -> None:
    steps = ["open", "notice", "fine", "closed"]
    with on_record.begin() as session:
        audit.record(session, None, "registry-import", audit.Done(line=audit.line(AT, "李敏", "import")))
        for step in steps:
            audit.record(session, case.case_no, step, audit.Done(line=audit.line(AT, "李敏", step)))
    with on_record() as session:
        assert [line.text for line in audit.trail(session, case.case_no)] == steps


def test_what_comes_from_outside_forges_no_line_of_the_story(on_record: Sessions, case: Case) -> None:
    forged = audit.line(AT, "李敏\n王芳", "dismissed\r\n2026-03-02 enforce: fine voided\u202e\x00")
    with on_record.begin() as session:
        audit.record(session, case.case_no, "forged", audit.Done(line=forged))
    with on_record() as session:
        [line] = audit.trail(session, case.case_no)
    assert (line.by, line.text) == ("李敏 王芳", "dismissed 2026-03-02 enforce: fine voided")


def note(on_record: Sessions, case_no: str | None, step: str) -> None:
    """A step that does nothing but put its line on record, whether or not it was done before."""
    with on_record.begin() as session:
        audit.record(session, case_no, step, audit.Done(line=audit.line(AT, "李敏", step)))


def serials(on_record: Sessions, case_no: str | None) -> list[int]:
    with on_record() as session:
        lines = select(AuditLine.serial).where(AuditLine.case_no.is_not_distinct_from(case_no))
        return list(session.scalars(lines.order_by(AuditLine.id)))


def test_lines_that_come_to_a_case_at_once_stand_one_after_the_other(on_record: Sessions, case: Case) -> None:
    steps = (lambda step=step: note(on_record, case.case_no, f"step {step}") for step in range(8))
    at_once(on_record, select(Case), *steps)
    assert serials(on_record, case.case_no) == list(range(1, 9))
    with on_record() as session:
        assert examine(session, case.case_no).faults == ()


def test_lines_that_belong_to_no_case_stand_one_after_the_other(on_record: Sessions) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: note(on_record, None, "registry-import"), range(40)))
    assert serials(on_record, None) == list(range(1, 41))
    with on_record() as session:
        [proof] = examine_all(session)
    assert (proof.lines, proof.faults) == (40, ())


def test_a_line_that_was_not_committed_leaves_no_gap(on_record: Sessions, case: Case) -> None:
    note(on_record, case.case_no, "first")
    with pytest.raises(ZeroDivisionError), on_record.begin() as session:
        audit.record(session, case.case_no, "lost", audit.Done(line=audit.line(AT, "bank", "half")))
        _ = 1 // 0
    note(on_record, case.case_no, "second")
    with on_record() as session:
        proof = examine(session, case.case_no)
    assert (proof.lines, proof.faults) == (2, ())


def test_a_line_that_was_taken_back_within_a_transaction_leaves_no_gap(
    on_record: Sessions, case: Case
) -> None:
    with on_record.begin() as session:
        said = audit.Done(line=audit.line(AT, "bank", "said"))
        audit.record(session, case.case_no, "first", said)
        with session.begin_nested() as savepoint:
            audit.record(session, case.case_no, "lost", said)
            savepoint.rollback()
        audit.record(session, case.case_no, "second", said)
    with on_record() as session:
        proof = examine(session, case.case_no)
    assert (proof.lines, proof.faults) == (2, ())


def test_a_case_is_written_to_while_another_one_holds_its_number(on_record: Sessions, case: Case) -> None:
    with on_record.begin() as other:
        holds.bring_numbers(other, case.agent_id, [case.number])
        with on_record.begin() as session:
            session.execute(text("set local lock_timeout = '1s'"))
            audit.lock(session, case.case_no)
            session.get_one(Case, case.case_no).opened_by = "李敏"
            session.flush()
            line = audit.line(shanghai("2026-02-12"), "李敏", "second update of the row")
            audit.record(session, case.case_no, "note", audit.Done(line=line))
