"""Virtual time on the real server, for the tests and the demo: each case has a clock that can be moved on.

The one place that touches this experimental part of Temporal; production never enables it.
"""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper


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
        try:
            went_on = await self._skipper.fast_forward(self._client.get_workflow_handle(workflow_id), by)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            went_on = False
        self._ahead[workflow_id] += by
        return went_on

    async def until(self, workflow_id: str, moment: datetime) -> bool:
        """Move a case's clock on to a moment, if it isn't past it; False if the case ended first."""
        left = moment - self.now(workflow_id)
        return left <= timedelta() or await self.forward(workflow_id, left)
