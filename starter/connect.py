"""Connecting to Temporal and the registry, with errors in words."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from starter.settings import Refused, Settings, Unreachable
from workflows import attributes, names

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from registry.session import Sessions


async def temporal(settings: Settings) -> Client:
    """A client of the Temporal server that the environment, a profile or the embedded server names.

    Raises `Unreachable`, and `Refused` where its configuration can't be used.
    """
    try:
        config = ClientConfig.load_client_connect_config(config_file=settings.temporal_config())
    except (RuntimeError, OSError, ValueError) as error:
        raise Refused(f"Temporal's configuration (TEMPORAL_*) can't be used: {error}") from error
    if "target_host" not in config:
        raise Unreachable(
            "no Temporal server is configured: start one with `enforce up`, or set TEMPORAL_ADDRESS or "
            f"TEMPORAL_PROFILE (looked for {settings.temporal_file})"
        )
    try:
        return await Client.connect(**config, data_converter=pydantic_data_converter)
    except ValueError as error:
        raise Refused(f"Temporal's configuration (TEMPORAL_*) can't be used: {error}") from error
    except (RuntimeError, RPCError) as error:
        raise Unreachable(
            f"no Temporal server answers at {config['target_host']}: start one with `enforce up`, "
            f"or set TEMPORAL_ADDRESS or TEMPORAL_PROFILE ({error})"
        ) from error


def registry(settings: Settings, pool_size: int = 5) -> "Engine":
    """The registry's engine, with so many connections at most. Raises `Unreachable`."""
    from sqlalchemy.exc import OperationalError

    from registry.session import connect

    engine = connect(settings.registry_url(), pool_size)
    try:
        with engine.connect():
            return engine
    except OperationalError as error:
        raise Unreachable(f"the registry does not answer: {error.orig}") from error


def on_record(settings: Settings, pool_size: int = 5) -> "Sessions":
    """The registry's sessions, so many at once. Raises `Unreachable`."""
    from registry.session import sessions

    return sessions(registry(settings, pool_size))


async def register_attributes(client: Client) -> None:
    """Register the search attributes with the namespace, and wait until it knows them.

    Without them a case's first task would fail, again and again and in silence. Raises `Unreachable` if
    they can't be registered, naming which.
    """
    wanted = {key.name: key.indexed_value_type for key in attributes.ALL}
    names = {name: f"INDEXED_VALUE_TYPE_{kind.name}" for name, kind in wanted.items()}
    for _ in range(50):
        try:
            known = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=client.namespace)
            )
            missing = {n: t for n, t in names.items() if n not in known.custom_attributes}
            if not missing:
                return
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
                    search_attributes={n: IndexedValueType.Value(t) for n, t in missing.items()},
                )
            )
        except RPCError as error:
            if error.status not in (RPCStatusCode.ALREADY_EXISTS, RPCStatusCode.UNAVAILABLE):
                raise Unreachable(
                    f"search attributes {', '.join(sorted(names))} can't be registered with namespace "
                    f"{client.namespace}: {error.message}. Ask its administrator to add them"
                ) from error
        await asyncio.sleep(0.1)
    raise Unreachable(f"namespace {client.namespace} does not take search attributes {', '.join(missing)}")


async def schedule_rounds(client: Client, task_queue: str) -> None:
    """See to it that each round is made once, however many workers there are, by the clock of Shanghai.

    The daily round is made at 0:30, the platform's own checks a quarter past each hour.
    """
    half_past_midnight = ScheduleCalendarSpec(hour=[ScheduleRange(0)], minute=[ScheduleRange(30)])
    each_hour = ScheduleCalendarSpec(hour=[ScheduleRange(0, 23)], minute=[ScheduleRange(15)])
    rounds = {
        "daily-round": Schedule(
            action=ScheduleActionStartWorkflow(
                names.DAILY_ROUND,
                id="daily-round",
                task_queue=task_queue,
                static_summary="每日巡检 · the daily round",
            ),
            spec=ScheduleSpec(calendars=[half_past_midnight], time_zone_name="Asia/Shanghai"),
        ),
        "detection": Schedule(
            action=ScheduleActionStartWorkflow(
                names.DETECTION_ROUND,
                id="detection",
                task_queue=task_queue,
                static_summary="主动检测 · the platform's own checks",
            ),
            spec=ScheduleSpec(calendars=[each_hour], time_zone_name="Asia/Shanghai"),
            # Checks that were missed are not made up for: the next ones see all that they would have.
            policy=SchedulePolicy(catchup_window=timedelta(hours=1)),
        ),
    }
    for name, schedule in rounds.items():
        try:
            await client.create_schedule(name, schedule)
        except ScheduleAlreadyRunningError:
            continue
