"""Whose payments the lines of a bank statement are (6.1): by what a remark names, or by payer and amount."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from registry.models import Agent, Case, Fine, Payment
from rulebook.money import ZERO, Balance, yuan
from rulebook.vocabulary import FineStatus, Kind, Stage, day_of, plain_number, written
from starter.statement import DASHES, Line, Total, even, total_of

_PREFIXES = "|".join(kind.prefix for kind in Kind)
_BETWEEN = r"\s?[-\s]\s?"
_CASE = re.compile(
    rf"(?<![A-Z0-9])({_PREFIXES}){_BETWEEN}([0-9]{{4}}){_BETWEEN}([0-9]{{5,}})(?![0-9])"
    rf"({_BETWEEN}N\s?[0-9]+(?![0-9]))?",
    re.IGNORECASE,
)
_GAP = r"[-\s]?"
_WRITTEN = ("[0-9]{7}", f"[0-9]{{3}}{_GAP}[0-9]{{4}}", f"[0-9]{{4}}{_GAP}[0-9]{{3}}")
_NUMBER_400 = re.compile(
    rf"(?<![0-9])(?:400{_GAP}(?:{'|'.join(_WRITTEN)})|400[0-9]{_GAP}[0-9]{{3}}{_GAP}[0-9]{{3}})(?![0-9])"
)


class Known(BaseModel):
    """A case on record; `due` in yuan. `outcome` is none while it is open."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    agent_id: str
    number: str
    workflow_id: str = ""
    run_id: str = ""
    outcome: Stage | None = None
    due: Decimal = ZERO


class Counted(NamedTuple):
    """A payment on record; `on` is the day on which the bank had it, or else on which it was recorded."""

    case_no: str
    amount: Decimal
    on: date | None = None


class Record(BaseModel):
    """What the registry holds of what a statement names: agents by evened name, payments by reference."""

    model_config = ConfigDict(frozen=True)

    cases: dict[str, Known] = {}
    agents: dict[str, tuple[str, ...]] = {}
    payments: dict[str, Counted] = {}


class Named(NamedTuple):
    """What a remark names: cases, each with how it does, and 400 numbers."""

    cases: dict[str, str]
    numbers: frozenset[str]


def named(remark: str) -> Named:
    """The cases and 400 numbers that a remark names."""
    text = remark.translate(DASHES)
    return Named(
        cases={
            f"{m[1].upper()}-{m[2]}-{m[3]}": "notice number" if m[4] else "case number"
            for m in _CASE.finditer(text)
        },
        numbers=frozenset(str(plain_number(m[0])) for m in _NUMBER_400.finditer(_CASE.sub("|", text))),
    )


def on_record(session: Session, lines: Sequence[Line]) -> Record:
    """What the registry holds of what these lines name."""
    names = {line.payer for line in lines} - {""}
    agents: dict[str, tuple[str, ...]] = {}
    for agent_id, name in session.execute(select(Agent.agent_id, Agent.name).order_by(Agent.agent_id)):
        if (evened := even(name)) in names:
            agents[evened] = (*agents.get(evened, ()), agent_id)
    said = [named(line.remark) for line in lines]
    fined = (
        select(Fine.case_no, func.sum(Fine.amount).label("amount"))
        .where(Fine.status != FineStatus.VOID)
        .group_by(Fine.case_no)
        .subquery()
    )
    paid = (
        select(Payment.case_no, func.sum(Payment.amount).label("amount"))
        .where(Payment.refunded_at.is_(None))
        .group_by(Payment.case_no)
        .subquery()
    )
    cases = session.execute(
        select(Case, fined.c.amount, paid.c.amount)
        .outerjoin(fined, fined.c.case_no == Case.case_no)
        .outerjoin(paid, paid.c.case_no == Case.case_no)
        .where(
            or_(
                Case.case_no.in_({case_no for one in said for case_no in one.cases}),
                Case.number.in_({number for one in said for number in one.numbers}),
                Case.agent_id.in_({agent_id for ids in agents.values() for agent_id in ids}),
            )
        )
        .order_by(Case.case_no)
    )
    payments = session.scalars(
        select(Payment).where(Payment.reference.in_({line.reference for line in lines}))
    )
    return Record(
        cases={
            case.case_no: Known(
                case_no=case.case_no,
                agent_id=case.agent_id,
                number=case.number,
                workflow_id=case.workflow_id,
                run_id=case.run_id,
                outcome=case.outcome,
                due=Balance(fine=fine or ZERO, paid=had or ZERO).due,
            )
            for case, fine, had in cases
        },
        agents=agents,
        payments={
            p.reference: Counted(p.case_no, p.amount, p.had_on or day_of(p.received_at)) for p in payments
        },
    )


class Outcome(StrEnum):
    """What becomes of a line: each line has one. The last three stand once payments were counted."""

    TO_COUNT = "to count"
    COUNTED_ALREADY = "counted already"
    DUPLICATE = "duplicate"
    OUTGOING = "outgoing"
    UNMATCHED = "unmatched"
    MALFORMED = "malformed"
    COUNTED = "counted"
    FAILED = "failed"
    NOT_TRIED = "not tried"

    @property
    def for_a_colleague(self) -> bool:
        """Whether somebody has to find out whose money it is."""
        return self in (Outcome.UNMATCHED, Outcome.MALFORMED)


class Matched(BaseModel):
    """A line and what becomes of it; `how` it was matched to its case, or the `reason` why not."""

    model_config = ConfigDict(frozen=True)

    line: Line
    outcome: Outcome
    case_no: str = ""
    how: str = ""
    reason: str = ""


class _Unmatched(Exception):
    """The line belongs to no case for sure; the text says why."""


class _Matching:
    """The lines so far, and what is due after them."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._due = {case_no: case.due for case_no, case in record.cases.items()}
        self._seen: dict[str, Line] = {}
        self._of_number: dict[str, list[Known]] = {}
        self._of_agent: dict[str, list[Known]] = {}
        for case in record.cases.values():
            self._of_number.setdefault(case.number, []).append(case)
            self._of_agent.setdefault(case.agent_id, []).append(case)

    def match(self, line: Line) -> Matched:
        """What becomes of the next line."""
        if line.fault or line.amount is None:
            return Matched(line=line, outcome=Outcome.MALFORMED, reason=line.fault)
        if line.amount < 0:
            return Matched(line=line, outcome=Outcome.OUTGOING)
        try:
            said = named(line.remark)
            return self._before(line, said) or self._payment(line, line.amount, said)
        except _Unmatched as why:
            return Matched(line=line, outcome=Outcome.UNMATCHED, reason=str(why))

    def _before(self, line: Line, said: Named) -> Matched | None:
        """What becomes of a line whose reference came before, in the file or on record."""
        if not line.reference:
            raise _Unmatched("without a reference nothing keeps it from being counted twice")
        first = self._seen.setdefault(line.reference, line)
        if first is not line and first.content != line.content:
            raise _Unmatched(f"the reference came before with other content, on line {first.line}")
        if first is not line:
            return Matched(line=line, outcome=Outcome.DUPLICATE, reason=f"as line {first.line}")
        counted = self._record.payments.get(line.reference)
        if counted is None:
            return None
        if counted.amount != line.amount or said.cases.keys() - {counted.case_no}:
            how = "returned in" if counted.amount < 0 else "for"
            was = f"{yuan(abs(counted.amount))} {how} {counted.case_no}"
            raise _Unmatched(f"the reference was counted before otherwise: {was}")
        late = line.on and counted.on and line.on < counted.on
        return Matched(
            line=line,
            outcome=Outcome.COUNTED_ALREADY,
            case_no=counted.case_no,
            reason=f"{counted.case_no}, and on record as of {counted.on}" if late else "",
        )

    def _payment(self, line: Line, amount: Decimal, said: Named) -> Matched:
        case, how = self._case(line, said)
        self._due[case.case_no] = max(self._due[case.case_no] - amount, ZERO)
        return Matched(line=line, outcome=Outcome.TO_COUNT, case_no=case.case_no, how=how)

    def _case(self, line: Line, said: Named) -> tuple[Known, str]:
        if len(said.cases) > 1:
            raise _Unmatched(f"the remark names {len(said.cases)} cases: {_list(said.cases)}")
        for case_no, how in said.cases.items():
            case = self._record.cases.get(case_no)
            if case is None:
                raise _Unmatched(f"no case {case_no} is on record")
            if other := said.numbers - {case.number}:
                raise _Unmatched(f"the remark names {case_no}, and {_list(map(written, other))} beside it")
            return case, how
        if len(said.numbers) > 1:
            raise _Unmatched(f"the remark names {len(said.numbers)} numbers: {_list(said.numbers)}")
        for number in said.numbers:
            cases = [case for case in self._of_number.get(number, ()) if self._due[case.case_no]]
            return self._only(cases, f"of {written(number)}", "money due"), "400 number"
        return self._by_payer(line), "payer and amount"

    def _by_payer(self, line: Line) -> Known:
        agents = self._record.agents.get(line.payer, ())
        if not agents:
            raise _Unmatched("the remark names no case, and the payer is no agent")
        if len(agents) > 1:
            raise _Unmatched(f"{len(agents)} agents have the payer's name: {_list(agents)}")
        assert line.amount
        cases = [case for case in self._of_agent.get(agents[0], ()) if self._due[case.case_no] == line.amount]
        return self._only(cases, f"of agent {agents[0]}", f"just {yuan(line.amount)} due")

    @staticmethod
    def _only(cases: Sequence[Known], of: str, has: str) -> Known:
        if not cases:
            raise _Unmatched(f"{of}, no case has {has}")
        if len(cases) > 1:
            which = _list(case.case_no for case in cases)
            raise _Unmatched(f"{of}, {len(cases)} cases have {has}: {which}")
        return cases[0]


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def match(lines: Iterable[Line], record: Record) -> list[Matched]:
    """What becomes of each line, top to bottom: each is matched to what is due after the lines before it.

    A line is a payment for a case whose number, or the number of whose notice, stands in its remark; else for
    the only case with money due of the 400 number in it; and where the remark names none of these, for the
    only case of the agent who paid that has just this amount due. Nothing is guessed.
    """
    so_far = _Matching(record)
    return [so_far.match(line) for line in lines]


def totals(matched: Iterable[Matched]) -> dict[Outcome, Total]:
    """How many lines and how much money has which outcome."""
    by_outcome: dict[Outcome, list[Line]] = {}
    for one in matched:
        by_outcome.setdefault(one.outcome, []).append(one.line)
    return {outcome: total_of(by_outcome[outcome]) for outcome in Outcome if outcome in by_outcome}
