"""What this process serves: which workflows and activities, with which limits, and how it stops."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.accounts import Accounts
from activities.cases import Cases
from activities.channels import Channel
from activities.fines import Fines
from activities.notices import Notices
from activities.numbers import Numbers
from registry.session import connect, migrate, sessions
from workflows.late_payment import LatePayment
from workflows.secondary_sale import SecondarySaleCase

WORKFLOWS = [SecondarySaleCase, LatePayment]

# Activities at once, each in a thread with at most one connection to the registry.
AT_ONCE = 20


@asynccontextmanager
async def serving(
    client: Client, task_queue: str, database_url: str, channel: Channel, sender: str
) -> AsyncIterator[Worker]:
    """Serve the cases of one task queue until the context ends; what runs is given 10 seconds to finish.

    Brings the registry's schema up to date first. Raises `sqlalchemy.exc.OperationalError` where there is
    no registry, `RuntimeError` from Temporal where there is no namespace.
    """
    engine = connect(database_url, pool_size=AT_ONCE)
    migrate(engine)
    on_record = sessions(engine)
    cases, fines = Cases(on_record), Fines(on_record)
    notices = Notices(on_record, channel, sender)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="activity") as threads:
        async with Worker(
            client,
            task_queue=task_queue,
            workflows=WORKFLOWS,
            activities=[
                cases.open_case,
                cases.join_report,
                cases.add_line,
                cases.close_case,
                notices.serve_notice,
                notices.reckon_deadline,
                notices.extend_limit,
                fines.impose_fine,
                fines.record_payment,
                fines.void_fine,
                Accounts(on_record).shut_down_account,
                Numbers(on_record).reclaim_numbers,
            ],
            activity_executor=threads,
            max_concurrent_activities=AT_ONCE,
            max_concurrent_local_activities=AT_ONCE,
            # All deadlines fall at midnight: the cache is sized to the burst (46 MiB for 1,000 cases).
            max_cached_workflows=1000,
            # After a crash, a case reacts again after this time instead of 10 seconds.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            graceful_shutdown_timeout=timedelta(seconds=10),
        ) as worker:
            yield worker
    engine.dispose()
