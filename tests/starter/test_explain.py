"""`enforce explain`: by which rule, on what and after which notice (5.6), and what comes next."""

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.models import Filing, Fine, HoldRow, Notice, Number
from rulebook.vocabulary import Hold, Holder, Kind, NoticeKind, NumberStatus, Stage, written
from starter.explain import explain
from starter.explain.rules import SAYS, rules_of
from starter.explain.told import Deed, Explained
from starter.settings import Refused
from tests.starter.conftest import Enforce
from tests.world import CaseInTime, World, a_report, an_agent, shanghai

# Assumed for 2038: Spring Festival off from 5 to 11 February, worked for on four days of the weekends around.
SPRING_FESTIVAL = {f"2038-02-{day:02}": False for day in range(5, 12)} | dict.fromkeys(
    ("2038-01-31", "2038-02-04", "2038-02-12", "2038-02-14"), True
)
LONG_AGO = shanghai("2026-01-05")
UNDER_WAY = timedelta(minutes=1)


async def _explained(enforce: Enforce, named: str) -> Explained:
    ran = await enforce("explain", named, "--json")
    assert ran.code == 0, ran.err
    told = Explained.model_validate_json(ran.out)
    assert [deed.step for deed in told.deeds if not deed.rules] == []
    return told


def _deed(told: Explained, step: str) -> Deed:
    [found] = (deed for deed in told.deeds if re.fullmatch(step, deed.step))
    return found


def _in_time(done: datetime, foretold: datetime | None) -> bool:
    return foretold is not None and foretold <= done < foretold + UNDER_WAY


# Which rule, which evidence, which notice


async def test_a_fine_and_a_shutdown_name_rule_evidence_warning_and_notice(
    world: World, enforce: Enforce
) -> None:
    numbers = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(numbers[0]), on="2038-03-01")
    await case.until("2038-03-03")
    await case.rectified()
    await case.verify(False, "仍由他人使用")
    await case.extend(1)
    await case.until("2038-03-06", "01:00")
    await world.report(a_report(numbers[0], source="hotline", facts="用户再次投诉"))
    await case.once(lambda told: "hotline" in told.lines[-1].text)
    await case.until("2038-03-13", "00:11")
    await case.ended()
    order, _, punishment, shutdown = world.rows(Notice)

    told = await _explained(enforce, numbers[0])

    assert (told.policy, told.outcome) == (date(2017, 2, 16), Stage.SHUT_DOWN)
    fine = _deed(told, "fine")
    assert (fine.rules, fine.by) == (("2.3", "7.3"), "enforce")
    report, failed = fine.evidence
    assert (report.by, report.says, len(report.sha256)) == ("monitor", "登记客户与实际用户不一致", 64)
    assert (failed.by, failed.says) == ("李敏", "Verification failed: 仍由他人使用")
    assert fine.warned
    assert fine.letter
    assert (fine.letter.notice_no, fine.letter.kind) == (punishment.notice_no, NoticeKind.PUNISHMENT)
    warned = fine.warned.letter
    assert (warned.notice_no, warned.sha256) == (order.notice_no, order.sha256)
    assert (warned.served_at, warned.how) == (order.served_at, f"outbox: {order.notice_no}.eml")
    assert warned.limit
    assert warned.limit.last_day == date(2038, 3, 5)
    assert [(move.by, "extended by 1 working days" in move.text) for move in fine.warned.moved] == [
        ("李敏", True)
    ]
    assert fine.warned.passed

    for step in ("account-shutdown", "reclaim"):
        taken = _deed(told, step)
        assert taken.rules[0] == "2.5"
        assert [proof.says for proof in taken.evidence[:2]] == ["登记客户与实际用户不一致", "用户再次投诉"]
        assert taken.warned
        assert (taken.warned.letter.notice_no, taken.warned.passed) == (punishment.notice_no, True)
        assert taken.letter
        assert taken.letter.notice_no == shutdown.notice_no
        assert not taken.later


async def test_a_penalty_before_its_limit_had_passed_would_be_seen(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    with world.on_record.begin() as session:
        order = session.scalars(select(Notice).order_by(Notice.notice_no)).first()
        assert order
        order.last_day = date(2038, 3, 5)
    warned = _deed(explain(world.on_record, number, LONG_AGO), "fine").warned
    assert warned
    assert not warned.passed


async def test_a_fraud_is_frozen_suspended_and_fined_at_once_and_told_by_its_punishment_notice(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    [notice] = world.rows(Notice)
    told = await _explained(enforce, number)
    penalties = [deed for deed in told.deeds if deed.penalty]
    assert [(deed.step, deed.rules[0]) for deed in penalties] == [
        ("freeze", "1.1"),
        ("account-suspend", "1.2"),
        ("fine", "1.3"),
    ]
    for deed in penalties:
        assert (deed.warned, len(deed.evidence)) == (None, 1)
        assert deed.letter
        assert deed.letter.sha256 == notice.sha256


async def test_a_second_offence_names_the_cases_that_counted_before_it(
    world: World, enforce: Enforce
) -> None:
    voided, first, second = an_agent(world.on_record, numbers=3)
    cases = [await world.open(a_report(number), on="2038-03-01") for number in (voided, first)]
    for case in cases:
        await case.until("2038-03-05", "00:11")
    await cases[0].dismiss()
    case = await world.open(a_report(second), on="2038-03-02")

    foretold = (await _explained(enforce, second)).next[0]
    assert "fined ¥2,000.00 (offence 2 as of now)" in foretold.text
    await case.until("2038-03-06", "00:11")

    earlier = (await _explained(enforce, second)).deeds
    assert [deed.earlier for deed in earlier if deed.step == "fine"] == [(await cases[1].case_no(),)]
    [review] = (await _explained(enforce, voided)).next
    assert "is to be reviewed: ¥2,000.00 or ¥1,000.00" in review.text
    assert review.command.startswith(f"enforce review {await cases[0].case_no()} {await cases[1].case_no()}")


async def test_serious_circumstances_name_both_officers_and_their_evidence(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    case_no = await case.case_no()
    serious = await world.propose(case_no, on="2038-03-03")

    proposed = (await _explained(enforce, number)).next
    assert [(what.rules, what.command) for what in proposed if not what.at] == [
        (("1.6", "5.7"), f"enforce approve {case_no}")
    ]
    assert "the account is shut down" in proposed[1].text  # meanwhile, its limit to pay runs on

    await serious.approve(officer="张伟")
    await serious.once(lambda told: bool(told.filings))
    await case.ended()
    told = await _explained(enforce, number)
    for step in ("serious-.+-close", "serious-.+-reclaim", "filings"):
        closed = _deed(told, step)
        assert closed.rules[0] == "1.6"
        assert closed.warned is None
        grounds = {proof.what: (proof.by, proof.says) for proof in closed.evidence}
        finding = "Circumstances found serious: 涉案金额特别巨大; evidence: 报案回执-2038-17"
        assert grounds["finding"] == ("李敏", finding)
        assert grounds["evidence"] == ("李敏", "报案回执-2038-17")
        assert "张伟" in {closed.by, *(by for by, _ in grounds.values())}
    [filing, *_] = world.rows(Filing)
    [report] = (proof for proof in _deed(told, "filings").evidence if proof.what.startswith("report"))
    assert [report.sha256] == [piece["sha256"] for piece in filing.attachment["evidence"]]
    assert {f"enforce filing {one.filing_no} submitted" for one in told.filings} <= {
        what.command for what in told.next
    }


async def test_what_was_undone_is_marked_so_by_whom_and_why(world: World, enforce: Enforce) -> None:
    numbers = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(numbers[0]), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    await case.paid("400", "ICBC-1")
    await case.until("2038-03-13", "00:11")
    case_no = (await case.ended()).case_no
    appeal = await world.appeal_after(case_no, on="2038-03-20")
    pending = (await _explained(enforce, case_no)).next
    [decision] = (what for what in pending if what.command.startswith(f"enforce decide {case_no}"))
    assert (decision.at, decision.rules) == (None, ("5.1", "5.7"))

    await appeal.decide(upheld=False, officer="张伟", reason="登记无误")
    await appeal.ended()

    told = await _explained(enforce, case_no)
    penalties = [deed for deed in told.deeds if deed.penalty]
    assert [deed.step for deed in penalties] == ["fine", "account-shutdown", "reclaim"]
    for deed in penalties:
        [later] = deed.later
        assert (later.undone, later.by, "overturned (登记无误)" in later.text) == (True, "张伟", True)
    assert [(what.text, what.command) for what in told.next] == [
        ("¥400.00 is to be refunded", f"enforce refunded {case_no} --reference REFERENCE")
    ]
    shown = (await enforce("explain", case_no)).out
    assert shown.count("UNDONE 2038-03-20 10:0") == 3


async def test_what_an_officer_lifted_later_is_not_called_undone(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    case_no = await case.case_no()
    await case.paid("30000.01", "ICBC-1")
    await case.ended()
    ended = await _explained(enforce, number)
    assert [(what.text, what.command) for what in ended.next] == [
        ("¥0.01 is owed back", f"enforce refunded {case_no} --reference REFERENCE"),
        ("the number stays frozen", f"enforce unfreeze {case_no}"),
        ("the account stays suspended", f"enforce reopen {case_no}"),
        ("the agent can appeal until then", f'enforce appeal {case_no} --statement "..."'),
    ]
    assert ended.next[-1].at == shanghai("2038-03-31", "24:00")

    await world.act(case_no, "reopen", on="2038-03-02")
    await world.act(case_no, "unfreeze", on="2038-03-02")

    told = await _explained(enforce, number)
    lifted = {deed.step: [(one.by, one.undone) for one in deed.later] for deed in told.deeds if deed.later}
    assert lifted == {"freeze": [("李敏", False)], "account-suspend": [("李敏", False)]}
    assert [what.text for what in told.next] == ["¥0.01 is owed back", "the agent can appeal until then"]

    await world.act(case_no, "refunded", "2038-03-02", "ICBC-R-1")

    told = await _explained(enforce, number)
    [returned] = [deed for deed in told.deeds if deed.step == "returned-ICBC-R-1"]
    assert (returned.text, returned.rules) == ("¥0.01 returned, reference ICBC-R-1", ("6.2",))
    assert [what.text for what in told.next] == ["the agent can appeal until then"]


# What comes next if nobody acts


async def test_the_foretold_penalties_of_a_secondary_sale_come_true_over_a_holiday(
    world: World, enforce: Enforce
) -> None:
    world.arrange(SPRING_FESTIVAL)
    numbers = an_agent(world.on_record, numbers=2)
    case = await world.open(a_report(numbers[0]), on="2038-01-29")

    fined, shut, free = foretold = (await _explained(enforce, numbers[0])).next

    assert [what.limit and (what.limit.last_day, what.limit.provisional) for what in foretold] == [
        (date(2038, 2, 2), False),
        (date(2038, 2, 16), False),  # 5 to 11 February are off, Sunday 14 is worked
        (date(2038, 3, 19), False),
    ]
    assert "fined ¥1,000.00 (offence 1 as of now)" in fined.text
    assert "with ¥1,000.00 due: the account is shut down, 2 numbers" in shut.text
    assert (fined.rules, shut.rules[0], free.rules) == (("2.3", "7.3", "2.4"), "2.5", ("5.3",))

    await case.until("2038-02-03", "00:11")
    assert [what.at for what in (await _explained(enforce, numbers[0])).next] == [shut.at, free.at]
    await case.until("2038-02-17", "00:11")
    assert (await case.ended()).outcome is Stage.SHUT_DOWN
    [fine] = world.rows(Fine)
    assert _in_time(fine.set_at, fined.at)
    assert fine.amount == Decimal(1000)
    holds = world.rows(HoldRow)
    assert [hold.kind for hold in holds] == [Hold.SHUTDOWN, Hold.RECLAIM, Hold.RECLAIM]
    assert all(_in_time(hold.since, shut.at) for hold in holds)

    debt, appeal, rests = (await _explained(enforce, numbers[0])).next
    assert debt.text == "¥1,000.00 stays due as debt"
    assert (appeal.limit, rests.limit) == (free.limit, free.limit)
    await world.round("2038-03-19")
    assert {number.status for number in world.rows(Number)} == {NumberStatus.QUARANTINED}
    await world.round("2038-03-20")
    assert {number.status for number in world.rows(Number)} == {NumberStatus.FREE}
    last = _deed(await _explained(enforce, numbers[0]), "reclaim")
    assert [(one.text, one.undone) for one in last.later] == [("the quarantine of 2 numbers ended", False)]


async def test_the_foretold_shutdown_of_a_fraud_comes_true(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.FRAUD), on="2038-03-01")
    await case.paid("10000", "ICBC-1")
    shut, free = (await _explained(enforce, number)).next
    assert shut.limit
    assert (shut.limit.last_day, shut.limit.provisional) == (date(2038, 3, 8), True)
    assert (shut.rules[0], "with ¥20,000.00 due" in shut.text) == ("1.5", True)

    await case.until("2038-03-09", "00:11")

    assert (await case.ended()).outcome is Stage.SHUT_DOWN
    shutdown, reclaim = world.rows(HoldRow)[2:]
    assert _in_time(shutdown.since, shut.at)
    assert free.limit
    assert reclaim.quarantined_until == free.limit.last_day


async def test_the_foretold_take_back_of_a_service_failure_comes_true(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    taken, renewal = (await _explained(enforce, number)).next
    assert (taken.rules, taken.limit and taken.limit.last_day) == (("3.3",), date(2038, 3, 4))

    await case.until("2038-03-05", "00:11")

    assert (await case.ended()).outcome is Stage.TAKEN_BACK
    [hold] = world.rows(HoldRow)
    assert (hold.kind, _in_time(hold.since, taken.at)) == (Hold.TAKE_BACK, True)
    [held] = world.rows(Number)
    assert (held.holder, held.renewal_due) == (Holder.PLATFORM, renewal.limit and renewal.limit.last_day)
    told = await _explained(enforce, number)
    warned = _deed(told, "take-back").warned
    assert warned
    assert (warned.letter.kind, warned.passed) == (NoticeKind.SERVICE_ORDER, True)
    assert renewal in told.next
    assert renewal.command == f"enforce renewed {number} --until DATE"


async def test_a_case_whose_agent_loses_its_account_sooner_is_foretold_to_end_with_it(
    world: World, enforce: Enforce
) -> None:
    fraud, sale, unserved = an_agent(world.on_record, numbers=3)
    first = await world.open(a_report(fraud, kind=Kind.FRAUD), on="2038-03-01")
    case = await world.open(a_report(sale), on="2038-03-02")
    await world.open(a_report(unserved, kind=Kind.SERVICE_FAILURE), on="2038-03-02")
    assert {what.rules for what in (await _explained(enforce, unserved)).next} == {("3.3",)}  # over before

    fined, overtaken = (await _explained(enforce, sale)).next

    assert (fined.limit and fined.limit.last_day, overtaken.rules) == (date(2038, 3, 5), ("7.2",))
    assert f"case {await first.case_no()} has shut the account down" in overtaken.text
    await case.until("2038-03-06", "00:11")
    await first.until("2038-03-09", "00:11")
    assert (await case.ended()).outcome is Stage.OVERTAKEN
    [shutdown] = (hold for hold in world.rows(HoldRow) if hold.kind is Hold.SHUTDOWN)
    assert _in_time(shutdown.since, overtaken.at)
    told = await _explained(enforce, sale)
    assert [what.text for what in told.next if not what.at] == ["¥1,000.00 stays due as debt"]


async def test_a_case_whose_agent_has_lost_its_account_waits_only_for_its_appeal(
    world: World, enforce: Enforce
) -> None:
    fraud, sale = an_agent(world.on_record, numbers=2)
    first = await world.open(a_report(fraud, kind=Kind.FRAUD), on="2038-03-01")
    case = await world.open(a_report(sale), on="2038-03-02")
    await case.hold()
    await case.appeal()
    await first.until("2038-03-09", "00:11")
    await case.once(lambda told: "was closed in case" in told.lines[-1].text)
    _, command = await _only(enforce, sale)
    assert command.startswith(f"enforce decide {await case.case_no()}")

    await case.decide(upheld=True)

    assert (await case.ended()).outcome is Stage.OVERTAKEN


async def test_a_limit_that_has_passed_unseen_ends_as_soon_as_somebody_looks(world: World) -> None:
    [number] = an_agent(world.on_record)
    await world.open(a_report(number), on="2038-03-01")
    now = shanghai("2038-03-20")
    fined, shut, _ = explain(world.on_record, number, now).next
    assert (fined.at, fined.limit and fined.limit.last_day) == (now, date(2038, 3, 4))
    assert shut.limit
    assert shut.limit.last_day == date(2038, 3, 26)


async def test_what_was_paid_before_the_fine_settles_it_as_foretold(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.paid("1000", "ICBC-1")
    fined, settled = (await _explained(enforce, number)).next
    assert (settled.at, settled.rules) == (fined.at, ("6.2",))
    await case.until("2038-03-05", "00:11")
    assert (await case.ended()).outcome is Stage.SETTLED


# Nothing happens before an officer acts


async def _only(enforce: Enforce, number: str) -> tuple[str, str]:
    """The one thing that is foretold, without a date: its text, and the command."""
    [what] = (await _explained(enforce, number)).next
    assert (what.at, what.holds_up) == (None, True)
    return what.text, what.command


async def test_nothing_happens_before_a_rectification_is_verified(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-03")
    await case.rectified()
    text, command = await _only(enforce, number)
    assert "if it fails, the limit ends 2038-03-04 24:00" in text
    assert "brought up each working day from 2038-03-05, to the supervisor from 2038-03-09" in text

    await enforce(*command.split()[1:])

    assert (await case.ended()).outcome is Stage.RECTIFIED
    told = await _explained(enforce, number)
    assert _deed(told, "close").rules == _deed(told, "notice-closing").rules == ("2.2",)


async def test_a_failed_verification_after_the_limit_is_foretold_to_be_fined_at_once(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number, kind=Kind.SERVICE_FAILURE), on="2038-03-01")
    await case.rectified()
    await case.until("2038-03-10")
    await world.report(a_report(number, kind=Kind.SERVICE_FAILURE))
    await case.once(lambda told: "joined" in told.lines[-1].text)
    text, _ = await _only(enforce, number)
    assert "if it fails, the limit has ended 2038-03-04 24:00" in text


async def test_nothing_happens_while_a_case_is_held_or_appealed(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    case_no = await case.case_no()
    await case.until("2038-03-02")
    await case.hold()
    await case.once(lambda told: told.deadline is None)
    text, command = await _only(enforce, number)
    told = "held by 李敏: the clock stands still until the case is resumed; then 3 working days"
    assert text.startswith(told)
    assert "brought up each working day from 2038-03-04" in text
    assert command == f"enforce resume {case_no}"

    contract = world.evidence(b"contract")
    await case.appeal(evidence=(contract,))
    appealed = await _explained(enforce, number)
    assert [file.sha256 for file in _deed(appealed, "appeal-.+").evidence] == [contract]
    assert [(what.at, what.holds_up, what.command.split()[1]) for what in appealed.next] == [
        (None, True, "decide"),
        (None, True, "resume"),
    ]

    await case.until("2038-03-08")
    await case.decide(upheld=True)
    assert await _only(enforce, number) == (text, command)
    await enforce(*command.split()[1:])
    await case.once(lambda told: told.deadline is not None)
    resumed = await _explained(enforce, number)
    assert [file.sha256 for file in _deed(resumed, "decide-.+").evidence] == [contract]
    assert resumed.next[0].limit
    assert resumed.next[0].limit.last_day == date(2038, 3, 11)
    assert {deed.rules for deed in resumed.deeds if deed.step.startswith(("clock-", "notice-deadline"))} == {
        ("4.4",)
    }


async def test_no_clock_starts_before_a_notice_is_served(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record, email="")
    case = await world.open(a_report(number), on="2038-03-01")
    case_no = await case.case_no()
    text, command = await _only(enforce, number)
    assert text.startswith(f"notice {case_no}-N1 (rectification-order) is not served yet, and no clock")
    assert command == f"enforce served {case_no} --by HOW --on DATE --proof FILE"

    await case.served(on="2038-03-01", proof=world.evidence())
    await case.once(lambda told: told.deadline is not None)

    told = await _explained(enforce, number)
    assert told.next[0].limit
    assert told.next[0].limit.last_day == date(2038, 3, 4)
    letter = _deed(told, "notice-rectification-order").letter
    assert letter
    assert "by hand, EMS 1234567890123, by 李敏; proof 回执.jpg" in letter.how


async def test_a_number_that_is_gone_is_to_be_replaced(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.until("2038-03-13", "00:11")
    case_no = (await case.ended()).case_no
    await world.round("2038-04-13")
    await world.dismiss_after(case_no, on="2038-04-14")
    told = await _explained(enforce, case_no)
    assert [(what.text, what.command) for what in told.next] == [
        (
            f"number {written(number)} can't be returned: a substitute is to be found",
            f"enforce substitute {case_no} {number} --with NUMBER",
        )
    ]


# The command


async def test_a_case_is_named_by_number_workflow_or_400_number_without_temporal(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record)
    first = await world.open(a_report(number))
    await first.dismiss()
    first_no = (await first.ended()).case_no
    second = CaseInTime(world, (await world.open(a_report(number), on="2038-03-01")).id)
    second_no = await second.case_no()
    for named in (number, written(number), second.id, second_no.lower()):
        shown = await enforce("explain", named, TEMPORAL_ADDRESS="127.0.0.1:1")
        assert shown.code == 0, shown.err
        assert shown.out.startswith(f"case    {second_no}   {second.id}   open\n")
        others = f"{first_no} (dismissed) of the same name: name one by its case number"
        assert (others in shown.out) == (named != second_no.lower())
    assert (await enforce("explain", first_no)).out.startswith(f"case    {first_no}")
    none = await enforce("explain", "SS-2020-00001")
    assert (none.code, none.err) == (1, "error: no case SS-2020-00001 is in the registry\n")
    with pytest.raises(Refused):
        explain(world.on_record, "", LONG_AGO)


async def test_the_story_is_drawn_with_its_grounds_and_the_rules_that_it_names(
    world: World, enforce: Enforce
) -> None:
    [number] = an_agent(world.on_record, name="[red]甲[/red]\x1b[31m公司", agent_id="A\x1b[0m")
    case = await world.open(a_report(number, facts="[bold]转租\x1b]0;x\x07"), on="2038-03-01")
    await case.until("2038-03-05", "00:11")
    [order, _] = world.rows(Notice)
    shown = (await enforce("explain", number)).out
    assert (
        f"after {order.notice_no} rectification-order, sha256 {order.sha256[:16]}, served 2038-03-01" in shown
    )
    assert "limit 2038-03-04 24:00 (Asia/Shanghai, provisional), which had passed" in shown
    assert re.search(r"on report monitor/R\d+ by monitor, sha256 [0-9a-f]{16}: \[bold\]转租", shown)
    assert "2038-03-12 24:00 (provisional)" in shown
    assert re.search(rf"^2\.3 +{SAYS['2.3']}", shown, re.MULTILINE)
    assert "[red]甲[/red] [31m公司" in shown
    assert not {"\x1b", "\x07"} & set(shown)


# Every step has its clause

_SOURCES = [*Path("workflows").glob("*.py"), *Path("activities").glob("*.py")]
_STEP = re.compile(r"""\b(step|add_line|_own|asked|record)(?:\(\s*|=| = |\([^"\n]+, )f?"([^"]+)\"""")
_KNOWN = {
    "{kind}": "punishment",
    "{NoticeKind.FINE_LOWERED}": "fine-lowered",
    "{order.step}": "notice-punishment",
    "{start.act}": "reopen",
}


def _steps_of_the_program() -> set[str]:
    """Every step that workflows and activities put on record, with something for what varies in it."""
    found = set()
    for source in _SOURCES:
        for how, written_so in _STEP.findall(source.read_text("utf-8")):
            step = re.sub(r"\{[^}]*\}", lambda varying: _KNOWN.get(varying.group(), "1"), written_so)
            found.add({"_own": f"serious-1-{step}", "asked": f"{step}-1"}.get(how, step))
    return found


def test_every_step_carries_out_a_clause_of_the_rulebook() -> None:
    steps = _steps_of_the_program()
    assert {"open", "freeze", "fine", "reclaim", "serious-1-close", "refund-1", "undo-filings"} <= steps
    without = [step for step in steps if not any(rules_of(step, kind, Stage.RECTIFIED) for kind in Kind)]
    assert without == []


@pytest.mark.parametrize("notice", NoticeKind)
def test_every_notice_carries_out_a_clause_of_the_rulebook(notice: NoticeKind) -> None:
    step = f"notice-{notice}" + ("-SS-2038-00001" if notice is NoticeKind.FINE_LOWERED else "")
    cited = {rule for kind in Kind for rule in rules_of(step, kind, Stage.RECTIFIED)}
    assert cited
    assert cited <= SAYS.keys()


def test_an_unknown_step_carries_out_no_clause() -> None:
    assert rules_of("something-new", Kind.FRAUD, Stage.SETTLED) == ()
