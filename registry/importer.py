"""Loading agents and numbers from CSV: all rows or none."""

import csv
import io
import re
from datetime import date, datetime
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit
from registry.models import Account, Agent, Number
from rulebook.vocabulary import FilingKind, Holder, Number400, OneLine, one_line, operator_of, plain_number

# As HTML's <input type=email> has it (WHATWG): nothing that a mail header could trip over.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_LONGEST = 254  # characters of an address (RFC 5321, with its erratum 1690)
_MOST = 5  # addresses of one agent or customer


def _addresses(cell: str) -> str:
    """Mail addresses with ", " between them, each once; the file may part them by semicolons, too."""
    kept: dict[str, str] = {}
    for part in re.split("[,;，；]", cell):
        address = part.strip()
        if address and (len(address) > _LONGEST or not _ADDRESS.fullmatch(address)):
            raise ValueError(f"is no mail address: {one_line(address)[:80]}")
        if address:
            kept.setdefault(address.lower(), address)
    if not 1 <= len(kept) <= _MOST:
        raise ValueError(f"has to hold 1 to {_MOST} mail addresses")
    return ", ".join(kept.values())


Addresses = Annotated[str, AfterValidator(_addresses)]


def _iso(cell: object) -> object:
    """Let a day through only as a day: a bare number would be taken for seconds since 1970."""
    return date.fromisoformat(cell) if isinstance(cell, str) else cell


def _no_authority(name: str) -> str:
    # Filings are told apart by their recipient (1.6).
    name = one_line(name)
    if name in {kind.recipient for kind in FilingKind} - {""}:
        raise ValueError("is an authority, not an operator")
    return name


class Row(BaseModel):
    """One line of the file: a number with its customer, and the agent who sold it.

    An empty operator is the one on record, else it is told by the number's prefix. Agent and customer may
    have several mail addresses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
    agent_name: OneLine
    contact: OneLine
    email: Addresses
    phone: Annotated[str, StringConstraints(pattern=r"^[0-9+() -]{5,30}$")]
    number: Number400
    customer: OneLine
    customer_email: Addresses
    certificate: OneLine
    operator: Annotated[str, AfterValidator(_no_authority), StringConstraints(max_length=40)]
    renewal_due: Annotated[date, BeforeValidator(_iso)]

    @property
    def agent(self) -> tuple[str, str, str, str]:
        """What the row says of its agent."""
        return self.agent_name, self.contact, self.email, self.phone


COLUMNS = tuple(Row.model_fields)
_SAID = 50


class Problem(NamedTuple):
    """What is wrong with one cell; `line` counts from 1, the heading included."""

    line: int
    column: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.what}"


class Refused(ValueError):
    """The file can't be loaded; nothing was."""

    def __init__(self, problems: list[Problem]) -> None:
        more = [f"and {len(problems) - _SAID} more"] if len(problems) > _SAID else []
        super().__init__("\n".join(f"  {problem}" for problem in (*problems[:_SAID], *more)))
        self.problems = problems


class Loaded(NamedTuple):
    """How many agents and numbers are new, and how many were there before."""

    agents_added: int
    agents_updated: int
    numbers_added: int
    numbers_updated: int


def decode(data: bytes) -> str:
    """Text from a file as Chinese offices make it: UTF-8, with or without mark, else GB 18030."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Refused([Problem(1, "-", "neither UTF-8 nor GB 18030 text")])


def read(text: str) -> dict[int, Row]:
    """The rows of a CSV file by line, checked one by one and against each other.

    Raises `Refused` with all problems at once.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = reader.fieldnames or []
    except csv.Error as error:
        raise Refused([Problem(1, "-", str(error))]) from error
    missing = [column for column in COLUMNS if column not in heading]
    if missing:
        raise Refused([Problem(1, column, "column is missing") for column in missing])

    rows: dict[int, Row] = {}
    problems: list[Problem] = []
    agents: dict[str, tuple[int, Row]] = {}
    numbers: dict[str, int] = {}
    try:
        for cells in reader:
            line = reader.line_num
            number = str(plain_number(cells["number"] or ""))
            if numbers.setdefault(number, line) != line:
                problems.append(Problem(line, "number", f"stands on line {numbers[number]} already"))
            try:
                row = Row.model_validate({column: cells[column] or "" for column in COLUMNS})
            except ValidationError as error:
                problems += [Problem(line, str(e["loc"][0]), e["msg"]) for e in error.errors()]
                continue
            if not row.operator and not operator_of(row.number):
                problems.append(Problem(line, "operator", "is told neither here nor by the number's prefix"))
            if None in cells:
                problems.append(Problem(line, "-", "more cells than columns"))
            first_line, first = agents.setdefault(row.agent_id, (line, row))
            if row.agent != first.agent:
                what = f"agent {row.agent_id} is described differently on line {first_line}"
                problems.append(Problem(line, "agent_id", what))
            rows[line] = row
    except csv.Error as error:
        problems.append(Problem(reader.reader.line_num, "-", str(error)))
    if problems:
        raise Refused(problems)
    return rows


def load(session: Session, rows: dict[int, Row], at: datetime, by: str) -> Loaded:
    """Put the rows on record, within the caller's transaction; what is there already is brought up to date.

    A status is never touched, and a number never moves to another agent. Raises `Refused`.
    """
    known_agents = {a.agent_id: a for a in session.scalars(select(Agent))}
    known_numbers = {n.number: n for n in session.scalars(select(Number))}
    problems = [
        Problem(line, "number", f"{row.number} belongs to agent {held.agent_id}, not {row.agent_id}")
        for line, row in rows.items()
        if (held := known_numbers.get(row.number)) and held.agent_id != row.agent_id
    ]
    if problems:
        raise Refused(problems)

    described = {row.agent_id: row for row in rows.values()}
    for agent_id, row in described.items():
        agent = known_agents.get(agent_id)
        if agent is None:
            agent = Agent(agent_id=agent_id, account=Account())
            session.add(agent)
        agent.name, agent.contact, agent.email, agent.phone = row.agent
    session.flush()
    for row in rows.values():
        number = known_numbers.get(row.number)
        if number is None:
            number = Number(number=row.number, agent_id=row.agent_id)
            session.add(number)
        number.customer, number.certificate = row.customer, row.certificate
        number.customer_email = row.customer_email
        if number.holder is not Holder.PLATFORM:  # what the platform renews itself, its officers keep up
            number.renewal_due = row.renewal_due
        number.operator = row.operator or number.operator or operator_of(row.number)

    listed = {row.number for row in rows.values()}
    loaded = Loaded(
        agents_added=len(described.keys() - known_agents.keys()),
        agents_updated=len(described.keys() & known_agents.keys()),
        numbers_added=len(listed - known_numbers.keys()),
        numbers_updated=len(listed & known_numbers.keys()),
    )
    text = (
        f"Registry imported: {loaded.agents_added} agents and {loaded.numbers_added} numbers added, "
        f"{loaded.agents_updated} and {loaded.numbers_updated} brought up to date"
    )
    audit.record(session, None, "registry-import", audit.Done(line=audit.line(at, by, text)))
    return loaded
