"""A case on record, and several who come to it at once."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from typing import Any, TypeVar

import pytest
from sqlalchemy import Select, select, text

from registry.models import Case, Number
from registry.session import Sessions
from rulebook.vocabulary import Kind
from tests.world import an_agent, shanghai

T = TypeVar("T")


def at_once(on_record: Sessions, held: Select[Any], *calls: Callable[[], T]) -> list[T]:
    """What several threads come back with that work at the same moment, queued in this order.

    Rows that all of them need are held until nobody gets on without them.
    """
    running: list[Future[T]] = []
    with ThreadPoolExecutor(len(calls)) as pool:
        with on_record.begin() as session:
            session.execute(held.with_for_update())
            for call in calls:
                running.append(pool.submit(call))
                for _ in range(500):
                    waiting = session.scalar(
                        text("select count(distinct pid) from pg_locks where not granted")
                    )
                    if (waiting or 0) + sum(one.done() for one in running) >= len(running):
                        break
                    time.sleep(0.01)  # nothing tells when they all wait
        return [one.result() for one in running]


@pytest.fixture
def case(on_record: Sessions) -> Case:
    """An open case of an agent with one number."""
    [number] = an_agent(on_record)
    with on_record.begin() as session:
        agent_id = session.execute(select(Number.agent_id).where(Number.number == number)).scalar_one()
        case = Case(
            case_no="SS-2026-00001",
            kind=Kind.SECONDARY_SALE,
            number=number,
            agent_id=agent_id,
            workflow_id=f"secondary-sale-{number}",
            run_id="run",
            policy=date(2017, 2, 16),
            opened_at=shanghai("2026-02-12"),
            opened_by="monitor",
        )
        session.add(case)
    return case
