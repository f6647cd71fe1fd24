"""The calendar has changed: every open case whose deadline moves is told so (rulebook 4.2, 4.3)."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from activities.calendars import Calendars, Moved, OpenCases

CALENDAR_CHANGED = "calendar-changed"
"""The id of the walk: one at a time."""


class Walked(BaseModel):
    """How many open cases were looked at; how many deadlines move later, or are no longer provisional."""

    model_config = ConfigDict(frozen=True)

    looked_at: int = 0
    moved: int = 0
    firm: int = 0

    def further(self, looked_at: int, moved: Sequence[Moved]) -> "Walked":
        """With those of one more page."""
        return Walked(
            looked_at=self.looked_at + looked_at,
            moved=self.moved + sum(case.later for case in moved),
            firm=self.firm + sum(case.firm for case in moved),
        )

    def __str__(self) -> str:
        return (
            f"{self.looked_at} open cases looked at: {self.moved} deadlines move later, "
            f"{self.firm} are no longer provisional"
        )


class Walk(BaseModel):
    """Where the walk stands: after which case, and what has come of it so far; `page` cases at a time."""

    model_config = ConfigDict(frozen=True)

    after: str = ""
    page: int = 500
    walked: Walked = Walked()


@workflow.defn
class CalendarChanged:
    """A walk through the open cases. Each page is a run of its own, so that no history grows long."""

    @workflow.init
    def __init__(self, walk: Walk) -> None:
        self._walked = walk.walked

    @workflow.run
    async def run(self, walk: Walk) -> Walked:
        """Tell the cases of one page whose deadline moves, then go on with the next page.

        Each of them computes its deadline itself. A case that isn't moved hears nothing.
        """
        page = await workflow.execute_activity_method(
            Calendars.moved_deadlines,
            OpenCases(at=workflow.now(), after=walk.after, limit=walk.page),
            summary=f"Look at the open cases after {walk.after}" if walk.after else "Look at the open cases",
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=5)),
        )
        told = await asyncio.gather(*map(self._tell, page.moved))
        moved = [case for case, heard in zip(page.moved, told, strict=True) if heard]
        self._walked = self._walked.further(page.looked_at, moved)
        workflow.set_current_details(str(self._walked))
        if page.after:
            further = {"after": page.after, "walked": self._walked}
            workflow.continue_as_new(walk.model_copy(update=further))
        return self._walked

    async def _tell(self, case: Moved) -> bool:
        try:
            await workflow.get_external_workflow_handle(case.workflow_id).signal("calendar_changed")
        except FailureError:
            return False  # it has ended meanwhile
        return True

    @workflow.query
    def walked(self) -> Walked:
        """How far the walk has come."""
        return self._walked
