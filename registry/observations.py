"""Loading complaints, observed uses and operators' alerts from CSV: all rows or none."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from sqlalchemy import select, text, tuple_
from sqlalchemy.orm import Session

from registry import audit, importer
from registry.importer import Problem, Refused
from registry.models import Complaint, Number, ObservedUse, OperatorAlert
from rulebook.vocabulary import SHANGHAI, ComplaintKind, Number400, OneLine, Told

_FORMS = ("%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d")  # as spreadsheets write it in China
_AT_ONCE = 1000  # rows that are looked for in one statement


def _instant(cell: object) -> object:
    """A moment as systems or spreadsheets write it; one without a time zone is one in Shanghai."""
    if not isinstance(cell, str):
        return cell
    moment = _read(cell.strip())
    if moment is None or not 2000 <= moment.year <= 2099:
        raise ValueError(f"{cell!r} is no moment: write it like 2026-11-23 09:12")
    return moment if moment.tzinfo else moment.replace(tzinfo=SHANGHAI)


def _read(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        for form in _FORMS:
            try:
                return datetime.strptime(cell, form)  # noqa: DTZ007
            except ValueError:
                continue
    return None


Instant = Annotated[datetime, BeforeValidator(_instant)]
InstantOrNot = Annotated[datetime | None, BeforeValidator(lambda cell: _instant(cell) if cell else None)]
Name = Annotated[OneLine, StringConstraints(pattern="^[^/]*$")]
"""Part of an id: a slash stands between the parts."""
Said = Annotated[Told, StringConstraints(max_length=4000)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    known_by: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> tuple[str, ...]:
        """By what it is known."""
        return tuple(getattr(self, column) for column in self.known_by)


class ComplaintRow(_Row):
    """One complaint; `answered_at` is empty while it is not answered."""

    known_by = ("channel", "complaint_id")

    channel: Name
    complaint_id: OneLine
    number: Number400
    kind: ComplaintKind
    received_at: Instant
    text: Said
    answered_at: InstantOrNot

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.answered_at and self.answered_at < self.received_at:
            raise ValueError("is answered before it was received")
        return self


class ObservationRow(_Row):
    """One observation of who uses a number, and how it was made."""

    known_by = ("observation_id",)

    observation_id: OneLine
    number: Number400
    observed_at: Instant
    user: OneLine
    how: OneLine


class AlertRow(_Row):
    """One alert of an operator."""

    known_by = ("operator", "alert_id")

    operator: Name
    alert_id: OneLine
    number: Number400
    raised_at: Instant
    text: Said


class What(StrEnum):
    """What a file to import holds."""

    NUMBERS = "numbers"
    COMPLAINTS = "complaints"
    OBSERVATIONS = "observations"
    ALERTS = "alerts"


Row = ComplaintRow | ObservationRow | AlertRow
ROWS: dict[What, type[Row]] = {
    What.COMPLAINTS: ComplaintRow,
    What.OBSERVATIONS: ObservationRow,
    What.ALERTS: AlertRow,
}
_Table = Complaint | ObservedUse | OperatorAlert
_TABLES: dict[What, type[_Table]] = {
    What.COMPLAINTS: Complaint,
    What.OBSERVATIONS: ObservedUse,
    What.ALERTS: OperatorAlert,
}


class Loaded(NamedTuple):
    """How many rows are new, were on record otherwise, and were on record so."""

    added: int
    updated: int
    unchanged: int


def told_by_heading(text: str) -> What:
    """What a file holds by its columns: that of which it has most; numbers where it has none of any."""
    try:
        heading = set(next(csv.reader(io.StringIO(text, newline=""), strict=True), []))
    except csv.Error:
        heading = set()
    columns = {What.NUMBERS: set(importer.COLUMNS)} | {w: set(row.model_fields) for w, row in ROWS.items()}
    return max(columns, key=lambda what: len(columns[what] & heading) / len(columns[what]))


def read(text: str, what: What) -> dict[int, Row]:
    """The rows of a CSV file by line. Raises `Refused` with all problems at once."""
    model = ROWS[what]
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: dict[int, Row] = {}
    lines: dict[tuple[str, ...], int] = {}
    problems: list[Problem] = []
    try:
        heading = reader.fieldnames or []
        problems += [
            Problem(1, column, "column is missing") for column in model.model_fields if column not in heading
        ]
        for cells in reader if not problems else ():
            line = reader.line_num
            if None in cells:
                problems.append(Problem(line, "-", "more cells than columns"))
            try:
                row = model.model_validate(
                    {column: (cells[column] or "").strip() for column in model.model_fields}
                )
            except ValidationError as error:
                problems += _problems(line, error)
                continue
            if (first := lines.setdefault(row.key, line)) != line:
                problems.append(
                    Problem(line, model.known_by[-1], f"{'/'.join(row.key)} stands on line {first} already")
                )
            rows[line] = row
    except csv.Error as error:
        problems.append(Problem(reader.reader.line_num, "-", str(error)))
    if problems:
        raise Refused(problems)
    return rows


def _problems(line: int, error: ValidationError) -> Iterator[Problem]:
    for e in error.errors():
        column = str(e["loc"][0]) if e["loc"] else "answered_at"
        yield Problem(line, column, e["msg"].removeprefix("Value error, "))


def load(session: Session, rows: Mapping[int, Row], what: What, at: datetime, by: str) -> Loaded:
    """Put the rows on record, within the caller's transaction; what is there already is brought up to date.

    A complaint that was answered stays so. Raises `Refused` for a row that was about something else before.
    """
    table = _TABLES[what]
    # Of two imports at once, each would miss what the other adds.
    session.execute(text(f"lock table {table.__tablename__} in share row exclusive mode"))
    known = _known(session, table, ROWS[what].known_by, [row.key for row in rows.values()])
    same = ("number", "kind") if what is What.COMPLAINTS else ("number",)
    problems = [
        Problem(line, column, f"{'/'.join(row.key)} came before, about {getattr(held, column)}")
        for line, row in rows.items()
        if (held := known.get(row.key))
        for column in same
        if getattr(held, column) != getattr(row, column)
    ]
    if problems:
        raise Refused(problems)

    added = updated = 0
    customers = _customers(session, rows.values()) if what is What.OBSERVATIONS else {}
    for row in rows.values():
        says = dict(row)
        held = known.get(row.key)
        if held is None:
            if what is What.OBSERVATIONS:
                says["customer"] = customers.get(row.number)
            session.add(table(**says))
            added += 1
            continue
        changed = {
            column: value
            for column, value in says.items()
            if value != getattr(held, column) and not (column == "answered_at" and value is None)
        }
        for column, value in changed.items():
            setattr(held, column, value)
        updated += bool(changed)
    session.flush()
    loaded = Loaded(added, updated, len(rows) - added - updated)
    if added or updated:
        told = f"{what.title()} imported: {added} added, {updated} brought up to date"
        audit.record(session, None, f"{what}-import", audit.Done(line=audit.line(at, by, told)))
    return loaded


def _known(
    session: Session, table: type[_Table], names: Sequence[str], keys: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], _Table]:
    columns = tuple_(*(getattr(table, name) for name in names))
    known: dict[tuple[str, ...], _Table] = {}
    for start in range(0, len(keys), _AT_ONCE):
        found = session.scalars(select(table).where(columns.in_(keys[start : start + _AT_ONCE])))
        known |= {tuple(getattr(row, name) for name in names): row for row in found}
    return known


def _customers(session: Session, rows: Iterable[Row]) -> dict[str, str]:
    """The certified customers of the numbers that are on record."""
    numbers = {row.number for row in rows}
    found = session.execute(select(Number.number, Number.customer).where(Number.number.in_(numbers)))
    return {row.number: row.customer for row in found}
