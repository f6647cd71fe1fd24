"""Virtual time on the real server, for the tests and the demo: each case has a clock that can be moved on.

The one place that touches this experimental part of Temporal; production never enables it.
"""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper

_TRUE_TO = timedelta(seconds=2)


class VirtualTime:
    """The clocks of the cases on a server that was started with `time_skipping`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._skipper = TimeSkipper(client)
        self._ahead: defaultdict[str, timedelta] = defaultdict(timedelta)

    def now(self, workflow_id: str) -> datetime:
        """The time of a case, in UTC, true to about a second."""
        return datetime.now(UTC) + self._ahead[workflow_id]

    async def forward(self, workflow_id: str, by: timedelta) -> bool:
        """Move a case's clock on, through every timer on the way; False if the case ended first."""
        moment = self.now(workflow_id) + by
        self._ahead[workflow_id] += by
        while True:
            went_on = await self._forward(workflow_id, by)
            # While a worker dies on the case, the server may call it done and the clock has not moved.
            now = await self._now_of_running(workflow_id)
            if now is None:
                return went_on
            if moment - now < _TRUE_TO:
                return True
            by = moment - now
            await asyncio.sleep(0.1)

    async def _forward(self, workflow_id: str, by: timedelta) -> bool:
        try:
            return await self._skipper.fast_forward(self._client.get_workflow_handle(workflow_id), by)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False

    async def _now_of_running(self, workflow_id: str) -> datetime | None:
        """The clock of a case as the server has it; None once the case has ended."""
        handle = self._client.get_workflow_handle(workflow_id)
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            return None
        return await self._skipper.get_current_time(handle)

    async def until(self, workflow_id: str, moment: datetime) -> bool:
        """Move a case's clock on to a moment, if it isn't past it; False if the case ended first."""
        left = moment - self.now(workflow_id)
        return left <= timedelta() or await self.forward(workflow_id, left)
