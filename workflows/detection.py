"""The platform's own checks, made each hour: what they find goes into the inbox of reports."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.detection import Detected, Detections
    from activities.numbers import AsOf


@workflow.defn
class DetectionRound:
    """One hour's checks, started by the schedule `detection`."""

    @workflow.run
    async def run(self) -> Detected:
        """Report the violations that follow from complaints, observations and alerts."""
        return await workflow.execute_activity_method(
            Detections.detect,
            AsOf(at=workflow.now()),
            summary="Report what complaints, observations and alerts add up to",
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=5)),
        )
