"""What comes round daily: quarantines end (5.3); renewals, waits, deadlines are seen to (3.3, 5.7, 4.2)."""

from datetime import datetime, time, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.numbers import AsOf, Numbers, Renewal, RenewNumber
    from activities.step import Refused
    from activities.waits import Waits
    from rulebook.vocabulary import SHANGHAI, Awaiting, written
    from workflows import attributes, names
    from workflows.calendar import CALENDAR_CHANGED, CalendarChanged, Walk
    from workflows.messages import Answer, Renewed
    from workflows.story import brief, listed, plain

_PATIENTLY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=5),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(minutes=5)),
}


@workflow.defn
class DailyRound:
    """One day's round, started by the schedule `daily-round`."""

    @workflow.run
    async def run(self) -> None:
        """End the quarantines that are over; bring up renewals that are due, and what waits for officers."""
        now = AsOf(at=workflow.now())
        await workflow.execute_activity_method(
            Numbers.end_quarantines, now, summary="Free the numbers whose quarantine is over", **_PATIENTLY
        )
        due = await workflow.execute_activity_method(
            Numbers.renewals_due, now, summary="Look for renewals that are due", **_PATIENTLY
        )
        for renewal in due:
            try:
                await workflow.start_child_workflow(
                    RenewalDue.run,
                    renewal,
                    id=f"renewal-{renewal.number}-{renewal.due}",
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                    static_summary=f"Renew {written(renewal.number)} by {renewal.due}",
                    static_details="In direct service since its agent did not serve the customer (3.3): "
                    + listed("all about this number", attributes.NUMBER.name, renewal.number),
                )
            except WorkflowAlreadyStartedError:
                continue  # it came up on an earlier day, and waits
        if workflow.patched("deadlines-follow-the-calendar"):
            await self._walk()
        if workflow.patched("waits-are-raised"):
            await workflow.execute_activity_method(
                Waits.raise_waits,
                now,
                task_queue=names.deliveries(workflow.info().task_queue),
                summary="Bring up what waits too long for officers",
                **_PATIENTLY,
            )

    async def _walk(self) -> None:
        """Let no deadline stay behind that an import or a newer public calendar should have moved (4.2)."""
        try:
            await workflow.start_child_workflow(
                CalendarChanged.run,
                Walk(),
                id=CALENDAR_CHANGED,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary="Bring deadlines to the calendar of today",
            )
        except WorkflowAlreadyStartedError:
            return  # an import has begun it


@workflow.defn
class RenewalDue:
    """One number in direct service that waits to be renewed by the platform (3.3)."""

    def __init__(self) -> None:
        self._renewed = False
        self._became = "The case that had taken the number back was undone: its agent renews it again"

    @workflow.run
    async def run(self, renewal: Renewal) -> None:
        """Wait for the officer who renews it."""
        self._renewal = renewal
        deadline = datetime.combine(renewal.due + timedelta(days=1), time(), SHANGHAI)
        workflow.upsert_search_attributes(
            [
                attributes.NUMBER.value_set(renewal.number),
                attributes.DEADLINE.value_set(deadline),
                attributes.AWAITING.value_set([Awaiting.RENEWAL]),
            ]
        )
        workflow.set_current_details(
            f"- Renewal due: {renewal.due}\n- Awaiting an officer: **{Awaiting.RENEWAL}**"
        )
        await workflow.wait_condition(lambda: self._renewed and workflow.all_handlers_finished())
        workflow.upsert_search_attributes([attributes.AWAITING.value_unset()])
        workflow.set_current_details(self._became)

    @workflow.signal
    def returned(self) -> None:
        """The case that had taken the number back was undone: its agent renews it again (5.2)."""
        self._renewed = True

    @workflow.update
    async def renewed(self, message: Renewed) -> Answer:
        """Record that an officer has renewed the number, and until when."""
        order = RenewNumber(
            number=self._renewal.number,
            due=self._renewal.due,
            until=message.until,
            at=workflow.now(),
            by=message.officer,
        )
        summary = brief(f"Record that {message.officer} renewed the number until {message.until}")
        try:
            done = await workflow.execute_activity_method(
                Numbers.renew_number, order, summary=summary, **_PATIENTLY
            )
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == "Refused":
                raise Refused(error.cause.message) from error
            raise
        self._renewed, self._became = True, plain(done.line.text)
        return Answer(text=done.line.text)

    @renewed.validator
    def _may_be_renewed(self, message: Renewed) -> None:
        if message is None or message.until <= self._renewal.due:
            raise Refused(f"the next renewal comes after {self._renewal.due}")
