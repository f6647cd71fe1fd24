"""Policies side by side, and a draft against the record, read in one snapshot that touches nothing."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.calendar import calendar
from registry.models import AuditLine, Case, Fine, Notice
from registry.session import Sessions, snapshot
from rulebook.backtest import Act, Backtest, CaseFacts, Deed, Outcome, backtest
from rulebook.money import ZERO
from rulebook.policy import Policy, faults, in_force, load, published
from rulebook.vocabulary import SHANGHAI, Business, FineStatus, Kind, NoticeKind, Stage
from starter.settings import Refused


class Difference(BaseModel):
    """One thing that two policies set differently; none where a policy doesn't set it."""

    model_config = ConfigDict(frozen=True)

    key: str
    old: int | date | None
    new: int | date | None


def draft(file: Path) -> Policy:
    """The policy in a file. Raises `Refused` with all that is wrong with it."""
    try:
        content = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if wrong := faults(content):
        raise Refused("\n  ".join([f"{file} is no policy", *wrong]))
    return load(content)


def checked(file: Path) -> Policy:
    """A draft that could be published. Raises `Refused` with all that is wrong with it."""
    policy = draft(file)
    if any(known.effective == policy.effective and known != policy for known in published()):
        raise Refused(
            f"{file} can't be published\n  effective: the policy of {policy.effective} is published, and "
            "never changes; a new one takes a day of its own"
        )
    return policy


def in_force_on(day: date) -> Policy:
    """The policy in force on a day. Raises `Refused` before the first one."""
    try:
        return in_force(day)
    except LookupError as error:
        raise Refused(str(error)) from error


def named(which: str) -> Policy:
    """The policy in force on a day, or the one in a file. Raises `Refused` where there is none."""
    try:
        day = date.fromisoformat(which)
    except ValueError:
        return draft(Path(which))
    return in_force_on(day)


def differences(old: Policy, new: Policy) -> list[Difference]:
    """What two policies set differently, in the order of the file."""
    before, after = old.values(), new.values()
    return [Difference(key=k, old=before[k], new=after[k]) for k in before if before[k] != after[k]]


def against_the_record(
    on_record: Sessions, policy: Policy, since: date, until: date, now: datetime
) -> Backtest:
    """The backtest of a policy on the cases opened on these days, in one snapshot of the registry."""
    with snapshot(on_record) as session:
        record, days = _facts(session, since, until), calendar(session)
    # Where clocks are moved on, as in the demo, the record is ahead of now.
    newest = max((at for case in record for at in (case.opened_at, *(a.at for a in case.acts))), default=now)
    return backtest(policy, days, record, since, until, max(now, newest))


class _Line(NamedTuple):
    """One line of the audit trail."""

    step: str
    at: datetime
    text: str
    result: dict[str, Any]


@dataclass
class _Of:
    """What belongs to one case."""

    trail: list[_Line] = field(default_factory=list)
    served: dict[Stage, datetime] = field(default_factory=dict)
    fine: Fine | None = None


def _facts(session: Session, since: date, until: date) -> list[CaseFacts]:
    """All cases of the agents of the cases that were opened on these days, as they are on record."""
    begins, ends = (datetime.combine(day, time(), SHANGHAI) for day in (since, until + timedelta(days=1)))
    agents = select(Case.agent_id).where(Case.opened_at >= begins, Case.opened_at < ends)
    cases = session.scalars(select(Case).where(Case.agent_id.in_(agents))).all()
    nos = select(Case.case_no).where(Case.agent_id.in_(agents))
    of: defaultdict[str, _Of] = defaultdict(_Of)

    line = AuditLine
    lines = select(line.case_no, line.step, line.at, line.text, line.result).order_by(line.id)
    for case_no, *said in session.execute(lines.where(line.case_no.in_(nos))):
        of[case_no].trail.append(_Line(*said))
    notices = select(Notice.case_no, Notice.kind, Notice.served_at).where(Notice.case_no.in_(nos))
    for case_no, kind, at in session.execute(notices):
        if at and kind in _BEGINS:
            of[case_no].served[_BEGINS[kind]] = at
    standing = select(Fine).where(Fine.case_no.in_(nos), Fine.status != FineStatus.VOID)
    for fine in session.scalars(standing):
        of[fine.case_no].fine = fine
    return [_case(case, of[case.case_no]) for case in cases]


def _case(case: Case, of: _Of) -> CaseFacts:
    acts = tuple(act for line in of.trail if (act := _act(line)))
    taken_back = next((act.at for act in acts if act.deed is Deed.TAKEN_BACK), None)
    [opened] = (_OPENED.search(line.text) for line in of.trail if line.step == "open")
    assert opened
    return CaseFacts(
        case_no=case.case_no,
        kind=case.kind,
        agent=case.agent_id,
        number=case.number,
        business=Business(opened[1]),
        opened_at=case.opened_at,
        served=of.served,
        acts=acts,
        on_record=Outcome(
            stage=case.outcome or _stands(case, of.fine, acts),
            offence=of.fine.offence if of.fine else None,
            fine=of.fine.amount if of.fine else ZERO,
            taken_back_at=None if case.outcome and case.outcome.undone else taken_back,
        ),
    )


def _stands(case: Case, fine: Fine | None, acts: tuple[Act, ...]) -> Stage:
    """The stage of an open case. One that waits only for a letter or for an appeal counts as ended."""
    for act in acts:
        if act.deed is Deed.TAKEN_BACK:
            return Stage.TAKEN_BACK if case.kind is Kind.SERVICE_FAILURE else Stage.SHUT_DOWN
        if act.deed in _ENDS:
            return _ENDS[act.deed]
    if fine:
        return Stage.SETTLED if fine.status is FineStatus.SETTLED else Stage.PAYMENT
    return Stage.RECTIFICATION


_ENDS = {
    Deed.PASSED: Stage.RECTIFIED,
    Deed.CONFIRMED: Stage.RECTIFIED,
    Deed.OVERTAKEN: Stage.OVERTAKEN,
}
# The stage that a notice begins.
_BEGINS = {
    NoticeKind.RECTIFICATION_ORDER: Stage.RECTIFICATION,
    NoticeKind.SERVICE_ORDER: Stage.RECTIFICATION,
    NoticeKind.PUNISHMENT: Stage.PAYMENT,
}
# The steps of a case that matter, and what they say was done.
_DEEDS = {
    "report-.*": Deed.REPORTED,
    "rectification-.*": Deed.RECTIFIED,
    "verify-.*": Deed.PASSED,
    "customer-confirmed": Deed.CONFIRMED,
    "payment-.*": Deed.PAID,
    "extend-.*": Deed.EXTENDED,
    "hold-.*": Deed.HELD,
    "resume-.*": Deed.RESUMED,
    "appeal-.*": Deed.APPEALED,
    "decide-.*": Deed.DECIDED,
    "review-.*": Deed.LOWERED,
    "fine": Deed.FINED,
    "account-shutdown|take-back": Deed.TAKEN_BACK,
    "account-closed": Deed.OVERTAKEN,
    "serious-.*-close": Deed.CLOSED_FOR_GOOD,
    "undo|undo-.*|close": Deed.UNDONE,
}
_OPENED = re.compile(r"(\w+) business, under the policy of \S+$")
_EXTENDED = re.compile(r"Limit extended by (\d+) working days")


def _act(line: _Line) -> Act | None:
    """What a line of the audit trail says was done, if it matters."""
    deed = next((deed for step, deed in _DEEDS.items() if re.fullmatch(step, line.step)), None)
    amount, working_days = ZERO, 0
    match deed:
        case Deed.PASSED if not line.text.startswith("Verification passed"):
            deed = Deed.FAILED
        case Deed.PAID:
            amount = Decimal(line.result["amount"])
        case Deed.EXTENDED if extended := _EXTENDED.match(line.text):
            working_days = int(extended[1])
        case Deed.LOWERED if not line.result["lowered"]:
            deed = None
        case Deed.TAKEN_BACK if line.result.get("direct") is False:
            deed = None  # another case came first
        case Deed.UNDONE if line.step == "close" and not Stage(line.result["outcome"]).undone:
            deed = None
    if deed is None:
        return None
    return Act(at=line.at, deed=deed, amount=amount, working_days=working_days)
