"""What this process serves: which workflows and activities, with which limits, and how it stops."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from enum import StrEnum

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.accounts import Accounts
from activities.appeals import Appeals
from activities.calendars import Calendars
from activities.cases import Cases
from activities.channels import Addresses, Channel
from activities.detection import Detections
from activities.filings import Filings
from activities.fines import Fines
from activities.limits import Limits
from activities.notices import Notices
from activities.numbers import Numbers
from activities.undoing import Undoing
from activities.waits import Waits
from registry.migrations import migrate
from registry.session import connect, sessions
from rulebook.policy import published
from workflows import messages, names
from workflows.after_case import AfterCase, LatePayment
from workflows.appeal import Appeal, Dismissal
from workflows.calendar import CalendarChanged
from workflows.daily import DailyRound, RenewalDue
from workflows.detection import DetectionRound
from workflows.fraud import FraudCase
from workflows.reinstatement import Reinstatement
from workflows.restitution import Restitution
from workflows.secondary_sale import SecondarySaleCase
from workflows.serious import SeriousCircumstances
from workflows.service_failure import ServiceFailureCase

WORKFLOWS = [
    FraudCase,
    SecondarySaleCase,
    ServiceFailureCase,
    SeriousCircumstances,
    Appeal,
    Dismissal,
    Restitution,
    Reinstatement,
    LatePayment,
    AfterCase,
    DailyRound,
    RenewalDue,
    CalendarChanged,
    DetectionRound,
]


class Queue(StrEnum):
    """What a worker serves: the cases, and what they hand over to be delivered outside the house."""

    CASES = "cases"
    DELIVERIES = "deliveries"


AT_ONCE = {Queue.CASES: 20, Queue.DELIVERIES: 10}
"""Activities at once, each in a thread with at most one connection to the registry."""

# Letters that leave on the spot, in the cases' threads. The rest of these goes on when a mail server hangs.
_ON_THE_SPOT = 5

_GRACE = timedelta(seconds=10)


@asynccontextmanager
async def serving(
    client: Client,
    task_queue: str,
    database_url: str,
    channel: Channel,
    addresses: Addresses,
    *,
    only: Queue | None = None,
    letters_per_second: float | None = None,
) -> AsyncIterator[list[Worker]]:
    """Serve cases and deliveries, or `only` one, until the context ends; what runs has 10 seconds to finish.

    With `letters_per_second`, all workers together deliver no more; every letter then goes through the queue.

    Brings the registry's schema up to date first. Raises `sqlalchemy.exc.OperationalError` where there is
    no registry, `RuntimeError` from Temporal where there is no namespace.
    """
    queues = [only] if only else list(Queue)
    engine = connect(database_url, pool_size=sum(AT_ONCE[queue] for queue in queues))
    migrate(engine)
    on_record = sessions(engine)
    # Here, once, and not by the first workflow that asks.
    published()
    messages.build()
    cases, fines = Cases(on_record), Fines(on_record)
    accounts, numbers = Accounts(on_record), Numbers(on_record)
    on_the_spot = 0 if letters_per_second else _ON_THE_SPOT
    notices, filings = Notices(on_record, channel, addresses.sender, on_the_spot), Filings(on_record)
    limits = Limits(on_record)
    calendars = Calendars(on_record)
    appeals, undoing = Appeals(on_record), Undoing(on_record)
    waits = Waits(on_record, channel, addresses)
    detections = Detections(on_record)

    def of_cases(threads: ThreadPoolExecutor) -> Worker:
        return Worker(
            client,
            task_queue=task_queue,
            workflows=WORKFLOWS,
            activities=[
                cases.open_case,
                cases.find_case,
                cases.find_any_case,
                cases.others_open,
                cases.join_report,
                cases.add_line,
                cases.close_case,
                notices.serve_notice,
                limits.reckon_deadline,
                limits.extend_limit,
                notices.serve_by_hand,
                notices.bounce_notice,
                limits.stop_clock,
                limits.restart_clock,
                fines.impose_fine,
                fines.record_payment,
                fines.void_fine,
                fines.review_fine,
                fines.refund_payments,
                fines.return_owed_back,
                accounts.suspend_account,
                accounts.reopen_account,
                accounts.shut_down_account,
                accounts.close_account,
                accounts.confirm_closure,
                numbers.freeze_number,
                numbers.unfreeze_number,
                numbers.reclaim_numbers,
                numbers.take_back_number,
                numbers.end_quarantines,
                numbers.renewals_due,
                numbers.renew_number,
                filings.prepare_filings,
                filings.move_filing,
                filings.withdraw_filings,
                appeals.file_appeal,
                appeals.decide_appeal,
                undoing.undo_case,
                undoing.lift_hold,
                undoing.reinstate_case,
                calendars.moved_deadlines,
                waits.raise_waits,  # of rounds that began before there were deliveries
                detections.detect,
            ],
            # The sandbox takes a fifth of the worker's CPU and guards only the clauses' own files: what they
            # share is passed through. The linter forbids the clock in all of workflows/ and rulebook/, and
            # the tests play every recorded history in the sandbox too.
            workflow_runner=UnsandboxedWorkflowRunner(),
            activity_executor=threads,
            max_concurrent_activities=AT_ONCE[Queue.CASES],
            max_concurrent_local_activities=AT_ONCE[Queue.CASES],
            # All deadlines fall at midnight: the cache is sized to the burst (130 MiB for 1,000 cases).
            max_cached_workflows=1000,
            # After a crash, a case reacts again after this time instead of 10 seconds.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            graceful_shutdown_timeout=_GRACE,
        )

    def of_deliveries(threads: ThreadPoolExecutor) -> Worker:
        return Worker(
            client,
            task_queue=names.deliveries(task_queue),
            activities=[notices.serve_notice, waits.raise_waits],
            activity_executor=threads,
            max_concurrent_activities=AT_ONCE[Queue.DELIVERIES],
            max_task_queue_activities_per_second=letters_per_second,
            graceful_shutdown_timeout=_GRACE,
        )

    made = {Queue.CASES: of_cases, Queue.DELIVERIES: of_deliveries}
    async with AsyncExitStack() as running:
        workers = []
        for queue in queues:
            threads = running.enter_context(ThreadPoolExecutor(AT_ONCE[queue], thread_name_prefix=queue))
            workers.append(await running.enter_async_context(made[queue](threads)))
        try:
            yield workers
        finally:
            await asyncio.gather(*(worker.shutdown() for worker in workers))
    engine.dispose()
