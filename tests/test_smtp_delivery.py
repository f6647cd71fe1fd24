"""Notices by mail, through the whole system: no clock starts before a mail server has the letter (4.6)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path

from temporalio.client import Client

from activities.smtp import Smtp
from registry.models import Notice
from registry.session import Sessions
from rulebook.vocabulary import SHANGHAI, Awaiting, Stage
from starter.virtual_time import VirtualTime
from tests.conftest import ADDRESSES
from tests.mail_server import ACCEPTED, DROP, HANG, MailServer, mail_server
from tests.world import World, a_report, an_agent, shanghai
from worker import serving

LATER, GONE = "451 4.3.0 try again later", "550 5.1.1 no such user"


@asynccontextmanager
async def by_mail(
    client: Client, on_record: Sessions, database_url: str, folder: Path, server: MailServer
) -> AsyncIterator[World]:
    """A world whose notices leave through a mail server."""
    world = World(client, VirtualTime(client), on_record, f"by-mail-{server.port}", folder)
    channel = Smtp(server.as_told(timeout=0.5))
    async with serving(client, world.task_queue, database_url, channel, ADDRESSES):
        yield world


def identities(server: MailServer) -> list[str]:
    """The Message-IDs of what the server has got, attempt by attempt."""
    letters = [message_from_bytes(got.content, policy=policy.default) for got in server.received]
    return [str(letter["Message-ID"]) for letter in letters]


async def test_a_notice_is_served_when_the_mail_server_has_taken_it_however_often_it_failed(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    [number] = an_agent(on_record, email="a@agent.example, b@agent.example")
    with mail_server(answers=[LATER, HANG, DROP], answer=LATER) as server:
        async with by_mail(client, on_record, database_url, tmp_path, server) as world:
            case = await world.open(a_report(number), on="2038-03-01")
            waiting = await case.once(lambda told: len(server.received) > 3)
            server.answer = ACCEPTED
            await case.once(lambda told: bool(told.notices))
            last_day = await case.last_day()

    assert (waiting.awaiting, waiting.deadline) == ((Awaiting.DELIVERY,), None)
    [notice] = world.rows(Notice)
    assert {got.content for got in server.received} == {notice.content}
    assert len(server.received) > 4
    assert set(identities(server)) == {f"<{notice.notice_no}.20380301@platform.example>"}
    assert {got.to for got in server.received} == {("a@agent.example", "b@agent.example")}
    assert notice.receipt == f"smtp 127.0.0.1: {ACCEPTED}"
    assert notice.served_at and notice.served_at.astimezone(SHANGHAI).date() == shanghai("2038-03-01").date()
    assert last_day == "2038-03-04"


async def test_a_notice_that_is_taken_on_a_later_day_counts_from_that_day_and_says_so(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    [number] = an_agent(on_record)
    with mail_server(answer=LATER) as server:
        async with by_mail(client, on_record, database_url, tmp_path, server) as world:
            case = await world.open(a_report(number), on="2038-03-01", at="23:59")
            await case.until("2038-03-02", "00:00:20")
            server.answer = ACCEPTED
            await case.until("2038-03-02", "00:05")
            await case.once(lambda told: bool(told.notices))
            last_day = await case.last_day()

    [notice] = world.rows(Notice)
    assert [server.received[-1].content, last_day] == [notice.content, "2038-03-05"]
    # Another letter, by another name: a mailbox must not take it for the one that promised another day.
    assert identities(server)[0] == f"<{notice.notice_no}.20380301@platform.example>"
    assert identities(server)[-1] == f"<{notice.notice_no}.20380302@platform.example>"


async def test_a_notice_that_the_mail_server_refuses_for_good_starts_no_clock_until_an_officer_has_served_it(
    client: Client, on_record: Sessions, database_url: str, tmp_path: Path
) -> None:
    [number] = an_agent(on_record, email="gone@agent.example")
    with mail_server(to_rcpt={"gone@agent.example": GONE}) as server:
        async with by_mail(client, on_record, database_url, tmp_path, server) as world:
            case = await world.open(a_report(number), on="2038-03-01")
            story = await case.once(lambda told: bool(told.awaiting))
            assert (story.stage, story.awaiting) == (Stage.RECTIFICATION, (Awaiting.DELIVERY,))
            assert story.deadline is None

            assert await case.until("2038-03-12") is Stage.RECTIFICATION
            await case.served(on="2038-03-11", proof=world.evidence())
            assert await case.last_day() == "2038-03-16"
            assert (await case.story()).awaiting == ()

    assert server.received == []
    [notice] = world.rows(Notice)
    assert notice.receipt and notice.receipt.startswith("by hand, EMS 1234567890123, by 李敏")
