"""`POST /reports`: how systems that find violations report them by HTTP, each known by its signature."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import Any, Generic, TypeVar

import prometheus_client
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from registry import inbox
from registry.inbox import Figures
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import IncomingStatus
from starter import intake
from starter.intake import MOST_REPORTS, Accepted, Fault, Faults, Refusal, later
from starter.settings import Refused
from starter.sources import NAME, Allowance, Sources, signer

T = TypeVar("T")

_MOST_BYTES = 1 << 20  # of a body
_MOST_CONNECTIONS = 1000


@dataclass(frozen=True)
class Limits:
    """What a server does at most; all times in seconds."""

    body_within: float = 10
    registry_within: float = 5
    under_way: int = 100
    waiting: int = 100_000
    at_the_registry: int = 4


class Health(BaseModel):
    """The registry answers."""

    status: str = "ok"


class Lately(Generic[T]):
    """What an answer was a moment ago: however many want it, it is asked for once."""

    def __init__(self, ask: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._asked: asyncio.Task[T] | None = None
        self._until = 0.0

    async def __call__(self) -> T:
        """The answer of now, or of a moment ago; or what was raised in its place."""
        if self._asked is None or (self._asked.done() and time.monotonic() >= self._until):
            self._asked = asyncio.create_task(self._once())
        return await asyncio.shield(self._asked)

    async def _once(self) -> T:
        try:
            return await self._ask()
        finally:
            self._until = time.monotonic() + self._seconds


class Asked:
    """The registry as a server asks it: in threads of its own, and within a time.

    Not the threads of the rest of the process: a registry that hangs must not hold those.
    """

    def __init__(self, on_record: Sessions, at_once: int, within: float) -> None:
        self._on_record, self._within = on_record, within
        self._threads = ThreadPoolExecutor(at_once, "http")

    async def __call__(self, work: Callable[[Session], T]) -> T:
        """What comes of a session. Raises `Refusal` where the registry does not answer."""

        def ask() -> T:
            with self.session() as session:
                return work(session)

        return await self.in_thread(ask)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What comes of work that takes its sessions itself. Raises `Refusal`."""
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (TimeoutError, OperationalError, InterfaceError, InternalError, NoConnection):
            raise later(503, "the registry does not answer", 5) from None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session in which each statement has so much time."""
        within = ceil(self._within * 1000)
        with self._on_record.begin() as session:
            session.execute(text(f"set local statement_timeout = {within}"))
            yield session

    def close(self) -> None:
        """Wait for nobody any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Metrics(Collector):
    """The figures of this server, and those of the inbox as they were asked for last."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter(
            "enforce_requests",
            "Requests to POST /reports by their status",
            ["status"],
            registry=self.registry,
        )
        self.accepted = Counter(
            "enforce_reports_accepted",
            "Reports that came in for the first time",
            ["source"],
            registry=self.registry,
        )
        self.duplicate = Counter(
            "enforce_reports_duplicate", "Reports that had come in before", ["source"], registry=self.registry
        )
        self.up, self.inbox = False, list[Figures]()
        self.registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("enforce_registry_up", "Whether the registry answers", self.up)
        held = GaugeMetricFamily(
            "enforce_inbox_reports",
            "Reports in the inbox by what became of them",
            labels=["source", "status"],
        )
        lag = GaugeMetricFamily(
            "enforce_inbox_lag_seconds", "How long the oldest report has waited", labels=["source"]
        )
        for figures in self.inbox:
            for status in IncomingStatus:
                held.add_metric([figures.source, status], getattr(figures, status))
            lag.add_metric([figures.source], figures.lag)
        yield held
        yield lag


def exposed(metrics: CollectorRegistry) -> Response:
    """Metrics in the words of Prometheus."""
    return Response(
        prometheus_client.generate_latest(metrics), media_type=prometheus_client.CONTENT_TYPE_LATEST
    )


class _Door:
    """What stands between a request and the inbox."""

    def __init__(self, on_record: Sessions, sources: Sources, limits: Limits) -> None:
        self._sources, self._limits = sources, limits
        self._allowed = {name: Allowance(source.rate) for name, source in sources.items()}
        self._under_way = 0
        self._metrics = _Metrics()
        self.asked = Asked(on_record, limits.at_the_registry, limits.registry_within)
        self.waiting = Lately(lambda: self.asked(self._count_waiting), 2)
        self._figures = Lately(lambda: self.asked(inbox.figures), 5)

    async def reports(self, request: Request) -> Response:
        status = 500
        self._under_way += 1
        try:
            answer = await self._let_in(request)
            status = answer.status_code
            return answer
        except Refusal as refusal:
            status = refusal.status
            raise
        finally:
            self._under_way -= 1
            self._metrics.requests.labels(status).inc()

    async def metrics(self) -> Response:
        up, figures = False, list[Figures]()
        with suppress(Refusal):
            up = await self.waiting() >= 0
            figures = await self._figures()
        self._metrics.up, self._metrics.inbox = up, figures
        return exposed(self._metrics.registry)

    async def _let_in(self, request: Request) -> Response:
        if self._under_way > self._limits.under_way:
            raise later(429, "too many requests are under way", 1)
        coding = request.headers.get("content-encoding", "identity")
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type.lower() != "application/json" or coding.lower() != "identity":
            raise Refusal(415, "the body has to be application/json, and not compressed")
        body = await self._body(request)
        source = signer(self._sources, request.headers, body)
        if source is None:
            raise Refusal(401, "the request is not signed by a source that may report")
        if wait := self._allowed[source].wait():
            raise later(429, "more reports come in than this source may send", wait)
        if await self.waiting() >= self._limits.waiting:
            raise later(429, "too many reports wait to be handled", 60)
        self._allowed[source].take(1)

        def take_in() -> Accepted:
            arrivals = intake.arrivals(body, source)
            with self.asked.session() as session:
                return intake.put(session, arrivals)

        taken = await self.asked.in_thread(take_in)
        self._allowed[source].take(len(taken.accepted) - 1)
        new = sum(report.new for report in taken.accepted)
        self._metrics.accepted.labels(source).inc(new)
        self._metrics.duplicate.labels(source).inc(len(taken.accepted) - new)
        return JSONResponse(taken.model_dump(), 202)

    async def _body(self, request: Request) -> bytes:
        too_much = Refusal(413, f"the body is more than {_MOST_BYTES} bytes")
        told = request.headers.get("content-length", "0")
        if len(told) > 15 or int(told) > _MOST_BYTES:
            raise too_much
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_within):
                async for part in request.stream():
                    body += part
                    if len(body) > _MOST_BYTES:
                        raise too_much
        except (TimeoutError, ClientDisconnect):
            raise Refusal(408, "the body did not arrive in time", Connection="close") from None
        return bytes(body)

    def _count_waiting(self, session: Session) -> int:
        return inbox.waiting(session, at_most=self._limits.waiting)


def site(title: str, close: Callable[[], None]) -> FastAPI:
    """An application without pages of its own, each refusal of which is answered as `Faults`.

    `close` is called as it ends.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        close()

    api = FastAPI(
        title=title,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )

    @api.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return JSONResponse(refusal.faults.model_dump(), refusal.status, refusal.headers)

    @api.exception_handler(HTTPException)
    async def not_here(_: Request, error: HTTPException) -> Response:
        return JSONResponse(
            Faults(errors=[Fault(reason=error.detail)]).model_dump(), error.status_code, error.headers
        )

    return api


def app(on_record: Sessions, sources: Sources, limits: Limits = Limits()) -> FastAPI:
    """The application: reports come in signed, and its description of itself is at /openapi.json."""
    door = _Door(on_record, sources, limits)
    api = site("Violation reports", door.asked.close)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]

    @api.post(
        "/reports",
        status_code=202,
        response_model=Accepted,
        responses=_ANSWERS,
        openapi_extra={"parameters": _HEADERS, "requestBody": _BODY},
    )
    async def reports(request: Request) -> Response:
        """Report violations: one, or up to 1,000 at once; all of a request is taken, or nothing.

        It is signed as Standard Webhooks (standardwebhooks.com) has it, and safe to repeat: a report counts
        once, by its source and id. What is answered with 202 will not be lost.
        """
        return await door.reports(request)

    @api.get("/healthz", responses={503: _ANSWERS[503]})
    async def healthz() -> Health:
        """Whether reports can be taken."""
        await door.waiting()
        return Health()

    @api.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus; they name the sources, so this is for those inside only."""
        return await door.metrics()

    return api


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"description": "All reports are in the inbox, now or from before"},
    400: {"model": Faults, "description": "Reports that can't be taken: each wrong field is named"},
    401: {"model": Faults, "description": "Not signed by a source that may report"},
    408: {"model": Faults, "description": "The body did not arrive in time"},
    409: {"model": Faults, "description": "A report id came before with another content"},
    413: {"model": Faults, "description": "The body is over 1 MiB"},
    415: {"model": Faults, "description": "The body is not application/json, or compressed"},
    429: {"model": Faults, "description": "Too much at once: send it again later", "headers": _RETRY_AFTER},
    503: {
        "model": Faults,
        "description": "The registry does not answer: send it again later",
        "headers": _RETRY_AFTER,
    },
}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    schema = {"type": "string"} | schema
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


_HEADERS = [
    _header("X-Source", "The source that reports, and signs", pattern=NAME),
    _header("webhook-id", "Any name of this message, the same when it is sent again", minLength=1),
    _header(
        "webhook-timestamp", "Seconds since 1970; not off by more than 5 minutes", pattern="^[0-9]{1,12}$"
    ),
    _header("webhook-signature", "`v1,` and the HMAC-SHA256 in base64; several with spaces between"),
]
_REPORT = {"$ref": "#/components/schemas/Report"}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    _REPORT,
                    {"type": "array", "items": _REPORT, "minItems": 1, "maxItems": MOST_REPORTS},
                ]
            }
        }
    },
}


def _described(api: FastAPI) -> dict[str, Any]:
    if not api.openapi_schema:
        api.openapi_schema = get_openapi(title=api.title, version=api.version, routes=api.routes)
        report = Report.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, field in report["properties"].items():
            if "maxLength" in field:
                # Not blank; the database has no NUL. The characters between are for people to choose.
                field |= {"minLength": 1, "pattern": r"^[^\u0000]*[!-~\u4e00-\u9fa5][^\u0000]*$"}
            if name == "source":
                field |= {"description": "The same as in the header X-Source"}
        report["properties"]["number"] |= {
            "description": "Ten digits; dashes and spaces between them don't matter",
            "pattern": r"^[ -]*4[ -]*0[ -]*0([ -]*[0-9]){7}[ -]*$",
        }
        api.openapi_schema["components"]["schemas"] |= report.pop("$defs") | {"Report": report}
    return api.openapi_schema


class _Connection(H11Protocol):
    """A connection on which each request has to begin in time: uvicorn itself would wait for ever."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def on_response_complete(self) -> None:
        self._expect()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience:
            self._patience.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(self.timeout_keep_alive, self._hang_up, self.cycle)

    def _hang_up(self, last: RequestResponseCycle | None) -> None:
        if self.cycle is last:
            self.timeout_keep_alive_handler()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Those who run this server decide when it stops.
        yield


def address(option: str, said: str) -> tuple[str, int]:
    """The host and port that an option says. Raises `Refused`."""
    host, _, port = said.rpartition(":")
    if not (port.isdigit() and host):
        raise Refused(f"{option} {said}: has to be HOST:PORT, e.g. 127.0.0.1:8400")
    return host.strip("[]"), int(port)


@asynccontextmanager
async def serving(
    on_record: Sessions, sources: Sources, host: str, port: int, limits: Limits = Limits()
) -> AsyncIterator[str]:
    """Take reports at this host and port (0: any), and give the URL; the end lets requests be answered.

    Raises `Refused` where the port can't be had.
    """
    async with listening(app(on_record, sources, limits), host, port, limits) as url:
        yield url


@asynccontextmanager
async def listening(api: FastAPI, host: str, port: int, limits: Limits = Limits()) -> AsyncIterator[str]:
    """Serve an application at this host and port (0: any), and give the URL; the end lets it finish.

    Raises `Refused` where the port can't be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"can't listen at {host}:{port}: {why}") from error
    server = _Server(
        uvicorn.Config(
            api,
            http=_Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=ceil(limits.body_within),
            timeout_graceful_shutdown=ceil(limits.body_within + 2 * limits.registry_within) + 1,
        )
    )
    served = asyncio.create_task(server.serve([opened]))
    try:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        await served
