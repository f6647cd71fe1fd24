"""What this process serves: which workflows and activities, with which limits, and how it stops."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

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
from registry.session import connect, migrate, sessions
from rulebook.policy import published
from workflows import messages
from workflows.after_case import AfterCase, LatePayment
from workflows.appeal import Appeal, Dismissal
from workflows.calendar import CalendarChanged
from workflows.daily import DailyRound, RenewalDue
from workflows.detection import DetectionRound
from workflows.fraud import FraudCase
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
    LatePayment,
    AfterCase,
    DailyRound,
    RenewalDue,
    CalendarChanged,
    DetectionRound,
]

# Activities at once, each in a thread with at most one connection to the registry.
AT_ONCE = 20


@asynccontextmanager
async def serving(
    client: Client, task_queue: str, database_url: str, channel: Channel, addresses: Addresses
) -> AsyncIterator[Worker]:
    """Serve the cases of one task queue until the context ends; what runs is given 10 seconds to finish.

    Brings the registry's schema up to date first. Raises `sqlalchemy.exc.OperationalError` where there is
    no registry, `RuntimeError` from Temporal where there is no namespace.
    """
    engine = connect(database_url, pool_size=AT_ONCE)
    migrate(engine)
    on_record = sessions(engine)
    # Here, once, and not by the first workflow that asks.
    published()
    messages.build()
    cases, fines = Cases(on_record), Fines(on_record)
    accounts, numbers = Accounts(on_record), Numbers(on_record)
    notices, filings = Notices(on_record, channel, addresses.sender), Filings(on_record)
    limits = Limits(on_record)
    calendars = Calendars(on_record)
    appeals, undoing = Appeals(on_record), Undoing(on_record)
    waits = Waits(on_record, channel, addresses)
    detections = Detections(on_record)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="activity") as threads:
        async with Worker(
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
                calendars.moved_deadlines,
                waits.raise_waits,
                detections.detect,
            ],
            # The sandbox takes a fifth of the worker's CPU and guards only the clauses' own files: what they
            # share is passed through. The tests play every recorded history in it.
            workflow_runner=UnsandboxedWorkflowRunner(),
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
