"""What people and other systems say to a case by hand: nothing that is sent may break it or get lost."""

import asyncio
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.service import RPCError

from registry.models import AuditLine, Payment, ReportRow
from registry.shown import Story
from rulebook.vocabulary import Awaiting, Kind, Stage, workflow_id
from tests.world import CaseInTime, World, a_report, an_agent
from workflows.messages import CaseStart
from workflows.secondary_sale import SecondarySaleCase

_UNBUILT = """
import worker
from pydantic import BaseModel
from workflows import messages

def of(model):
    for known in model.__subclasses__():
        yield known
        yield from of(known)

messages.build()
print(*(model.__name__ for model in of(BaseModel) if model.model_fields and not model.__pydantic_complete__))
"""


def test_a_worker_has_built_all_that_crosses_before_its_threads_ask() -> None:
    ran = subprocess.run([sys.executable, "-c", _UNBUILT], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


async def _refused(case: CaseInTime, command: str, **said: Any) -> str:
    """Why the case refuses an officer's command."""
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await case.handle.execute_update(command, said)
    return str(refused.value.cause)


async def _not_yet_open(world: World, number: str) -> CaseInTime:
    """A case that was started by hand and waits for its first report."""
    case = CaseInTime(world, workflow_id(Kind.SECONDARY_SALE, number))
    await world.client.start_workflow(
        SecondarySaleCase.run, CaseStart(), id=case.id, task_queue=world.task_queue
    )
    return case


def _awaits_a_look(story: Story) -> bool:
    return Awaiting.REFUSED_MESSAGE in story.awaiting


# Signals that are understood


@pytest.mark.parametrize(
    ("amount", "counted"),
    [("400.10", "400.10"), (599.9, "599.90"), (400, "400.00"), ("0.01", "0.01"), ("1e3", "1000.00")],
)
async def test_an_amount_may_come_as_text_or_number(world: World, amount: Any, counted: str) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("payment_received", {"reference": "工行-1", "amount": amount})
    story = await case.once(lambda story: bool(story.balance.paid))
    assert story.balance.paid == Decimal(counted)
    [payment] = world.rows(Payment)
    assert (payment.amount, payment.recorded_by) == (Decimal(counted), "bank")


async def test_a_bank_reference_of_digits_may_come_as_a_number(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("payment_received", {"reference": 20261124001, "amount": "10"})
    await case.once(lambda story: bool(story.balance.paid))
    assert [payment.reference for payment in world.rows(Payment)] == ["20261124001"]


async def test_a_rectification_is_reported_by_signal(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("rectification_reported", {"by": "王芳", "statement": "号码已收回"})
    await case.once(lambda story: Awaiting.VERIFICATION in story.awaiting)
    await case.verify(passed=True)
    assert (await case.ended()).outcome is Stage.RECTIFIED
    reported = next(line for line in world.rows(AuditLine) if line.step == "rectification-1")
    assert (reported.actor, reported.text) == ("王芳", "Rectification reported: 号码已收回")


async def test_the_longest_statement_is_kept_whole(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified(statement="整" * 4000)
    assert f"Rectification reported: {'整' * 4000}" in await case.told()


# Signals that are not understood

NOT_UNDERSTOOD: dict[str, tuple[str, list[Any], str]] = {
    "no JSON": (
        "payment_received",
        [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{reference: b-1"))],
        "Invalid JSON",
    ),
    "no text": (
        "rectification_reported",
        [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\xfe"))],
        "Invalid JSON",
    ),
    "encrypted": (
        "payment_received",
        [RawValue(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\0\1"))],
        "not readable",
    ),
    "another program's message": (
        "payment_received",
        [RawValue(Payload(metadata={"encoding": b"json/protobuf", "messageType": b"x.Y"}, data=b"{}"))],
        "not readable",
    ),
    "unknown name": ("payment_recieved", [{"reference": "b-1", "amount": "1"}], "no such signal here"),
    "two objects": ("payment_received", [{"reference": "b-1", "amount": "1"}] * 2, "one JSON object"),
    "no object": ("payment_received", [], "amount"),
    "a list": ("rectification_reported", [["done"]], "dictionary"),
    "unknown field": ("rectification_reported", [{"statment": "done"}], "statment"),
    "negative": ("payment_received", [{"reference": "b-1", "amount": "-1"}], "greater than 0"),
    "nothing paid": ("payment_received", [{"reference": "b-1", "amount": 0}], "greater than 0"),
    "part of a fen": ("payment_received", [{"reference": "b-1", "amount": "0.001"}], "2 decimal places"),
    "a flag": ("payment_received", [{"reference": "b-1", "amount": True}], "a number of yuan"),
    "no number": ("payment_received", [{"reference": "b-1", "amount": "一千"}], "amount"),
    "not finite": (
        "payment_received",
        [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b'{"reference":"b","amount":NaN}'))],
        "finite",
    ),
    "no reference": ("payment_received", [{"reference": " \u200b", "amount": "1"}], "must not be empty"),
    "no report": ("report_received", [{"number": "4001234567"}], "facts: Field required"),
}


@pytest.mark.parametrize(("name", "args", "why"), NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD.keys())
async def test_what_is_not_understood_awaits_an_officer(
    world: World, name: str, args: list[Any], why: str
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))

    await case.handle.signal(name, args=args)

    story = await case.once(_awaits_a_look)
    assert _awaits_a_look(story)
    assert why in story.lines[-1].text
    assert story.balance.paid == Decimal(0)
    assert (await case.attributes())["Awaiting"] == [Awaiting.REFUSED_MESSAGE]


async def test_the_next_good_message_clears_a_refused_one(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("payment_received", {"reference": "b-1"})
    assert _awaits_a_look(await case.once(_awaits_a_look))
    await case.signal("payment_received", {"reference": "b-1", "amount": "1"})
    await case.once(lambda story: not _awaits_a_look(story))
    assert "Awaiting" not in await case.attributes()
    assert (await case.story()).balance.paid == Decimal(1)


async def test_a_refused_message_holds_no_deadline_up(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.signal("rectification_done", {})
    assert _awaits_a_look(await case.once(_awaits_a_look))
    assert await case.until("2038-03-05", "00:11") is Stage.PAYMENT


async def test_a_refusal_is_told_in_the_words_that_were_sent(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("payment_received", {"reference": "b-1"})
    story = await case.once(_awaits_a_look)
    assert story.lines[-1].text == "Signal payment_received refused: amount: Field required"


async def test_a_rectification_that_comes_after_the_fine_is_refused_in_the_story(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    await case.signal("rectification_reported", {})
    story = await case.once(_awaits_a_look)
    assert "too late to rectify: the case is in stage payment" in story.lines[-1].text


async def test_a_payment_for_another_case_is_refused_in_the_story(world: World) -> None:
    one, other = an_agent(world.on_record, numbers=2)
    first, second = await world.open(a_report(one)), await world.open(a_report(other))
    await first.paid("300", "b-1")
    await second.signal("payment_received", {"reference": "b-1", "amount": "300"})
    story = await second.once(_awaits_a_look)
    assert "was counted already for case" in story.lines[-1].text
    assert story.balance.paid == Decimal(0)


async def test_a_report_about_another_number_is_refused_in_the_story(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(number))
    await case.signal("report_received", a_report(other).model_dump(mode="json"))
    story = await case.once(_awaits_a_look)
    assert other in story.lines[-1].text
    assert {row.case_no for row in world.rows(ReportRow)} == {story.case_no}


async def test_a_report_whose_id_was_used_for_another_number_is_refused_in_the_story(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(number))
    await world.open(a_report(other, report_id="2038-0001"))
    again = a_report(number, report_id="2038-0001")
    await case.signal("report_received", again.model_dump(mode="json"))
    story = await case.once(_awaits_a_look)
    assert other in story.lines[-1].text
    assert await case.stage() is Stage.RECTIFICATION
    assert "dismissed" in await case.dismiss()


async def test_a_report_with_a_character_that_no_database_keeps_stops_nothing(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.signal("report_received", a_report(number, facts="转售\0他人").model_dump(mode="json"))
    await case.signal("report_received", a_report(number, facts="再次举报").model_dump(mode="json"))
    story = await case.once(lambda story: "joined the case" in story.lines[-1].text)
    assert "joined the case" in story.lines[-1].text


# Before the case is open


async def test_a_report_that_cannot_open_a_case_is_not_in_the_way_of_one_that_can(world: World) -> None:
    number, other = an_agent(world.on_record, numbers=2)
    await world.open(a_report(other, report_id="2038-0001"))
    case = await _not_yet_open(world, number)
    await case.signal("report_received", a_report(number, report_id="2038-0001").model_dump(mode="json"))
    await world.report(a_report(number))
    assert (await case.once(lambda story: bool(story.notices))).stage is Stage.RECTIFICATION


async def test_a_payment_that_comes_before_the_report_counts(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _not_yet_open(world, number)
    await case.signal("payment_received", {"reference": "b-1", "amount": "250"})
    assert await case.stage() is Stage.OPENING
    await world.report(a_report(number))
    assert (await case.once(lambda story: bool(story.balance.paid))).balance.paid == Decimal(250)


async def test_a_refused_message_that_comes_before_the_report_is_not_forgotten(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _not_yet_open(world, number)
    await case.signal("payment_recieved", {})
    await world.report(a_report(number))
    assert _awaits_a_look(await case.once(_awaits_a_look))


async def test_a_rectification_that_comes_before_the_report_awaits_verification(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _not_yet_open(world, number)
    await case.signal("rectification_reported", {})
    await world.report(a_report(number))
    story = await case.once(lambda story: bool(story.awaiting))
    assert story.awaiting == (Awaiting.VERIFICATION,)


COMMANDS: dict[str, dict[str, Any]] = {
    "rectified": {},
    "verify": {"officer": "李敏", "passed": True},
    "paid": {"reference": "b-1", "amount": "1"},
    "extend": {"officer": "李敏", "working_days": 1, "reason": "flood"},
    "dismiss": {"officer": "李敏", "reason": "wrong number"},
}


async def test_no_command_is_taken_before_the_case_is_open(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await _not_yet_open(world, number)
    refusals = {name: await _refused(case, name, **said) for name, said in COMMANDS.items()}
    assert all("not open yet" in why for why in refusals.values())


# Commands that are refused, in words


async def test_nothing_is_verified_that_was_not_reported(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    assert "the agent has not reported rectification" in await _refused(case, "verify", **COMMANDS["verify"])


async def test_a_failed_verification_needs_a_reason(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified()
    assert "needs a reason" in await _refused(case, "verify", officer="李敏", passed=False)
    assert (await case.story()).awaiting == (Awaiting.VERIFICATION,)


async def test_of_two_officers_who_verify_at_once_one_is_refused(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified()
    answers = await asyncio.gather(
        case.verify(passed=False, officer="李敏"),
        case.verify(passed=False, officer="张伟"),
        return_exceptions=True,
    )
    assert sorted(isinstance(answer, WorkflowUpdateFailedError) for answer in answers) == [False, True]
    assert sum("Verification failed" in text for text in await case.told()) == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [("rectified", "too late to rectify"), ("verify", "nothing to verify: the case is in stage payment")],
)
async def test_nothing_is_rectified_after_the_fine(world: World, command: str, why: str) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    assert why in await _refused(case, command, **COMMANDS[command])


async def test_a_bank_reference_of_another_case_is_refused(world: World) -> None:
    one, other = an_agent(world.on_record, numbers=2)
    first, second = await world.open(a_report(one)), await world.open(a_report(other))
    await first.paid("300", "b-1")
    why = await _refused(second, "paid", reference="b-1", amount="300")
    assert f"b-1 was counted already for case {(await first.story()).case_no}, with ¥300.00" in why


@pytest.mark.parametrize("working_days", [0, -1, 61])
async def test_a_limit_is_extended_by_one_to_sixty_working_days(world: World, working_days: int) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await _refused(case, "extend", officer="李敏", working_days=working_days, reason="flood")
    assert await case.last_day() == "2038-03-04"


async def test_a_command_without_content_is_refused(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    for command in COMMANDS:
        with pytest.raises(WorkflowUpdateFailedError):
            await asyncio.wait_for(case.handle.execute_update(command, None), 5)
    assert await case.stage() is Stage.RECTIFICATION


async def test_no_command_is_taken_after_the_end(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.dismiss()
    await case.ended()
    for command, said in COMMANDS.items():
        with pytest.raises(RPCError, match="already completed"):
            await case.handle.execute_update(command, said)
