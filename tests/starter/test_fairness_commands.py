"""Appeals, clocks that stand still, notices served by hand, what an undo leaves: at the command line."""

from datetime import datetime
from pathlib import Path

from registry.models import Appeal, Evidence, Notice
from rulebook.vocabulary import SHANGHAI, AccountStatus, Awaiting, Kind, Stage
from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent


async def test_an_appeal_with_evidence_is_decided_by_another_officer(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number, reported_by="李敏"))
    contract = tmp_path / "合同.pdf"
    contract.write_bytes(b"%PDF-1.7 contract")

    missing = await enforce("appeal", number, "--statement", "有误", "--evidence", "missing.pdf")
    assert (missing.code, "does not exist" in missing.err) == (2, True)
    filed = await enforce("appeal", number, "--statement", "有误", "--evidence", str(contract))
    assert "another officer has to decide" in filed.out, filed.err
    assert [row.name for row in world.rows(Evidence)] == ["合同.pdf"]
    assert [row.evidence for row in world.rows(Appeal)] == [[row.sha256 for row in world.rows(Evidence)]]

    told = await enforce("case", number)
    assert "next: enforce decide" in told.out
    undecided = await enforce("decide", number, "--reason", "x")
    assert (undecided.code, "Say --uphold" in undecided.err) == (1, True)
    own = await enforce("decide", number, "--uphold", "--reason", "x")
    assert (own.code, "opened case" in own.err) == (1, True)
    other = await enforce("decide", number, "--overturn", "--reason", "登记无误", "--officer", "王静")
    assert "is overturned" in other.out, other.err
    late = await enforce("decide", number, "--overturn", "--reason", "x", "--officer", "王静")
    assert (late.code, "no appeal is pending" in late.err) == (1, True)


async def test_a_case_that_has_ended_is_appealed_against_and_then_undone(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD))
    await enforce("paid", number, "30000", "--reference", f"ICBC-{number}")
    case_no = (await case.ended()).case_no

    filed = await enforce("appeal", case_no, "--statement", "号码被冒用")
    assert filed.out == f"{case_no}: Appeal {case_no}-A1 is recorded; another officer has to decide\n"
    again = await enforce("appeal", case_no, "--statement", "号码被冒用")
    assert (again.code, "has to be decided first" in again.err) == (1, True)
    assert await world.found(f"CaseNo = '{case_no}' and Awaiting = 'appeal'")
    assert (await enforce("case", case_no, "--json")).json["awaiting"] == ["appeal"]
    assert case_no in (await enforce("cases", "--awaiting", "appeal", "--number", number)).out
    decided = await enforce("decide", case_no, "--overturn", "--reason", "属实", "--officer", "王静")
    assert "is overturned" in decided.out, decided.err

    assert await world.found(f"CaseNo = '{case_no}' and Awaiting = 'refund'")
    told = (await enforce("case", case_no, "--json")).json
    assert (told["stage"], told["awaiting"]) == ("overturned", ["refund"])
    assert "next: enforce refunded" in (await enforce("case", case_no)).out
    agent = (await enforce("agent", told["agent_id"], "--json")).json
    assert (agent["account"], agent["offences"]) == (AccountStatus.OPEN, {})
    refunded = await enforce("refunded", case_no, "--reference", "ICBC-R-1")
    assert "30,000.00 refunded" in refunded.out, refunded.err
    nothing = await enforce("refunded", case_no, "--reference", "ICBC-R-2")
    assert (nothing.code, "nothing is owed back in case" in nothing.err) == (1, True)


async def test_what_is_owed_back_waits_in_todo_until_it_is_returned_once(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.paid("300.50", "ICBC-1")
    early = await enforce("refunded", number, "--reference", "ICBC-R-1")
    assert (early.code, "is open: what was paid in it may yet be met by a fine" in early.err) == (1, True)
    await case.rectified()
    await case.verify(True)
    case_no = (await case.ended()).case_no

    [task] = [one for one in (await enforce("todo", "--json")).json if one["case_no"] == case_no]
    assert (task["what"], task["next"]) == ("refund", f"enforce refunded {case_no} --reference REFERENCE")
    assert "¥300.50 owed back" in (await enforce("case", case_no)).out
    taken = await enforce("refunded", case_no, "--reference", "ICBC-1")
    assert (taken.code, "ICBC-1 was counted already" in taken.err) == (1, True)
    for _ in range(2):
        returned = await enforce(*task["next"].replace("REFERENCE", "ICBC-R-1").split()[1:])
        assert returned.out == f"{case_no}: ¥300.50 returned, reference ICBC-R-1\n", returned.err

    assert [one for one in (await enforce("todo", "--json")).json if one["case_no"] == case_no] == []
    told = (await enforce("case", case_no, "--json")).json
    assert (told["awaiting"], told["balance"]) == ([], {"fine": "0.00", "paid": "0.00"})
    again = await enforce("refunded", case_no, "--reference", "ICBC-R-2")
    assert (again.code, "nothing is owed back in case" in again.err) == (1, True)
    as_paid = await enforce("paid", case_no, "300.50", "--reference", "ICBC-R-1")
    assert (as_paid.code, "with ¥300.50 returned" in as_paid.err) == (1, True)
    late = await enforce("paid", case_no, "20", "--reference", "ICBC-2")
    assert f"¥20.00 owed back; once it is given back: enforce refunded {case_no}" in late.out, late.err


async def test_what_is_owed_back_is_returned_while_a_substitute_is_still_to_be_found(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    case_no = (await case.ended()).case_no
    await world.round("2038-04-20")  # its quarantine ends
    await world.pay_after(case_no, "1200", "b-1", known="2038-04-21")
    await (await world.reinstate(case_no, on="2038-04-22")).ended()
    await world.restitution(case_no).once(lambda told: bool(told.awaiting))

    returned = await enforce("refunded", case_no, "--reference", "ICBC-R-1")
    assert returned.out == f"{case_no}: ¥200.00 returned, reference ICBC-R-1\n", returned.err
    assert (await world.restitution(case_no).story()).awaiting == (Awaiting.SUBSTITUTE,)


async def test_a_case_that_has_ended_is_dismissed_once(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    await case.rectified()
    await case.verify(True)
    case_no = (await case.ended()).case_no
    dismissed = await enforce("dismiss", case_no, "--reason", "误报")
    assert "dismissed" in dismissed.out, dismissed.err
    again = await enforce("dismiss", case_no, "--reason", "误报")
    assert (again.code, "was dismissed already" in again.err) == (1, True)
    appealed = await enforce("appeal", case_no, "--statement", "x")
    assert (appealed.code, "nothing to appeal against" in appealed.err) == (1, True)


async def test_a_clock_is_held_and_resumed(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number))
    held = await enforce("hold", number, "--reason", "等待公安机关反馈")
    assert "stands still" in held.out, held.err
    await case.once(lambda told: told.deadline is None)
    resumed = await enforce("resume", number)
    assert "resumed" in resumed.out, resumed.err
    assert (await enforce("resume", number)).code == 1
    assert (await case.once(lambda told: told.deadline is not None)).deadline


async def test_a_notice_that_cannot_be_delivered_is_served_by_hand(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record, email=" ")
    case = await world.open(a_report(number))
    told = await case.once(lambda story: bool(story.awaiting))
    assert (told.stage, told.deadline, told.awaiting) == (Stage.RECTIFICATION, None, ("delivery",))
    assert "next: enforce served" in (await enforce("case", number)).out
    receipt, today = tmp_path / "回执.jpg", f"{datetime.now(SHANGHAI):%Y-%m-%d}"
    receipt.write_bytes(b"\xff\xd8receipt")

    by_courier = ("--by", "EMS 1234567890123", "--proof", str(receipt))
    early = await enforce("served", number, *by_courier, "--on", "2026-01-05")
    assert (early.code, "was drafted on" in early.err) == (1, True)
    served = await enforce("served", number, *by_courier, "--on", today)
    assert "the limit ends" in served.out, served.err

    story = await case.once(lambda story: story.deadline is not None)
    assert (story.awaiting, bool(story.deadline)) == ((), True)
    [notice] = world.rows(Notice)
    assert notice.receipt
    assert "EMS 1234567890123" in notice.receipt
    again = await enforce("served", number, *by_courier, "--on", today)
    assert (again.code, "has been delivered" in again.err) == (1, True)


async def test_a_number_that_can_not_be_returned_is_replaced(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    case_no = (await case.ended()).case_no
    await world.round(on="2038-04-13")
    assert (await enforce("dismiss", case_no, "--reason", "误报")).code == 0
    assert await world.found(f"CaseNo = '{case_no}' and Awaiting = 'substitute'")
    told = await enforce("case", case_no)
    assert "next: enforce substitute" in told.out
    unknown = await enforce("substitute", case_no, "4009999999", "--with", "4009990001")
    assert (unknown.code, "no substitute is wanted" in unknown.err) == (1, True)
    bare = await enforce("substitute", case_no, number)
    assert (bare.code, "needs a reason" in bare.err) == (1, True)
    given = await enforce("substitute", case_no, number, "--with", "400-999-0001")
    assert "replaced by 400-999-0001" in given.out, given.err
    assert not await world.found(f"CaseNo = '{case_no}' and Awaiting = 'substitute'", expected=0)
    assert (await enforce("case", case_no, "--json")).json["awaiting"] == []
