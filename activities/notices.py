"""Notices: rendered, recorded, served; and the deadlines that hang on them (rulebook 4)."""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.channels import Channel, Letter, Undeliverable, mail
from activities.fines import balance
from activities.step import Refused, Serious, Step, the_case
from registry import audit, waits
from registry.calendar import calendar
from registry.models import Case, Evidence, Filing, Fine, HoldRow, Notice, Number, ReportRow
from registry.session import Sessions
from rulebook.money import Balance
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    Awaiting,
    FineStatus,
    Hold,
    Holder,
    Kind,
    NoticeKind,
    Stage,
    one_line,
    written,
)
from rulebook.working_days import Deadline, deadline, later, working_days

TEMPLATES = Path(__file__).parent.parent / "templates"
LANGUAGES = ("zh", "en")


class ServeNotice(Step):
    """A notice to serve. With `working_days` it sets a limit.

    The rest is what some letters say beyond the record: how and why a case ends, which case overtook it,
    which clause shuts an account down, what makes the circumstances serious, why a deadline has moved and to
    when (`limit` is none while the clock stands still), how an appeal was decided, what was undone.
    """

    kind: NoticeKind
    working_days: int | None = None
    outcome: Stage | None = None
    reason: str = ""
    overtaken_by: str = ""
    clause: str = ""
    serious: Serious | None = None
    cause: str = ""
    limit: Deadline | None = None
    lost: tuple[str, ...] = ()
    because_of: str = ""


class ServeByHand(Step):
    """An officer has served a notice that could not be delivered; `step` is the notice's (4.6).

    `on` is the day, in Asia/Shanghai; `proof` is the hash of a file that is on record as evidence.
    """

    method: str
    on: date
    proof: str


class StopClock(Step):
    """Stop the clock of a notice's limit: an appeal is pending, or an officer holds the case (4.4)."""

    notice_step: str
    why: str


class RestartClock(Step):
    """Let the clock of a notice's limit go on, with what was left of it."""

    notice_step: str
    why: str


class ClockStopped(audit.Done):
    """How many working days are left of the limit."""

    working_days: int


class NoticeServed(audit.Done):
    """A notice that was handed over to its channel, and the deadline that it promises."""

    notice_no: str
    sha256: str
    deadline: Deadline | None = None


class ReckonDeadline(Step):
    """Compute the deadline of a notice anew; `step` is the notice's."""


class DeadlineReckoned(audit.Done):
    """The deadline as of now; when it is computed anew, also what the registry knows of money and end.

    `reviewed` are the lines about a review of the case's fine (5.5).
    """

    deadline: Deadline
    balance: Balance = Balance()
    outcome: Stage | None = None
    offence: int | None = None
    reviewed: tuple[audit.Line, ...] = ()


class ExtendLimit(Step):
    """Give the agent more working days for the limit of a notice (4.4)."""

    notice_step: str
    working_days: int
    reason: str


def _day(moment: datetime | date) -> date:
    return moment.astimezone(SHANGHAI).date() if isinstance(moment, datetime) else moment


def _chinese_date(moment: datetime | date) -> str:
    day = _day(moment)
    return f"{day.year}年{day.month}月{day.day}日"


def _english_date(moment: datetime | date) -> str:
    day = _day(moment)
    return f"{day.day} {day:%B %Y}"


def _amount(value: Decimal | int) -> str:
    return f"{value:,.2f}"


def letters() -> Environment:
    """The letters' templates: a variable that is not known is an error, never a gap in a letter."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        # Plain text: there is no markup to escape. What could forge a line is taken out by `line`.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "line": one_line,
        "written": written,
        "zh_date": _chinese_date,
        "en_date": _english_date,
        "amount": _amount,
    }
    return environment


class Notices:
    """The activities on notices."""

    def __init__(self, sessions: Sessions, channel: Channel, sender: str) -> None:
        self._sessions = sessions
        self._channel = channel
        self._sender = sender
        self._letters = letters()

    @activity.defn
    def serve_notice(self, order: ServeNotice) -> NoticeServed:
        """Draft the notice, deliver it, and put on record that it was served: from then its clock runs (4.6).

        1. The draft is committed before it leaves: nothing goes out that is not on record.
        2. It is delivered outside any transaction, under its number: a crash here sends it once more, as the
           same letter, never not at all.
        3. Served and deadline are recorded. Only a retry on a later day drafts the letter anew, so that the
           deadline it promises is counted from the day on which it is really served.
        """
        info = activity.info()
        # A retry by the server comes later than was asked; a local activity has only the wall clock.
        at = order.at if info.is_local else info.current_attempt_scheduled_time
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed):
                return done
            notice = self._draft(session, order, at)
            notice_no = notice.notice_no
            letter = Letter(
                name=notice_no, to=notice.recipient, phone=self._phone(session, order), content=notice.content
            )

        try:
            receipt = self._channel.deliver(letter)
        except Undeliverable as why:
            self._undeliverable(order, notice_no, why.message)
            raise

        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed):
                return done
            notice = session.get_one(Notice, notice_no)
            notice.served_at, notice.receipt = at, receipt
            notice.counted_from = at if notice.working_days else None
            waits.end(session, order.case_no, Awaiting.DELIVERY, at)
            limit = (
                Deadline(last_day=notice.last_day, provisional=notice.provisional)
                if notice.last_day
                else None
            )
            text = f"Notice {notice_no} served: {order.kind}" + (f", limit ends {limit}" if limit else "")
            served = NoticeServed(
                line=audit.line(at, order.by, text),
                notice_no=notice_no,
                sha256=notice.sha256,
                deadline=limit,
            )
            return audit.record(session, order.case_no, order.step, served)

    def _undeliverable(self, order: ServeNotice, notice_no: str, why: str) -> None:
        step = f"{order.step}-undeliverable"
        with self._sessions.begin() as session:
            if audit.recorded(session, order.case_no, step, audit.Done):
                return
            waits.begin(session, order.case_no, Awaiting.DELIVERY, order.at)
            text = f"Notice {notice_no} can't be delivered: {why}. An officer has to serve it another way"
            line = audit.line(order.at, order.by, text)
            audit.record(session, order.case_no, step, audit.Done(line=line))

    @activity.defn
    def reckon_deadline(self, order: ReckonDeadline) -> DeadlineReckoned:
        """Compute a deadline anew from the calendar of now, before anybody is punished for it (4.3)."""
        with self._sessions.begin() as session:
            audit.lock(session, order.case_no)
            notice = self._notice(session, order.case_no, order.step)
            moved = self._move(session, notice, order, f"{order.step}-deadline", "Deadline computed anew")
            known = {
                "balance": balance(session, order.case_no),
                "outcome": session.get_one(Case, order.case_no).outcome,
                "offence": session.scalar(
                    select(Fine.offence).where(Fine.case_no == order.case_no, Fine.status != FineStatus.VOID)
                ),
                "reviewed": tuple(line for line in audit.trail(session, order.case_no, steps="review-%")),
            }
            return moved.model_copy(update=known)

    @activity.defn
    def extend_limit(self, order: ExtendLimit) -> DeadlineReckoned:
        """Extend the limit of a notice by working days (4.4)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned):
                return done
            notice = self._notice(session, order.case_no, order.notice_step)
            notice.working_days = (notice.working_days or 0) + order.working_days
            what = f"Limit extended by {order.working_days} working days ({order.reason})"
            return self._move(session, notice, order, order.step, what, always=True)

    @activity.defn
    def serve_by_hand(self, order: ServeByHand) -> NoticeServed:
        """Put on record how and when an officer served a notice; its clock starts on that day (4.6).

        Raises `Refused` if the notice was served already, for a day to come or before it was drafted, or
        where the proof is not on record.
        """
        with self._sessions.begin() as session:
            the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed):
                raise Refused(f"notice {done.notice_no} was served already: {done.line.text}")
            notice = self._notice(session, order.case_no, order.step)
            today, drafted = _day(order.at), _day(notice.drafted_at)
            if not drafted <= order.on <= today:
                raise Refused(f"notice {notice.notice_no} was drafted on {drafted}, and today is {today}")
            proof = session.get(Evidence, order.proof)
            if proof is None:
                raise Refused(f"no evidence is on record under {order.proof}")
            at = order.at if order.on == today else datetime.combine(order.on, time(23, 59), SHANGHAI)
            limit = None
            if notice.working_days:
                limit = deadline(at, notice.working_days, calendar(session))
                notice.counted_from = at
                notice.last_day, notice.provisional = limit.last_day, limit.provisional
            notice.served_at = at
            notice.receipt = f"by hand, {order.method}, by {order.by}; proof {proof.name}, {order.proof}"
            waits.end(session, order.case_no, Awaiting.DELIVERY, order.at)
            text = f"Notice {notice.notice_no} served by hand on {order.on} ({order.method}): {notice.kind}"
            text += f", limit ends {limit}" if limit else ""
            served = NoticeServed(
                line=audit.line(order.at, order.by, text),
                notice_no=notice.notice_no,
                sha256=notice.sha256,
                deadline=limit,
            )
            return audit.record(session, order.case_no, order.step, served)

    @activity.defn
    def stop_clock(self, order: StopClock) -> ClockStopped:
        """Stop the clock, and keep what is left of the limit in working days (4.4).

        The day on which it stops is left to the agent, and so is at least one day: it is told how it went on
        before it can be punished.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, ClockStopped):
                return done
            notice = self._notice(session, order.case_no, order.notice_step)
            assert notice.counted_from and notice.last_day
            first = max(_day(order.at), _day(notice.counted_from) + timedelta(days=1))
            left = max(1, working_days(first, notice.last_day, calendar(session)))
            notice.stopped_at, notice.working_days = order.at, left
            text = f"The clock stands still, {left} working days are left ({order.why})"
            stopped = ClockStopped(line=audit.line(order.at, order.by, text), working_days=left)
            return audit.record(session, order.case_no, order.step, stopped)

    @activity.defn
    def restart_clock(self, order: RestartClock) -> DeadlineReckoned:
        """Let the clock go on: what was left of the limit counts from the day after today (4.4)."""
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, DeadlineReckoned):
                return done
            notice = self._notice(session, order.case_no, order.notice_step)
            notice.counted_from, notice.stopped_at = order.at, None
            what = f"The clock goes on ({order.why})"
            return self._move(session, notice, order, order.step, what, always=True)

    def _draft(self, session: Session, order: ServeNotice, at: datetime) -> Notice:
        case = session.get_one(Case, order.case_no)
        notice = session.scalar(
            select(Notice).where(Notice.case_no == order.case_no, Notice.step == order.step)
        )
        if notice is None:
            earlier = session.scalar(
                select(func.count()).select_from(Notice).where(Notice.case_no == order.case_no)
            )
            notice = Notice(
                notice_no=f"{order.case_no}-N{(earlier or 0) + 1}",
                case_no=order.case_no,
                step=order.step,
                kind=order.kind,
            )
        elif _day(notice.drafted_at) == _day(at):
            return notice
        limit = None if order.working_days is None else deadline(at, order.working_days, calendar(session))
        number = session.get_one(Number, case.number)
        notice.recipient = number.customer_email if order.kind.to_customer else case.agent.email
        notice.drafted_at = at
        notice.working_days = order.working_days
        notice.last_day = limit.last_day if limit else None
        notice.provisional = bool(limit and limit.provisional)
        notice.content = self._letter(session, case, notice, order, limit)
        notice.sha256 = hashlib.sha256(notice.content).hexdigest()
        session.add(notice)
        return notice

    def _phone(self, session: Session, order: ServeNotice) -> str:
        return "" if order.kind.to_customer else session.get_one(Case, order.case_no).agent.phone

    def _letter(
        self, session: Session, case: Case, notice: Notice, order: ServeNotice, limit: Deadline | None
    ) -> bytes:
        number = session.get_one(Number, case.number)
        reports = session.scalars(
            select(ReportRow).where(ReportRow.case_no == case.case_no).order_by(ReportRow.id)
        )
        fine = session.scalar(
            select(Fine)
            .where(Fine.case_no == case.case_no, Fine.status != FineStatus.VOID)
            .order_by(Fine.id.desc())
            .limit(1)
        )
        voided = session.scalar(
            select(Fine).where(Fine.case_no == case.case_no, Fine.status == FineStatus.VOID).limit(1)
        )
        reclaimed = session.scalars(
            select(Number.number).where(Number.reclaimed_by == case.case_no).order_by(Number.number)
        )
        policy = in_force(case.policy)
        placed = session.scalars(select(HoldRow).where(HoldRow.case_no == case.case_no)).all()
        filings = session.scalars(
            select(Filing).where(Filing.case_no == case.case_no).order_by(Filing.filing_no)
        ).all()
        facts: dict[str, Any] = {
            "policy": policy,
            "notice": notice,
            "case": case,
            "agent": case.agent,
            "number": number,
            "reports": [Report.model_validate(row.payload) for row in reports],
            "limit": limit or order.limit,
            "working_days": order.working_days,
            "fine": fine,
            "voided": voided,
            "balance": balance(session, case.case_no),
            "reclaimed": reclaimed.all(),
            "quarantine": policy.quarantine.days,
            "outcome": order.outcome,
            "reason": order.reason,
            "overtaken_by": order.overtaken_by,
            "clause": order.clause,
            "serious": order.serious,
            "cause": order.cause,
            "held": {hold.kind for hold in placed},
            "returned": self._taken(session, placed, Holder.AGENT),
            "kept": self._taken(session, placed, Holder.PLATFORM),
            "lost": order.lost,
            "account": case.agent.account,
            "filings": filings,
            "because_of": order.because_of,
            "at": notice.drafted_at,
        }
        bodies = [self._template(language, case.kind, order.kind).render(facts) for language in LANGUAGES]
        # The first line of the Chinese letter is its title, and so the subject of the mail.
        subject = bodies[0].splitlines()[0]

        # Drafted anew on a later day it is another letter: a mailbox must not take it for the first one.
        identity = f"{notice.notice_no}.{_day(notice.drafted_at):%Y%m%d}"
        return mail(
            self._sender,
            notice.recipient,
            f"{subject} {notice.notice_no}",
            notice.drafted_at,
            identity,
            "\n".join(bodies),
        )

    def _taken(self, session: Session, placed: Sequence[HoldRow], holder: Holder) -> list[Number]:
        """The numbers that a case had taken back and that this holder has now."""
        taken = {hold.number for hold in placed if hold.kind in (Hold.RECLAIM, Hold.TAKE_BACK)}
        held = select(Number).where(Number.number.in_(taken), Number.holder == holder)
        return list(session.scalars(held.order_by(Number.number)))

    def _template(self, language: str, kind: Kind, notice: NoticeKind) -> Template:
        """The letter of this kind of violation, else the one that serves all kinds."""
        name = f"{notice}.txt.j2"
        return self._letters.select_template([f"{language}/{kind}/{name}", f"{language}/{name}"])

    def _notice(self, session: Session, case_no: str, step: str) -> Notice:
        return session.execute(
            select(Notice).where(Notice.case_no == case_no, Notice.step == step).with_for_update()
        ).scalar_one()

    def _move(
        self, session: Session, notice: Notice, order: Step, key: str, what: str, *, always: bool = False
    ) -> DeadlineReckoned:
        """Bring a notice's deadline to what the calendar says now, never earlier than it was promised."""
        if notice.counted_from is None or notice.last_day is None or notice.working_days is None:
            raise ValueError(f"notice {notice.notice_no} sets no limit that runs")
        promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
        now = later(promised, deadline(notice.counted_from, notice.working_days, calendar(session)))
        notice.last_day, notice.provisional = now.last_day, now.provisional
        line = audit.line(order.at, order.by, f"{what}: limit ends {now}")
        reckoned = DeadlineReckoned(line=line, deadline=now)
        if not always:
            if now == promised:
                return reckoned
            key = f"{key}-{now.last_day}{'-provisional' if now.provisional else ''}"
        if done := audit.recorded(session, order.case_no, key, DeadlineReckoned):
            return done
        return audit.record(session, order.case_no, key, reckoned)
