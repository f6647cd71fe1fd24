"""What a request with violation reports says: its reports, or all that is wrong with them."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from registry import inbox
from registry.inbox import Arrival
from rulebook.report import Report
from rulebook.vocabulary import one_line

MOST_REPORTS = 1000
"""How many reports a request may hold."""

_MOST_FAULTS = 1000  # that an answer names


class Taken(BaseModel):
    """A report that is in the inbox, under the number `id`; `new` if it came for the first time."""

    report_id: str
    id: int
    new: bool


class Accepted(BaseModel):
    """The reports of a request, in its order: each is in the inbox for good."""

    accepted: list[Taken]


class Fault(BaseModel):
    """What is wrong: with which report of the request (counted from 0), and with which of its fields."""

    report: int | None = None
    field: str | None = None
    reason: str


class Faults(BaseModel):
    """Why nothing of the request was taken."""

    errors: list[Fault]


class Refusal(Exception):
    """Nothing of a request is taken: with which status that is answered, and why."""

    def __init__(self, status: int, *why: Fault | str, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._why = [Fault(reason=fault) if isinstance(fault, str) else fault for fault in why]

    @property
    def faults(self) -> Faults:
        """Why, in the words of the answer."""
        more = len(self._why) - _MOST_FAULTS
        rest = [Fault(reason=f"and {more} more")] if more > 0 else []
        return Faults(errors=[*self._why[:_MOST_FAULTS], *rest])


def later(status: int, why: str, seconds: float) -> Refusal:
    """The answer that a request would be taken in so many seconds."""
    return Refusal(status, why, Retry_After=str(max(1, ceil(seconds))))


class _Object(dict[str, Any]):
    """A JSON object that knows which of its names came more than once."""

    twice: Sequence[str] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        made.twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    return made


_UNKEEPABLE = re.compile("[\0\ud800-\udfff]")
_MOMENT = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _read(told: object, source: str) -> tuple[Report | None, list[tuple[str, str]]]:
    if not isinstance(told, _Object):
        return None, [("", "has to be an object")]
    wrong = [(name, "comes more than once") for name in told.twice]
    wrong += [
        (name, "holds a NUL or half a character")
        for name, value in told.items()
        if isinstance(value, str) and _UNKEEPABLE.search(value)
    ]
    claimed = told.get("source")
    if isinstance(claimed, str) and one_line(claimed) != source:
        wrong.append(("source", f"has to be {source}, which signed"))
    try:
        plain = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
        report = Report.model_validate_json(plain, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        wrong += [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in found]
        return None, wrong
    if report.observed_at and not _MOMENT.match(told["observed_at"]):
        # A bare number would be taken for seconds since 1970.
        wrong.append(("observed_at", "has to be a moment like 2026-11-24T10:00:00+08:00"))
    return report, wrong


def arrivals(body: bytes, source: str) -> list[Arrival]:
    """The reports of a body that this source has signed. Raises `Refusal`."""
    if inbox.nested_too_deeply(body):
        raise Refusal(400, "the body is nested too deeply")
    try:
        told = json.loads(body.decode(), object_pairs_hook=_object, parse_int=float)
        items = told if isinstance(told, list) else [told]
        if not 1 <= len(items) <= MOST_REPORTS:
            raise Refusal(
                400, f"the body holds {len(items)} reports: 1 to {MOST_REPORTS} can be sent at once"
            )
        read = [_read(item, source) for item in items]
    except ValueError as error:
        raise Refusal(400, f"the body is no JSON: {one_line(str(error))}") from None
    wrong = [
        Fault(report=index, field=one_line(field)[:100] or None, reason=one_line(reason))
        for index, (_, found) in enumerate(read)
        for field, reason in found
    ]
    if wrong:
        raise Refusal(400, *wrong)
    return [
        Arrival(report.source, report.report_id, item)
        for (report, _), item in zip(read, items, strict=True)
        if report
    ]


def put(session: Session, came: Sequence[Arrival]) -> Accepted:
    """Put reports into the inbox. Raises `Refusal` where an id came before with another content."""
    # In one order everywhere: two requests with the same reports can't wait for each other.
    order = sorted(range(len(came)), key=lambda index: came[index].report_id)
    placed = sorted(zip(order, inbox.put(session, [came[index] for index in order], "http"), strict=True))
    changed = [
        Fault(
            report=index,
            field="report_id",
            reason=f"{came[index].report_id} came before, with another content",
        )
        for index, there in placed
        if not there.same
    ]
    if changed:
        raise Refusal(409, *changed)
    taken = [Taken(report_id=came[index].report_id, id=there.id, new=there.new) for index, there in placed]
    return Accepted(accepted=taken)
