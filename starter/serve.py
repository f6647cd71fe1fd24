"""Serving cases until somebody stops it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client

from activities.channels import Addresses, Outbox
from starter import connect
from starter.settings import Settings
from worker import serving


@asynccontextmanager
async def cases(settings: Settings) -> AsyncIterator[Client]:
    """Serve the cases of the servers that the settings name, until the context ends. Raises `Unreachable`."""
    client = await connect.temporal(settings)
    await connect.register_attributes(client)
    await connect.schedule_daily_round(client, settings.task_queue)
    connect.registry(settings).dispose()
    channel = Outbox(settings.outbox_folder)
    addresses = Addresses(sender=settings.sender, officers=settings.officers, supervisor=settings.supervisor)
    async with serving(client, settings.task_queue, settings.registry_url(), channel, addresses):
        yield client


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
