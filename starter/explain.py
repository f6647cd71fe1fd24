"""Why each thing was done to an agent in a case, and what comes next if nobody acts (rulebook 5.6).

All of it is read from the registry, in one snapshot: for open and ended cases alike, and without Temporal.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import func, inspect, select, text
from sqlalchemy.orm import Session

from activities.filings import FilingShown, shown
from activities.fines import balance
from activities.step import SYSTEM
from activities.waits import command
from registry.audit import Line
from registry.calendar import calendar
from registry.models import (
    Account,
    Appeal,
    AuditLine,
    Base,
    Case,
    Evidence,
    Filing,
    Fine,
    HoldRow,
    Notice,
    Number,
    Payment,
    ReportRow,
    Wait,
)
from registry.session import Sessions
from registry.waits import Waiting
from rulebook.money import ZERO, Balance, yuan
from rulebook.policy import Policy, in_force
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    Awaiting,
    FilingStatus,
    FineStatus,
    Hold,
    Holder,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
    plain_number,
    written,
)
from rulebook.working_days import Calendar, Deadline, deadline, later
from starter.settings import Refused

# What is told


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Proof(_Told):
    """Something that a deed rests on: a report, an officer's finding, a file; with its hash if it has one."""

    what: str
    says: str
    by: str
    at: AwareDatetime
    sha256: str = ""


class Letter(_Told):
    """A notice: served when and how, and until when its limit ran, with every extension and stop."""

    notice_no: str
    kind: NoticeKind
    sha256: str
    served_at: AwareDatetime | None
    how: str
    limit: Deadline | None
    stopped_at: AwareDatetime | None


class Warned(_Told):
    """The notice whose limit had to pass before a penalty, what moved it, and whether it had passed."""

    letter: Letter
    moved: tuple[Line, ...]
    passed: bool


class Later(_Told):
    """What became of a penalty afterwards: undone, or lifted, lowered, run out."""

    at: AwareDatetime
    by: str
    text: str
    undone: bool


class Deed(_Told):
    """One thing done in a case, by which clauses of the rulebook; `letter` is the notice that told of it.

    A penalty names what it rests on. `earlier` are the cases that counted before it as offences.
    """

    step: str
    at: AwareDatetime
    by: str
    text: str
    rules: tuple[str, ...]
    penalty: bool = False
    evidence: tuple[Proof, ...] = ()
    warned: Warned | None = None
    letter: Letter | None = None
    earlier: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()


class Next(_Told):
    """What happens if nobody acts, and when; without `at`, nothing until an officer types the `command`.

    With `holds_up`, nothing else happens in the case before that.
    """

    at: AwareDatetime | None = None
    limit: Deadline | None = None
    text: str
    rules: tuple[str, ...] = ()
    command: str = ""
    holds_up: bool = False


class Other(_Told):
    """Another case of the same name; `outcome` is none while it is open."""

    case_no: str
    kind: Kind
    outcome: Stage | None


class Explained(_Told):
    """A case explained; `rules` says what each clause comes to that is named."""

    case_no: str
    workflow_id: str
    kind: Kind
    number: str
    customer: str
    agent_id: str
    agent_name: str
    policy: date
    outcome: Stage | None
    closed_at: AwareDatetime | None
    balance: Balance
    deeds: tuple[Deed, ...]
    filings: tuple[FilingShown, ...]
    next: tuple[Next, ...]
    rules: dict[str, str]
    others: tuple[Other, ...]


# The rules

SAYS = {
    "preamble": "a further report about an open violation joins its case as evidence",
    "1": "fraud: the customer does illegal business",
    "1.1": "the suspected number is frozen at once",
    "1.2": "the agent's account is suspended, reversibly",
    "1.3": "the agent is fined for the number, payable within the limit",
    "1.4": "paid and not serious: the case ends; an officer may reopen the account and unfreeze the number",
    "1.5": "not paid in time: the account is shut down, all its numbers are taken back",
    "1.6": "serious circumstances, found by two officers: closed for good, disqualified, reclaimed, filed",
    "2": "secondary sale: a number certified for one customer passed on to another",
    "2.1": "the agent is ordered to rectify within the limit",
    "2.2": "rectified in time, and verified by an officer: the case ends without a fine",
    "2.3": "not rectified in time: a fine, higher with each earlier offence",
    "2.4": "the punishment notice states the fine, payable within the limit",
    "2.5": "not paid in time: the account is shut down, all its numbers are taken back",
    "3": "service failure: the customer is served badly, late or not at all",
    "3.1": "the complaint is put to the agent, who serves the customer within the limit",
    "3.2": "served, and confirmed by the customer or an officer: the case ends",
    "3.3": "still no service: the number is taken back, served directly and renewed by the platform",
    "4.2": "working days follow the State Council's arrangement; a deadline is provisional until it is known",
    "4.3": "nobody is punished early: a deadline is computed anew, and never moves earlier",
    "4.4": "an officer may extend a limit or hold a case; an appeal stops the clock until it is decided",
    "4.5": "what arrived in time and is not checked yet holds the penalty back",
    "4.6": "the clock starts when the notice is served; what can't be delivered, an officer serves",
    "5.1": "the agent can appeal; an officer decides who had no part in the case",
    "5.2": "a case that did not stand is undone, in reverse order",
    "5.3": "reclaimed numbers rest in quarantine before anybody else can have them",
    "5.4": "a case keeps the policy that was in force when it was opened",
    "5.5": "only cases that stood count as earlier offences",
    "5.6": "what came in is on record, also where it was not understood",
    "5.7": "what waits for an officer is brought up again, and again",
    "6.1": "each payment has a bank reference, which counts once",
    "6.2": "a fine is settled when the payments reach it; what is paid above it is owed back",
    "6.3": "a payment after the deadline lowers the debt; it undoes nothing by itself",
    "7.1": "of two cases that shut an account down, one does, and both know",
    "7.2": "when an account is shut down, the agent's other cases end; their fines stay due",
    "7.3": "earlier offences are counted in one transaction with the fine",
}
"""What each clause of the rulebook comes to, in a line."""


class _Means(NamedTuple):
    """What a step of the audit trail is: by which clauses, a penalty or not, told of by which notice."""

    step: str
    rules: str
    told: NoticeKind | None = None
    penalty: bool = False


_ANY_NOTICE = "|".join(NoticeKind)
# Of the clauses 1, 2 and 3, those of the case's kind are meant.
_STEPS = (
    _Means("open", "1 2 3 5.4"),
    _Means("report-.+", "preamble"),
    _Means("freeze", "1.1", NoticeKind.PUNISHMENT, penalty=True),
    _Means("account-suspend", "1.2", NoticeKind.PUNISHMENT, penalty=True),
    _Means("fine", "1.3 2.3 7.3", NoticeKind.PUNISHMENT, penalty=True),
    _Means("account-shutdown", "1.5 2.5 7.1", NoticeKind.SHUTDOWN, penalty=True),
    _Means("reclaim", "1.5 2.5 5.3", NoticeKind.SHUTDOWN, penalty=True),
    _Means("take-back", "3.3", NoticeKind.TAKE_BACK, penalty=True),
    _Means("serious-.+-(proposed|rejected)", "1.6"),
    _Means("serious-.+-close", "1.6", NoticeKind.PERMANENT_CLOSURE, penalty=True),
    _Means("serious-.+-reclaim", "1.6 5.3", NoticeKind.PERMANENT_CLOSURE, penalty=True),
    _Means("filings", "1.6", penalty=True),
    _Means("filing-.+", "1.6"),
    _Means("rectification-[0-9]+|verify-.+", "2.2 3.2"),
    _Means("customer-confirmed", "3.2"),
    _Means("payment-.+", "6.1 6.2"),
    _Means("(extend|clock|hold|resume)-.+", "4.4", NoticeKind.DEADLINE),
    _Means(f"notice-({_ANY_NOTICE})-deadline-.+", "4.2 4.3", NoticeKind.DEADLINE),
    _Means(f"notice-({_ANY_NOTICE})(-.+)?-undeliverable", "4.6"),
    _Means("notice-rectification-order", "2.1"),
    _Means("notice-service-order", "3.1"),
    _Means("notice-punishment", "1.3 2.4"),
    _Means("notice-shutdown", "1.5 2.5"),
    _Means("notice-take-back(-customer)?", "3.3"),
    _Means("notice-permanent-closure", "1.6"),
    _Means("notice-deadline(-[0-9]+)?", "4.3 4.4"),
    _Means("notice-appeal-decision(-[0-9]+)?", "5.1"),
    _Means("notice-undone(-customer)?", "5.2"),
    _Means("notice-fine-lowered-.+", "5.5"),
    _Means("appeal-.+", "5.1"),
    _Means("decide-.+", "5.1", NoticeKind.APPEAL_DECISION),
    _Means("(undo(-.+)?|fine-void)", "5.2", NoticeKind.UNDONE),
    _Means("(account-reopen|unfreeze)(-refused)?", "5.2"),  # as dismissed cases did before they were undone
    _Means("(reopen|unfreeze)-.+", "1.4"),
    _Means("review-after-.+", "5.5", NoticeKind.FINE_LOWERED),
    _Means("refund-.+", "5.2"),
    _Means("substitute-.+", "5.2 5.3"),
    _Means("quarantine-.+", "5.3"),
    _Means("renewal-.+", "3.3"),
    _Means("account-closed", "7.2"),
    _Means("refused-.+", "5.6"),
    _Means("close|notice-closing", "", NoticeKind.CLOSING),
)
_ENDINGS = {
    Stage.RECTIFIED: "2.2 3.2",
    Stage.SETTLED: "1.4 2.4 6.2",
    Stage.SHUT_DOWN: "1.5 2.5",
    Stage.TAKEN_BACK: "3.3",
    Stage.OVERTAKEN: "7.2",
    Stage.CLOSED_FOR_GOOD: "1.6",
    Stage.DISMISSED: "5.2",
    Stage.OVERTURNED: "5.1 5.2",
}
_MOVES = re.compile("extend-.+|clock-.+|notice-.+-deadline-.+")
# What may only come once the limit of a notice is over.
_AFTER_A_LIMIT = ("fine", "account-shutdown", "reclaim", "take-back")
_FOLLOWS = {
    NoticeKind.RECTIFICATION_ORDER: "fine",
    NoticeKind.PUNISHMENT: "account-shutdown",
    NoticeKind.SERVICE_ORDER: "take-back",
}


def _meaning(step: str) -> _Means:
    found = (means for means in _STEPS if re.fullmatch(means.step, step, re.DOTALL))
    return next(found, _Means(step, ""))


def rules_of(step: str, kind: Kind, outcome: Stage | None = None) -> tuple[str, ...]:
    """The clauses that a step carries out in a case of a kind; none for a step that isn't known.

    `outcome` is how the case was closed, for the step that closes it and its notice.
    """
    ending = outcome if step in ("close", "notice-closing") else None
    rules = _ENDINGS.get(ending, "") if ending else _meaning(step).rules
    return tuple(rule for rule in rules.split() if rule[0] not in "123" or rule[0] == kind.clause)


# The record


Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True)
class _Record:
    """What the registry has of one case; of what waited, only what waits still."""

    case: Case
    number: Number
    lines: Sequence[AuditLine]
    notices: Sequence[Notice]
    waits: dict[Awaiting, datetime]
    holds: Sequence[HoldRow]
    filings: Sequence[Filing]
    appeals: Sequence[Appeal]
    payments: Sequence[Payment]
    reports: Sequence[ReportRow]
    balance: Balance

    @classmethod
    def of(cls, session: Session, case: Case) -> Self:
        """The record of a case."""

        def rows(table: type[Row]) -> Sequence[Row]:
            columns = table.__table__.c
            own = select(table).where(columns.case_no == case.case_no)
            return session.scalars(own.order_by(*inspect(table).primary_key)).all()

        return cls(
            case=case,
            number=session.get_one(Number, case.number),
            lines=rows(AuditLine),
            notices=sorted(rows(Notice), key=lambda n: int(n.notice_no.rpartition("-N")[2])),
            waits={wait.what: wait.since for wait in rows(Wait) if wait.ended_at is None},
            holds=rows(HoldRow),
            filings=rows(Filing),
            appeals=rows(Appeal),
            payments=rows(Payment),
            reports=rows(ReportRow),
            balance=balance(session, case.case_no),
        )

    @property
    def policy(self) -> Policy:
        """The policy that the case keeps (5.4)."""
        return in_force(self.case.policy)

    @cached_property
    def steps(self) -> dict[str, AuditLine]:
        """The lines by their steps."""
        return {line.step: line for line in self.lines}

    @property
    def limit(self) -> Notice | None:
        """The notice whose limit was set last."""
        return self.limit_before(None)

    def limit_before(self, line: AuditLine | None) -> Notice | None:
        """The notice whose limit was the last one set before a line."""
        setting = (n for n in self.notices if n.last_day and self._served(n, line))
        return max(setting, key=lambda n: self.steps[n.step].id, default=None)

    def _served(self, notice: Notice, before: AuditLine | None) -> bool:
        served = self.steps.get(notice.step)
        return served is not None and (before is None or served.id < before.id)

    @property
    def unserved(self) -> Notice | None:
        """The newest notice, if it is drafted and not served."""
        return self.notices[-1] if self.notices and self.notices[-1].served_at is None else None

    @property
    def held(self) -> AuditLine | None:
        """The line with which an officer has held the case, unless it was resumed."""
        lines = [line for line in self.lines if line.step.startswith(("hold-", "resume-"))]
        return lines[-1] if lines and lines[-1].step.startswith("hold-") else None

    @cached_property
    def undone(self) -> AuditLine | None:
        """The line with which it was found that the case did not stand."""
        found = (line for line in self.lines if line.step.startswith("undo") and "effects" in line.result)
        return next(found, None)

    @cached_property
    def ended(self) -> AuditLine | None:
        """The line with which the case ended."""
        return self.steps.get("close") or self.undone

    def typed(self, what: Awaiting) -> str:
        """What an officer types to do what waits."""
        case = self.case
        names = {"case_no": case.case_no, "kind": case.kind, "number": case.number, "agent_id": case.agent_id}
        waited = {"id": 0, "working_days": 0, "raised": 0, "raised_on": None, "escalated_on": None}
        wait = {**names, **waited, "agent_name": case.agent.name, "what": what, "since": case.opened_at}
        return command(Waiting.model_validate(wait))


def explain(on_record: Sessions, named: str, now: datetime) -> Explained:
    """Explain a case by its case number, workflow id or 400 number (then the newest).

    Raises `Refused` where there is none.
    """
    with on_record() as session:
        session.execute(text("set transaction isolation level repeatable read, read only"))
        meant = (
            (Case.case_no == named.upper())
            | (Case.workflow_id == named)
            | (Case.number == plain_number(named))
        )
        newest_first = select(Case).where(meant).order_by(Case.opened_at.desc(), Case.case_no.desc())
        found = session.scalars(newest_first).all()
        if not found:
            raise Refused(f"no case {named} is in the registry")
        case, *others = found
        of = _Record.of(session, case)
        deeds = tuple(_deed(session, of, line) for line in of.lines)
        coming = _coming(session, of, max([now, *(line.at for line in of.lines)]))
        cited = {
            *(rule for deed in deeds for rule in deed.rules),
            *(rule for n in coming for rule in n.rules),
        }
        return Explained(
            case_no=case.case_no,
            workflow_id=case.workflow_id,
            kind=case.kind,
            number=case.number,
            customer=of.number.customer,
            agent_id=case.agent_id,
            agent_name=case.agent.name,
            policy=case.policy,
            outcome=case.outcome,
            closed_at=case.closed_at,
            balance=of.balance,
            deeds=deeds,
            filings=tuple(map(shown, of.filings)),
            next=coming,
            rules={rule: says for rule, says in SAYS.items() if rule in cited},
            others=tuple(Other(case_no=o.case_no, kind=o.kind, outcome=o.outcome) for o in others),
        )


# What was done


def _deed(session: Session, of: _Record, line: AuditLine) -> Deed:
    penalty = _meaning(line.step).penalty
    evidence = tuple(_evidence(of, line)) if penalty else tuple(_files(session, of, line))
    return Deed(
        step=line.step,
        at=line.at,
        by=line.actor,
        text=line.text,
        rules=_rules(of, line),
        penalty=penalty,
        evidence=evidence,
        warned=_warned(of, line) if line.step in _AFTER_A_LIMIT else None,
        letter=_told_by(of, line),
        earlier=_earlier(session, of, line) if line.step == "fine" else (),
        later=tuple(_later(session, of, line.step)) if penalty else (),
    )


def _rules(of: _Record, line: AuditLine) -> tuple[str, ...]:
    if line.step.startswith("payment-") and of.ended and line.id > of.ended.id:
        return "6.1", "6.3"
    if line.step.startswith("filing-") and of.undone and line.id > of.undone.id:
        return ("5.2",)
    if re.fullmatch("notice-deadline(-[0-9]+)?", line.step):
        moves = [move for move in of.lines if move.id < line.id and _MOVES.fullmatch(move.step)]
        return rules_of(moves[-1].step if moves else line.step, of.case.kind)
    closed = of.steps.get("close")
    said = closed.result.get("outcome", of.case.outcome) if closed else of.case.outcome
    return rules_of(line.step, of.case.kind, Stage(said) if said else None)


def _letter(notice: Notice) -> Letter:
    limit = Deadline(last_day=notice.last_day, provisional=notice.provisional) if notice.last_day else None
    return Letter(
        notice_no=notice.notice_no,
        kind=notice.kind,
        sha256=notice.sha256,
        served_at=notice.served_at,
        how=notice.receipt or "",
        limit=limit,
        stopped_at=notice.stopped_at,
    )


def _told_by(of: _Record, line: AuditLine) -> Letter | None:
    """The notice that a line is about, or else the one that told the agent of what the line says."""
    told = _meaning(line.step).told
    for notice in of.notices:
        served = of.steps.get(notice.step)
        own = line.step in (notice.step, f"{notice.step}-undeliverable")
        if own or (notice.kind is told and served and served.id > line.id):
            return _letter(notice)
    return None


def _warned(of: _Record, line: AuditLine) -> Warned | None:
    notice = of.limit_before(line)
    if notice is None or notice.last_day is None:
        return None
    since = of.steps[notice.step].id
    moves = (m for m in of.lines if since < m.id < line.id and _MOVES.fullmatch(m.step))
    return Warned(
        letter=_letter(notice),
        moved=tuple(Line.of(move) for move in moves),
        passed=notice.stopped_at is None and line.at >= Deadline(last_day=notice.last_day).at,
    )


def _evidence(of: _Record, line: AuditLine) -> Iterator[Proof]:
    """What a penalty rests on: the reports that had joined by then, and what officers had found."""
    for row in of.reports:
        report = Report.model_validate(row.payload)
        joined = of.steps.get(f"report-{report.key}")
        if joined.id < line.id if joined else row.received_at <= line.recorded_at:
            exact = json.dumps(row.payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            yield Proof(
                what=f"report {report.key}",
                says=report.facts,
                by=report.reported_by,
                at=joined.at if joined else of.case.opened_at,
                sha256=hashlib.sha256(exact.encode()).hexdigest(),
            )
    for found in of.lines:
        if found.id < line.id and found.text.startswith("Verification failed"):
            yield Proof(what="verification", says=found.text, by=found.actor, at=found.at)
    if line.step == "filings" or line.step.startswith("serious-"):
        yield from _findings(of, line)


def _findings(of: _Record, line: AuditLine) -> Iterator[Proof]:
    """What two officers found: that the circumstances are serious, with the evidence of the first."""
    approved = next(
        a for a in reversed(of.lines) if a.id <= line.id and re.fullmatch("serious-.+-close", a.step)
    )
    proposed = of.steps[f"{approved.step.removesuffix('close')}proposed"]
    yield Proof(what="finding", says=proposed.text, by=proposed.actor, at=proposed.at)
    if approved is not line:
        yield Proof(what="approval", says=approved.text, by=approved.actor, at=approved.at)
    serious = of.filings[0].attachment["serious"] if of.filings else {}
    for piece in serious.get("evidence", ()):
        yield Proof(what="evidence", says=piece, by=proposed.actor, at=proposed.at)


def _files(session: Session, of: _Record, line: AuditLine) -> Iterator[Proof]:
    """The files of an appeal, with the line that files or decides it."""
    for appeal in of.appeals:
        if line.result.get("appeal_no") == appeal.appeal_no or (
            line.step.startswith("decide-") and line.at == appeal.decided_at
        ):
            files = select(Evidence.name, Evidence.added_by, Evidence.added_at, Evidence.sha256)
            ordered = files.where(Evidence.sha256.in_(appeal.evidence)).order_by(Evidence.name)
            for name, by, at, sha256 in session.execute(ordered):
                yield Proof(what="file", says=name, by=by, at=at, sha256=sha256)


def _earlier(session: Session, of: _Record, line: AuditLine) -> tuple[str, ...]:
    """The cases whose fines stood when this one was set, and so counted as earlier offences (5.5, 7.3)."""
    own = select(func.min(Fine.id)).where(Fine.case_no == of.case.case_no).scalar_subquery()
    voided = select(AuditLine.case_no).where(AuditLine.step == "fine-void", AuditLine.id < line.id)
    stood = (
        select(Fine.case_no)
        .where(Fine.agent_id == of.case.agent_id, Fine.kind == of.case.kind, Fine.id < own)
        .where(Fine.case_no.not_in(voided))
    )
    return tuple(session.scalars(stood.order_by(Fine.id)))


def _later(session: Session, of: _Record, step: str) -> Iterator[Later]:
    """What became of a penalty: undone with the case, or a fine reviewed, a hold lifted without an undo."""
    old = {"fine": "fine-void", "freeze": "unfreeze", "account-suspend": "account-reopen"}
    undoing = of.steps.get(f"undo-{step}") or of.steps.get(old.get(step, ""))
    if step == "fine":
        for line in of.lines:
            if line.step.startswith("review-after-"):
                yield Later(at=line.at, by=line.actor, text=line.text, undone=False)
    if undoing:
        because = of.undone or of.steps.get("close")
        why = f" ({because.text})" if because else ""
        yield Later(at=undoing.at, by=undoing.actor, text=f"{undoing.text}{why}", undone=True)
        return
    held = [hold for hold in of.holds if hold.step == step]
    for at, lifted in groupby(held, key=lambda hold: hold.lifted_at):
        by = {hold.lifted_by or "" for hold in lifted}
        freed = [step for step in by if step.startswith("quarantine-")]
        if at and freed:
            yield Later(at=at, by=SYSTEM, text=f"the quarantine of {len(freed)} numbers ended", undone=False)
        elif at:
            lifting = select(AuditLine).where(AuditLine.case_no.in_(by), AuditLine.at == at)
            for line in session.scalars(lifting.order_by(AuditLine.id).limit(1)):
                yield Later(at=at, by=line.actor, text=f"{line.text} ({line.case_no})", undone=False)


# What comes next


def _coming(session: Session, of: _Record, as_of: datetime) -> tuple[Next, ...]:
    days = calendar(session)
    waiting = tuple(_waiting(of, days, as_of))
    if of.case.closed_at:
        after = (*_left_to_officers(of), *_after_the_end(session, of, as_of))
        return (*waiting, *sorted(after, key=lambda what: what.at or as_of))
    if any(what.holds_up for what in waiting):
        return waiting
    return (*waiting, *_among_others(session, of, days, as_of))


def _waiting(of: _Record, days: Calendar, as_of: datetime) -> Iterator[Next]:
    """What waits for an officer; while a case is open, most of it holds everything else up."""
    is_open = of.case.closed_at is None
    # With the account closed, the case has left its clause, and no limit runs any more.
    limit = None if "account-closed" in of.steps else of.limit

    def waits(what: Awaiting, told: str, rules: str, holds_up: bool = is_open) -> Next:
        if what in of.waits:
            told = f"{told}; {_brought_up(of.waits[what], days, as_of)}"
        return Next(text=told, rules=(*rules.split(), "5.7"), command=of.typed(what), holds_up=holds_up)

    left = ""
    if is_open and limit and limit.stopped_at:
        left = f"; then {limit.working_days} working days of the limit are left"
    if notice := of.unserved:
        clock = ", and no clock starts before it is" if notice.last_day else ""
        told = f"notice {notice.notice_no} ({notice.kind}) is not served yet{clock}"
        yield waits(Awaiting.DELIVERY, told, "4.6", is_open and notice.kind is not NoticeKind.FINE_LOWERED)
    if Awaiting.APPEAL in of.waits:
        told = f"appeal {of.appeals[-1].appeal_no} waits for an officer who had no part in the case{left}"
        yield waits(Awaiting.APPEAL, told, "5.1 4.4" if is_open else "5.1")
    if is_open and limit and (held := of.held):
        told = f"held by {held.actor}: the clock stands still until the case is resumed{left}"
        yield Next(text=told, rules=("4.4",), command=f"enforce resume {of.case.case_no}", holds_up=True)
    if Awaiting.VERIFICATION in of.waits and limit:
        ends = _reckoned(limit, days)
        rest = left or (
            f"; if it fails, the limit {'ends' if ends.at > as_of else 'has ended'} {ends.last_day} 24:00"
        )
        told = f"rectification is reported: no penalty before an officer has verified it{rest}"
        yield waits(Awaiting.VERIFICATION, told, f"4.5 {of.case.kind.clause}.2")
    if Awaiting.APPROVAL in of.waits:
        told = "serious circumstances are proposed: nothing follows from it until a second officer approves"
        yield waits(Awaiting.APPROVAL, told, "1.6", False)


def _brought_up(since: datetime, days: Calendar, as_of: datetime) -> str:
    """When what waits is brought up (5.7): on the working day after so many full ones."""
    limits = in_force(_day(as_of)).officers
    again, higher = (
        deadline(since, limit + 1, days).last_day for limit in (limits.raise_after, limits.escalate_after)
    )
    return f"it is brought up each working day from {again}, to the supervisor from {higher}"


def _among_others(session: Session, of: _Record, days: Calendar, as_of: datetime) -> list[Next]:
    """What the rules do in an open case if nobody acts, unless another case shuts the account first (7.2)."""
    course = list(_course(session, of, days, as_of))
    account = session.get_one(Account, of.case.agent_id)
    shutting: list[tuple[datetime, str, Deadline | None]] = []
    if (already := account.closed_by or account.shut_down_by) and already != of.case.case_no:
        shutting.append((as_of, already, None))
    still_open = select(Case).where(Case.agent_id == of.case.agent_id, Case.closed_at.is_(None))
    for case in session.scalars(still_open.where(Case.case_no != of.case.case_no)):
        other = _Record.of(session, case)
        if not any(what.holds_up for what in _waiting(other, days, as_of)):
            theirs = _course(session, other, days, as_of)
            shutting += [(n.at, case.case_no, n.limit) for n in theirs if n.at and _shuts(n)]
    own = next((n.at for n in course if n.at and _ends(n)), None)
    if not shutting or (own and own < min(shutting)[0]):
        return course
    at, by, limit = min(shutting)
    told = f"case {by} has shut the account down by then: this case ends, and a fine that is set stays due"
    return [
        *(what for what in course if what.at and what.at < at),
        Next(at=at, limit=limit, text=told, rules=("7.2",)),
    ]


def _shuts(what: Next) -> bool:
    return not {"1.5", "2.5"}.isdisjoint(what.rules)


def _ends(what: Next) -> bool:
    return _shuts(what) or not {"3.3", "6.2"}.isdisjoint(what.rules)


def _course(session: Session, of: _Record, days: Calendar, as_of: datetime) -> Iterator[Next]:
    """What the rules do in an open case if nobody acts, as if the agent had no other."""
    case, policy, limit = of.case, of.policy, of.limit
    if (
        limit is None
        or _FOLLOWS.get(limit.kind, "open") in of.steps
        or (of.steps.get("fine") and of.balance.settled)
    ):
        yield Next(at=as_of, text="its next step is under way")
        return
    spread = policy.clock.spread(case.case_no)
    ends, due = _reckoned(limit, days), of.balance.due
    at = max(ends.at + spread, as_of)
    if limit.kind is NoticeKind.SERVICE_ORDER:
        told = f"the limit to serve ends: number {written(case.number)} is taken back and served directly"
        yield Next(at=at, limit=ends, text=told, rules=rules_of("take-back", case.kind))
        yield _renewal(of, at)
        return
    if limit.kind is NoticeKind.RECTIFICATION_ORDER:
        offence = _offences(session, case) + 1
        fine = policy.fine(case.kind, offence)
        told = (
            f"the limit to rectify ends: fined {yuan(fine)} (offence {offence} as of now), punishment notice"
        )
        yield Next(at=at, limit=ends, text=told, rules=(*rules_of("fine", case.kind), "2.4"))
        due = Balance(fine=fine, paid=of.balance.paid).due
        if not due:
            yield Next(at=at, text="what was paid already settles it: the case ends", rules=("6.2",))
            return
        ends = deadline(at, policy.secondary_sale.pay_within, days)
        at = ends.at + spread
    taken = (
        select(func.count())
        .select_from(Number)
        .where(
            Number.agent_id == case.agent_id,
            Number.status != NumberStatus.FREE,
            Number.holder == Holder.AGENT,
        )
    )
    told = (
        f"the limit to pay ends with {yuan(due)} due: the account is shut down, "
        f"{session.scalar(taken)} numbers (as of now) are taken back"
    )
    yield Next(at=at, limit=ends, text=told, rules=rules_of("account-shutdown", case.kind))
    rests = Deadline(last_day=_day(at) + timedelta(days=policy.quarantine.days), provisional=ends.provisional)
    yield Next(at=rests.at, limit=rests, text="their quarantine ends: they are free", rules=("5.3",))


def _reckoned(notice: Notice, days: Calendar) -> Deadline:
    """The deadline of a notice as it is computed anew when its timer fires (4.3)."""
    assert notice.counted_from and notice.working_days and notice.last_day
    promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
    return later(promised, deadline(notice.counted_from, notice.working_days, days))


def _offences(session: Session, case: Case) -> int:
    standing = (Fine.agent_id == case.agent_id) & (Fine.kind == case.kind) & (Fine.status != FineStatus.VOID)
    return session.scalar(select(func.count(Fine.case_no.distinct())).where(standing)) or 0


def _renewal(of: _Record, as_of: datetime) -> Next:
    """The next renewal of a number in direct service (3.3)."""
    due = Deadline(last_day=of.number.renewal_due)
    brought_up = due.last_day - timedelta(days=in_force(_day(as_of)).service_failure.renewal_notice)
    return Next(
        at=due.at,
        limit=due,
        text=f"the platform renews number {written(of.case.number)} by then; brought up on {brought_up}",
        rules=("3.3",),
        command=of.typed(Awaiting.RENEWAL),
    )


def _left_to_officers(of: _Record) -> Iterator[Next]:
    """What is left to officers of a case that has ended: filings; and, undone, what it can't give back."""
    for filing in of.filings:
        if not filing.status.done:
            withdrawing = filing.status is FilingStatus.WITHDRAWING
            yield Next(
                text=f"filing {filing.filing_no} to {filing.recipient} is {filing.status}",
                rules=("5.2",) if withdrawing else ("1.6",),
                command=of.typed(Awaiting.WITHDRAWAL if withdrawing else Awaiting.FILING).replace(
                    "FILING", filing.filing_no
                ),
            )
    unpaid = [p.amount for p in of.payments if p.refund_due_at and not p.refunded_at]
    if unpaid:
        told = f"{yuan(sum(unpaid, ZERO))} is to be refunded"
        yield Next(text=told, rules=("5.2",), command=of.typed(Awaiting.REFUND))
    for line in of.lines:
        for number in line.result.get("lost", ()):
            if f"substitute-{number}" not in of.steps:
                told = f"number {written(number)} can't be returned: a substitute is to be found"
                typed = of.typed(Awaiting.SUBSTITUTE).replace("NUMBER", number, 1)
                yield Next(text=told, rules=("5.2", "5.3"), command=typed)


def _after_the_end(session: Session, of: _Record, as_of: datetime) -> Iterator[Next]:
    """What comes of a case that has ended: until when it can be contested, and what it still holds."""
    case = of.case
    assert case.closed_at and case.outcome
    if case.outcome.undone:
        yield from _reviews(session, of)
        return
    until = Deadline(last_day=_day(case.closed_at) + timedelta(days=of.policy.appeal.within))
    told = f"the agent {'can' if as_of < until.at else 'could'} appeal until then"
    typed = f'enforce appeal {case.case_no} --statement "..."'
    yield Next(at=until.at, limit=until, text=told, rules=("5.1",), command=typed)
    if of.balance.due:
        typed = f"enforce paid {case.case_no} AMOUNT --reference REFERENCE"
        yield Next(text=f"{yuan(of.balance.due)} stays due as debt", rules=("6.3",), command=typed)
    if of.balance.owed_back:
        yield Next(text=f"{yuan(of.balance.owed_back)} is owed back", rules=("6.2",))
    standing = [hold for hold in of.holds if hold.lifted_at is None]
    if case.outcome is Stage.SETTLED:
        for hold in standing:
            what, act = (
                ("the number stays frozen", "unfreeze")
                if hold.kind is Hold.FREEZE
                else ("the account stays suspended", "reopen")
            )
            yield Next(text=what, rules=("1.4",), command=f"enforce {act} {case.case_no}")
    if any(hold.kind is Hold.TAKE_BACK for hold in standing):
        yield _renewal(of, as_of)
    resting = session.scalars(
        select(Number.quarantined_until).where(
            Number.number.in_([h.number for h in standing if h.kind is Hold.RECLAIM]),
            Number.status == NumberStatus.QUARANTINED,
        )
    )
    for day, count in sorted(Counter(day for day in resting if day).items()):
        rests = Deadline(last_day=day)
        told = f"the quarantine of {count} numbers ends: they are free"
        yield Next(at=rests.at, limit=rests, text=told, rules=("5.3",))


def _reviews(session: Session, of: _Record) -> Iterator[Next]:
    """The later fines that the undone offence had raised, and that no officer has reviewed yet (5.5)."""
    voided = of.steps.get("fine-void")
    for raised in voided.result.get("raised", ()) if voided else ():
        reviewed = select(AuditLine.id).where(
            AuditLine.case_no == raised["case_no"], AuditLine.step == f"review-after-{of.case.case_no}"
        )
        if session.scalar(reviewed) is None:
            amounts = (yuan(Decimal(raised[key])) for key in ("amount", "would_be"))
            yield Next(
                text=f"the fine of {raised['case_no']} is to be reviewed: {' or '.join(amounts)}",
                rules=("5.5",),
                command=of.typed(Awaiting.REVIEW).replace("FINED", raised["case_no"]),
            )


def _day(moment: datetime) -> date:
    return moment.astimezone(SHANGHAI).date()
