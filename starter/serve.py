"""Serving cases until somebody stops it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from temporalio.client import Client

from activities.channels import Addresses, Channel, Outbox
from activities.smtp import Smtp, SmtpServer
from activities.webhook import Gateway, Webhook
from starter import connect
from starter.settings import Refused, Settings, wrong
from worker import serving


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


@asynccontextmanager
async def cases(settings: Settings) -> AsyncIterator[Client]:
    """Serve the cases of the servers that the settings name, until the context ends. Raises `Refused`."""
    leaves_by = channel(settings)
    client = await connect.temporal(settings)
    await connect.register_attributes(client)
    await connect.schedule_rounds(client, settings.task_queue)
    connect.registry(settings).dispose()
    addresses = Addresses(sender=settings.sender, officers=settings.officers, supervisor=settings.supervisor)
    async with serving(client, settings.task_queue, settings.registry_url(), leaves_by, addresses):
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
