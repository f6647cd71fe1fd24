"""`GET /healthz` and `/metrics` of a worker: whether it can work, and how the cases stand."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.orm import Session
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.channels import Channel, Letter, Undeliverable
from registry.figures import Figures, State, figures
from registry.session import Sessions, as_of_one_moment
from rulebook.vocabulary import Awaiting, Kind, Stage
from starter.http import Asked, Health, Lately, exposed, site
from starter.intake import Faults, Refusal, later
from worker import Queue
from workflows.names import deliveries

AT_ONCE = 2
"""How many connections to the registry it takes: for its health, and for the figures."""

# In seconds. Prometheus gives up after 10.
_ANSWERS_WITHIN = 5
_COUNTS_WITHIN = 8
_FIGURES_FOR = 60  # however often they are asked for, the registry counts no sooner again


class Counted:
    """A channel whose letters are counted, by how each attempt to deliver one ended.

    `delivered`, `refused` for good, or `failed` for now: that one is tried again.
    """

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self.metrics = CollectorRegistry(auto_describe=False)
        attempts = Counter(
            "enforce_letters",
            "Letters that were handed to the channel by how that ended",
            ["channel", "result"],
            registry=self.metrics,
        )
        self._ended = {how: attempts.labels(name, how) for how in ("delivered", "refused", "failed")}

    def deliver(self, letter: Letter) -> str:
        """Hand the letter over, and count how it ended."""
        try:
            receipt = self._channel.deliver(letter)
        except Undeliverable:
            self._ended["refused"].inc()
            raise
        except Exception:
            self._ended["failed"].inc()
            raise
        self._ended["delivered"].inc()
        return receipt


class _Metrics(Collector):
    """How the cases stand, as it was asked for last; nothing where the registry does not answer."""

    def __init__(self) -> None:
        self.up = {"temporal": False, "registry": False}
        self.lags = dict[Queue, float]()
        self.figures: Figures | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for server, answers in self.up.items():
            yield GaugeMetricFamily(f"enforce_{server}_up", f"Whether the {server} answers", answers)
        lags = GaugeMetricFamily(
            "enforce_queue_lag_seconds", "How long the oldest has waited for a worker", labels=["queue"]
        )
        for queue, lag in self.lags.items():
            lags.add_metric([queue], lag)
        yield lags
        if self.figures:
            yield from _of(self.figures)


def _of(told: Figures) -> Iterator[GaugeMetricFamily]:
    open_ = GaugeMetricFamily(
        "enforce_cases_open", "Open cases by what they wait for", labels=["kind", "state"]
    )
    cases = {(one.kind, one.state): one.cases for one in told.open}
    for kind in Kind:
        for state in State:
            open_.add_metric([kind, state], cases.get((kind, state), 0))
    yield open_

    ended = GaugeMetricFamily("enforce_cases_ended", "Ended cases by outcome", labels=["kind", "outcome"])
    for one in told.ended:
        ended.add_metric([one.kind, one.outcome], one.cases)
    yield ended

    limits = GaugeMetricFamily(
        "enforce_deadlines", "Limits that were met, and that were missed", labels=["limit", "result"]
    )
    for (limit, result), count in _deadlines(told).items():
        limits.add_metric([limit, result], count)
    yield limits

    waiting = GaugeMetricFamily("enforce_officers_waiting", "What waits for officers", labels=["what"])
    longest = GaugeMetricFamily(
        "enforce_officers_longest_working_days",
        "For how many full working days the oldest of it has waited",
        labels=["what"],
    )
    officers = {one.what: one for one in told.officers}
    for what in Awaiting:
        waits = officers.get(what)
        waiting.add_metric([what], waits.waiting if waits else 0)
        longest.add_metric([what], waits.longest if waits else 0)
    yield waiting
    yield longest


def _deadlines(told: Figures) -> dict[tuple[str, str], int]:
    """Limits by how they ended: to rectify (2.2), to serve the customer (3.2), to pay (1.3, 2.4)."""
    ended = {(one.kind, one.outcome): one.cases for one in told.ended}
    fines = {money.kind: money.fines for money in told.money}

    def of(outcome: Stage, *kinds: Kind) -> int:
        return sum(ended.get((kind, outcome), 0) for kind in kinds)

    fined = (Kind.FRAUD, Kind.SECONDARY_SALE)
    return {
        ("rectification", "met"): of(Stage.RECTIFIED, Kind.SECONDARY_SALE),
        ("rectification", "missed"): fines.get(Kind.SECONDARY_SALE, 0),
        ("service", "met"): of(Stage.RECTIFIED, Kind.SERVICE_FAILURE),
        ("service", "missed"): of(Stage.TAKEN_BACK, Kind.SERVICE_FAILURE),
        ("payment", "met"): of(Stage.SETTLED, *fined),
        ("payment", "missed"): of(Stage.SHUT_DOWN, *fined),
    }


class _Worker:
    """A worker, and the servers that it works with, as they answer now."""

    def __init__(
        self, client: Client, workers: Sequence[Worker], task_queue: str, on_record: Sessions
    ) -> None:
        self._client, self._workers, self._task_queue = client, workers, task_queue
        # Two, so that whether it answers is not held up by the counting.
        self._asked, self._counting = (
            Asked(on_record, 1, _ANSWERS_WITHIN),
            Asked(on_record, 1, _COUNTS_WITHIN),
        )
        self.temporal, self.lags = Lately(self._temporal, 2), Lately(self._lags, 2)
        self.registry = Lately(lambda: self._asked(lambda session: session.scalar(text("select 1"))), 2)
        self.figures = Lately(lambda: self._counting(self._figures), _FIGURES_FOR)

    async def works(self) -> None:
        """Raises `Refusal` where it can't."""
        if not all(worker.is_running for worker in self._workers):
            raise Refusal(503, "the worker has stopped")
        await self.temporal()
        await self.registry()

    def close(self) -> None:
        """Wait for the registry no more."""
        self._asked.close()
        self._counting.close()

    async def _temporal(self) -> None:
        try:
            await self._client.service_client.check_health(timeout=timedelta(seconds=_ANSWERS_WITHIN))
        except (RPCError, RuntimeError):
            raise later(503, "the Temporal server does not answer", 5) from None

    async def _lags(self) -> dict[Queue, float]:
        """How long what is handed to a worker has waited, in seconds, whoever should serve that queue."""
        asked = {
            Queue.CASES: (self._task_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
            Queue.DELIVERIES: (deliveries(self._task_queue), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
        }
        lags = {}
        for queue, (name, kind) in asked.items():
            described = await self._client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=self._client.namespace,
                    task_queue=TaskQueue(name=name),
                    task_queue_type=kind,
                    report_stats=True,
                ),
                timeout=timedelta(seconds=_ANSWERS_WITHIN),
            )
            lags[queue] = described.stats.approximate_backlog_age.ToTimedelta().total_seconds()
        return lags

    @staticmethod
    def _figures(session: Session) -> Figures:
        as_of_one_moment(session)
        return figures(session, datetime.now(UTC))


def app(
    client: Client, workers: Sequence[Worker], task_queue: str, on_record: Sessions, letters: Counted
) -> FastAPI:
    """The application that tells of a worker, to those inside only: it asks for no name.

    `task_queue` is that of the cases, whichever queues the worker serves.
    """
    of, metrics = _Worker(client, workers, task_queue, on_record), _Metrics()
    letters.metrics.register(metrics)
    api = site("A worker", of.close)

    @api.get("/healthz", responses={503: {"model": Faults, "description": "It can't work, and why"}})
    async def healthz() -> Health:
        """Whether it runs, and Temporal and the registry answer."""
        await of.works()
        return Health()

    @api.get("/metrics", response_class=PlainTextResponse)
    async def figured() -> Response:
        """How the cases stand, and the letters that this worker has handed over, for Prometheus."""
        up, lags, told = {"temporal": False, "registry": False}, {}, None
        with suppress(Refusal, RPCError):
            await of.temporal()
            up["temporal"] = True
            lags = await of.lags()
        with suppress(Refusal):
            await of.registry()
            up["registry"] = True
            told = await of.figures()
        metrics.up, metrics.lags, metrics.figures = up, lags, told
        return exposed(letters.metrics)

    return api
