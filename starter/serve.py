"""Serving cases until somebody stops it."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.channels import Addresses, Channel, Outbox
from activities.smtp import Smtp, SmtpServer
from activities.webhook import Gateway, Webhook
from starter import AS_PYTHON_HAS_IT, connect, health, http
from starter.settings import Refused, Settings, wrong
from worker import Queue, serving

# What serves lives for weeks, and each case that leaves its cache is a cycle that has to be found.
gc.set_threshold(*AS_PYTHON_HAS_IT)


def channel(settings: Settings) -> Channel:
    """The way on which notices leave the house. Raises `Refused` where a setting is missing or wrong."""
    try:
        match settings.channel:
            case "smtp":
                return Smtp(SmtpServer(**settings.of_channel()))
            case "webhook":
                return Webhook(Gateway(**settings.of_channel()))
    except ValidationError as error:
        # Not chained: a traceback would show what the variables hold.
        raise Refused(wrong(error, f"{settings.channel}_")) from None
    return Outbox(settings.outbox_folder)


def sdk_metrics(host: str, port: int) -> None:
    """Serve the metrics of Temporal's SDK for all that is connected from here on. Raises `Refused`."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = PrometheusConfig(
        bind_address=where, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    try:
        Runtime.set_default(Runtime(telemetry=TelemetryConfig(metrics=asked)))
    except ValueError as error:
        raise Refused(f"can't serve the SDK's metrics at {where}: {error}") from error


@asynccontextmanager
async def cases(
    settings: Settings, at: tuple[str, int] | None = None, only: Queue | None = None
) -> AsyncIterator[Client]:
    """Serve cases and deliveries, or `only` one of them, until the context ends. Raises `Refused`.

    The servers are those that the settings name. At a host and port, where given, it tells of its health and
    figures.
    """
    leaves_by = health.Counted(channel(settings), settings.channel)
    client = await connect.temporal(settings)
    await connect.register_attributes(client)
    await connect.schedule_rounds(client, settings.task_queue)
    connect.registry(settings).dispose()
    addresses = Addresses(sender=settings.sender, officers=settings.officers, supervisor=settings.supervisor)
    url = settings.registry_url()
    async with (
        AsyncExitStack() as told,
        serving(
            *(client, settings.task_queue, url, leaves_by, addresses),
            only=only,
            letters_per_second=settings.letters_per_second,
        ) as workers,
    ):
        if at:
            on_record = connect.on_record(settings, health.AT_ONCE)
            api = health.app(client, workers, settings.task_queue, on_record, leaves_by)
            await told.enter_async_context(http.listening(api, *at))
        yield client


async def until_stopped(*parts: Coroutine[Any, Any, None]) -> None:
    """Run these side by side until somebody stops them, or one of them fails."""
    running = [asyncio.create_task(part) for part in parts]
    stopping = asyncio.create_task(stopped())
    try:
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*running, stopping):
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError):
            raise one


async def stopped() -> None:
    """Wait for Ctrl-C, or for a request to terminate."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(wanted, stop.set)
    try:
        await stop.wait()
    finally:
        for wanted in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(wanted)
