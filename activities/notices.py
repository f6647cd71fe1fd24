"""Notices: rendered, recorded, served; and the deadlines that hang on them (rulebook 4)."""

import hashlib
from datetime import date, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from temporalio import activity

from activities.channels import Channel
from activities.fines import balance
from activities.step import Serious, Step
from registry import audit
from registry.calendar import calendar
from registry.models import Case, Fine, Notice, Number, ReportRow
from registry.session import Sessions
from rulebook.money import Balance
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, FineStatus, Kind, NoticeKind, Stage, one_line, written
from rulebook.working_days import Deadline, deadline, later

TEMPLATES = Path(__file__).parent.parent / "templates"
LANGUAGES = ("zh", "en")


class ServeNotice(Step):
    """A notice to serve. With `working_days` it sets a limit.

    The rest is what some letters say beyond the record: how and why a case ends, which case overtook it,
    which clause shuts an account down, what makes the circumstances serious.
    """

    kind: NoticeKind
    working_days: int | None = None
    outcome: Stage | None = None
    reason: str = ""
    overtaken_by: str = ""
    clause: str = ""
    serious: Serious | None = None


class NoticeServed(audit.Done):
    """A notice that was handed over to its channel, and the deadline that it promises."""

    notice_no: str
    sha256: str
    deadline: Deadline | None = None


class ReckonDeadline(Step):
    """Compute the deadline of a notice anew; `step` is the notice's."""


class DeadlineReckoned(audit.Done):
    """The deadline as of now; when it is computed anew, also what the registry knows of money and end."""

    deadline: Deadline
    balance: Balance = Balance()
    outcome: Stage | None = None


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
            notice_no, recipient, content = notice.notice_no, notice.recipient, notice.content

        receipt = self._channel.deliver(notice_no, recipient, content)

        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed):
                return done
            notice = session.get_one(Notice, notice_no)
            notice.served_at, notice.receipt = at, receipt
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
        reclaimed = session.scalars(
            select(Number.number).where(Number.reclaimed_by == case.case_no).order_by(Number.number)
        )
        policy = in_force(case.policy)
        facts: dict[str, Any] = {
            "policy": policy,
            "notice": notice,
            "case": case,
            "agent": case.agent,
            "number": number,
            "reports": [Report.model_validate(row.payload) for row in reports],
            "limit": limit,
            "working_days": order.working_days,
            "fine": fine,
            "balance": balance(session, case.case_no),
            "reclaimed": reclaimed.all(),
            "quarantine": policy.quarantine.days,
            "outcome": order.outcome,
            "reason": order.reason,
            "overtaken_by": order.overtaken_by,
            "clause": order.clause,
            "serious": order.serious,
            "at": notice.drafted_at,
        }
        bodies = [self._template(language, case.kind, order.kind).render(facts) for language in LANGUAGES]
        # The first line of the Chinese letter is its title, and so the subject of the mail.
        subject = bodies[0].splitlines()[0]

        message = EmailMessage(policy=SMTP.clone(cte_type="8bit", max_line_length=998))
        message["From"] = self._sender
        message["To"] = one_line(notice.recipient)
        message["Subject"] = one_line(f"{subject} {notice.notice_no}")
        message["Date"] = notice.drafted_at
        # Drafted anew on a later day it is another letter: a mailbox must not take it for the first one.
        identity = f"{notice.notice_no}.{_day(notice.drafted_at):%Y%m%d}"
        message["Message-ID"] = f"<{identity}@{self._sender.partition('@')[2] or 'localhost'}>"
        message.set_content("\n".join(bodies), charset="utf-8")
        return message.as_bytes()

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
        if notice.served_at is None or notice.last_day is None or notice.working_days is None:
            raise ValueError(f"notice {notice.notice_no} sets no limit that runs")
        promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
        now = later(promised, deadline(notice.served_at, notice.working_days, calendar(session)))
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
