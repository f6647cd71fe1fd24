"""Notices: written, recorded, served (rulebook 4.6). The deadlines that hang on them are in limits.py."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from threading import BoundedSemaphore
from typing import Any, TypeVar

from sqlalchemy import case as sql_case
from sqlalchemy import func, inspect, select, update
from sqlalchemy.orm import Session, defer, joinedload
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.channels import Channel, Letter, Undeliverable, mail
from activities.fines import balance
from activities.letters import letters
from activities.step import Refused, Serious, Step, standing_case, the_case
from registry import audit, waits
from registry.calendar import calendar
from registry.models import Agent, AuditLine, Case, Evidence, Filing, Fine, HoldRow, Notice, Number, ReportRow
from registry.session import Sessions
from rulebook.deadlines import Deadline, later
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, Awaiting, FineStatus, Hold, Holder, NoticeKind, Stage, day_of
from rulebook.working_days import deadline

Row = TypeVar("Row", ReportRow, Fine, HoldRow, Filing)


class ServeNotice(Step):
    """A notice to serve. With `working_days` it sets a limit.

    The rest is what some letters say beyond the record: how and why a case ends, which case overtook it,
    which clause shuts an account down, what makes the circumstances serious, why a deadline has moved and to
    when (`limit` is none while the clock stands still), how an appeal was decided, what was undone, why a
    shutdown was taken back.
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


SAID = (
    "working_days",
    "outcome",
    "reason",
    "overtaken_by",
    "clause",
    "serious",
    "cause",
    "lost",
    "because_of",
)
"""What a letter may say beyond the record, as its order has it."""


class ServeByHand(Step):
    """An officer has served a notice that could not be delivered; `step` is the notice's (4.6).

    One that had been handed over and bounced is named by `bounced`, and the step is one of its own. `on` is
    the day, in Asia/Shanghai; `proof` is the hash of a file that is on record as evidence.
    """

    method: str
    on: date
    proof: str
    bounced: str = ""


class BounceNotice(Step):
    """A notice that had been handed over to its channel has come back as undeliverable."""

    notice_no: str
    reason: str


class NoticeServed(audit.Done):
    """A notice that was handed over to its channel, and the deadline that it promises."""

    notice_no: str
    sha256: str
    deadline: Deadline | None = None


class Later(ApplicationError):
    """The letter can't leave on the spot: it is to be handed to the deliveries."""

    def __init__(self) -> None:
        super().__init__(
            "too many letters leave on the spot",
            type="Later",
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        )


class Notices:
    """The activities on notices."""

    def __init__(self, sessions: Sessions, channel: Channel, sender: str, at_once: int) -> None:
        """`at_once` letters at most leave on the spot at one time: the rest waits among the deliveries."""
        self._sessions = sessions
        self._channel = channel
        self._sender = sender
        self._places = BoundedSemaphore(at_once)
        self._letters = letters()

    @activity.defn
    def serve_notice(self, order: ServeNotice) -> NoticeServed:
        """Draft the notice, deliver it, and put on record that it was served: from then its clock runs (4.6).

        1. The draft is committed before it leaves: nothing goes out that is not on record.
        2. It is delivered by one attempt at a time: a crash here sends it once more, as the same letter,
           never not at all; an attempt that was given up but goes on is waited for.
        3. Served and deadline are recorded. Only a retry on a later day drafts the letter anew, so that the
           deadline it promises is counted from the day on which it is really served.

        Raises `Refused` for the letter of a reinstatement if the case was undone since: that is told instead.
        """
        info = activity.info()
        # A retry by the server comes later than was asked; a local activity has only the wall clock.
        at = order.at if info.is_local else info.current_attempt_scheduled_time
        with self._sessions.begin() as session:
            self._alone(session, order)
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed, order.opened):
                return done
            if order.kind is NoticeKind.REINSTATED:
                standing_case(session, order.case_no)
            notice_no = self._draft(session, order, at).notice_no
        try:
            return self._deliver(order, notice_no, at)
        except Undeliverable as why:
            self._undeliverable(order, notice_no, why.message)
            raise

    def _deliver(self, order: ServeNotice, notice_no: str, at: datetime) -> NoticeServed:
        with self._sessions.begin() as session:
            self._alone(session, order)
            answer, notice, phone = session.execute(
                select(AuditLine.result, Notice, Agent.phone)
                .join(Case, Case.case_no == Notice.case_no)
                .join(Agent, Agent.agent_id == Case.agent_id)
                .outerjoin(AuditLine, (AuditLine.case_no == Notice.case_no) & (AuditLine.step == Notice.step))
                .where(Notice.notice_no == notice_no)
            ).one()
            if answer is not None:
                return NoticeServed.model_validate(answer)
            # Nothing is locked meanwhile but the notice's own service: a mail server may take its time.
            letter = Letter(
                name=notice_no,
                to=notice.recipient,
                phone="" if order.kind.to_customer else phone,
                content=notice.content,
            )
            with self._a_place():
                receipt = self._channel.deliver(letter)
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed, order.opened):
                return done  # an officer was quicker
            counts = sql_case((Notice.working_days.is_not(None), at))
            served_now = update(Notice).where(Notice.notice_no == notice_no)
            last_day, provisional = session.execute(
                served_now.values(served_at=at, receipt=receipt, counted_from=counts)
                .returning(Notice.last_day, Notice.provisional)
                .execution_options(synchronize_session=False)
            ).one()
            self._delivered(session, order.case_no, at)
            limit = Deadline(last_day=last_day, provisional=provisional) if last_day else None
            text = f"Notice {notice_no} served: {order.kind}" + (f", limit ends {limit}" if limit else "")
            served = NoticeServed(
                line=audit.line(at, order.by, text),
                notice_no=notice_no,
                sha256=notice.sha256,
                deadline=limit,
            )
            return audit.record(session, order.case_no, order.step, served)

    @contextmanager
    def _a_place(self) -> Iterator[None]:
        """Let no more letters out on the spot than there are places; one among the deliveries needs none.

        An attempt holds its place for as long as its mail server does, also when the case has long handed the
        letter over: so one that hangs takes no more of the cases' threads than that.
        """
        if not activity.info().is_local:
            yield
        elif not self._places.acquire(blocking=False):
            raise Later
        else:
            try:
                yield
            finally:
                self._places.release()

    @staticmethod
    def _alone(session: Session, order: ServeNotice) -> None:
        """Keep this notice's service to the transaction; who comes second waits here until it ends."""
        name = f"{order.case_no}/{order.step}"
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    def _undeliverable(self, order: ServeNotice, notice_no: str, why: str) -> None:
        step = f"{order.step}-undeliverable"
        with self._sessions.begin() as session:
            if audit.recorded(session, order.case_no, step, audit.Done, order.opened):
                return
            waits.begin(session, order.case_no, Awaiting.DELIVERY, order.at)
            text = f"Notice {notice_no} can't be delivered: {why}. An officer has to serve it another way"
            line = audit.line(order.at, order.by, text)
            audit.record(session, order.case_no, step, audit.Done(line=line))

    @activity.defn
    def serve_by_hand(self, order: ServeByHand) -> NoticeServed:
        """Put on record how and when an officer served a notice; its clock starts on that day (4.6).

        That of one that had bounced counts anew from that day, and ends no earlier than it said. Raises
        `Refused` if the notice was served already, for a day to come or before it was drafted, or where the
        proof is not on record.
        """
        with self._sessions.begin() as session:
            the_case(session, order.case_no)
            if done := audit.recorded(session, order.case_no, order.step, NoticeServed, order.opened):
                raise Refused(f"notice {done.notice_no} was served already: {done.line.text}")
            notice = (
                session.get_one(Notice, order.bounced, with_for_update=True)
                if order.bounced
                else notice_of(session, order.case_no, order.step)
            )
            today, drafted = day_of(order.at), day_of(notice.drafted_at)
            if not drafted <= order.on <= today:
                raise Refused(f"notice {notice.notice_no} was drafted on {drafted}, and today is {today}")
            proof = session.get(Evidence, order.proof)
            if proof is None:
                raise Refused(f"no evidence is on record under {order.proof}")
            at = order.at if order.on == today else datetime.combine(order.on, time(23, 59), SHANGHAI)
            limit = None
            if notice.working_days and notice.stopped_at is None:
                limit = deadline(at, notice.working_days, calendar(session))
                if notice.bounced_at and notice.last_day:
                    promised = Deadline(last_day=notice.last_day, provisional=notice.provisional)
                    limit = later(promised, limit)
                notice.counted_from = at
                notice.last_day, notice.provisional = limit.last_day, limit.provisional
            notice.served_at, notice.bounced_at = at, None
            notice.receipt = f"by hand, {order.method}, by {order.by}; proof {proof.name}, {order.proof}"
            self._delivered(session, order.case_no, order.at)
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
    def bounce_notice(self, order: BounceNotice) -> audit.Done:
        """Put on record that a notice has bounced: it waits for an officer who serves it another way (4.6).

        Raises `Refused` where the case has no such notice, or it was not handed over.
        """
        with self._sessions.begin() as session:
            if done := audit.recorded(session, order.case_no, order.step, audit.Done, order.opened):
                return done
            notice = session.get(Notice, order.notice_no, with_for_update=True)
            if notice is None or notice.case_no != order.case_no or notice.served_at is None:
                raise Refused(f"case {order.case_no} has served no notice {order.notice_no}")
            notice.bounced_at = order.at
            waits.begin(session, order.case_no, Awaiting.DELIVERY, order.at)
            text = f"Notice {notice.notice_no} bounced: {order.reason} (it was handed over: {notice.receipt})"
            text += ". An officer has to serve it another way"
            bounced = audit.Done(line=audit.line(order.at, order.by, text))
            return audit.record(session, order.case_no, order.step, bounced)

    @staticmethod
    def _delivered(session: Session, case_no: str, at: datetime) -> None:
        """The case waits for no delivery any more, unless another letter of it does.

        What had not arrived when the case ended is asked for no more.
        """
        session.flush()
        left = (
            select(Notice.notice_no)
            .join(Case, Case.case_no == Notice.case_no)
            .where(Notice.case_no == case_no, Notice.served_at.is_(None) | Notice.bounced_at.is_not(None))
            .where(Case.closed_at.is_(None) | (Notice.drafted_at >= Case.closed_at))
        )
        waits.end(session, case_no, Awaiting.DELIVERY, at, unless=left.exists())

    def _draft(self, session: Session, order: ServeNotice, at: datetime) -> Notice:
        case, number = session.execute(
            select(Case, Number)
            .join(Number, Number.number == Case.number)
            .where(Case.case_no == order.case_no)
            .options(joinedload(Case.agent, innerjoin=True).joinedload(Agent.account))
        ).one()
        notices = session.scalars(
            select(Notice).where(Notice.case_no == order.case_no).options(defer(Notice.content))
        ).all()
        notice = next((each for each in notices if each.step == order.step), None)
        if notice is None:
            notice = Notice(
                notice_no=f"{order.case_no}-N{len(notices) + 1}",
                case_no=order.case_no,
                step=order.step,
                kind=order.kind,
            )
        elif day_of(notice.drafted_at) == day_of(at):
            return notice
        limit = None if order.working_days is None else deadline(at, order.working_days, calendar(session))
        notice.recipient = number.customer_email if order.kind.to_customer else case.agent.email
        notice.drafted_at = at
        notice.working_days = order.working_days
        notice.last_day = limit.last_day if limit else None
        notice.provisional = bool(limit and limit.provisional)
        notice.content = self._letter(session, case, number, notice, order, limit)
        notice.sha256 = hashlib.sha256(notice.content).hexdigest()
        session.add(notice)
        return notice

    def _letter(
        self,
        session: Session,
        case: Case,
        number: Number,
        notice: Notice,
        order: ServeNotice,
        limit: Deadline | None,
    ) -> bytes:
        facts = self._facts(session, case, notice, order) | {"number": number, "limit": limit or order.limit}
        written = self._letters.write(case.kind, order.kind, facts, notice.drafted_at)
        # Drafted anew on a later day it is another letter: a mailbox must not take it for the first one.
        identity = f"{notice.notice_no}.{day_of(notice.drafted_at):%Y%m%d}"
        subject = f"{written.subject} {notice.notice_no}"
        return mail(
            *(self._sender, notice.recipient, subject, notice.drafted_at, identity),
            written.text,
            html=written.html,
            pdf=(f"{notice.notice_no}.pdf", written.pdf),
        )

    def _facts(self, session: Session, case: Case, notice: Notice, order: ServeNotice) -> dict[str, Any]:
        """What the record has for a letter, by the templates' names: of these, what it asks for."""
        asked = self._letters.asks(case.kind, order.kind)

        def rows(of: type[Row], *names: str) -> Sequence[Row]:
            if asked.isdisjoint(names):
                return ()
            [key] = inspect(of).primary_key
            return session.scalars(select(of).filter_by(case_no=case.case_no).order_by(key)).all()

        fines = rows(Fine, "fine", "voided")
        stand = [fine for fine in fines if fine.status is not FineStatus.VOID]
        void = [fine for fine in fines if fine.status is FineStatus.VOID]
        policy = in_force(case.policy)
        placed = rows(HoldRow, "held", "reclaimed", "returned", "kept")
        taken = self._taken(session, placed)
        known = {
            "policy": policy,
            "notice": notice,
            "case": case,
            "agent": case.agent,
            "account": case.agent.account,
            "reports": [Report.model_validate(row.payload) for row in rows(ReportRow, "reports")],
            "fine": stand[-1] if stand else None,
            "voided": void[0] if void else None,
            "balance": balance(session, case.case_no) if "balance" in asked else None,
            "reclaimed": [n.number for n in taken if n.reclaimed_by == case.case_no],
            "quarantine": policy.quarantine.days,
            "held": {hold.kind for hold in placed},
            "returned": [n for n in taken if n.holder is Holder.AGENT],
            "kept": [n for n in taken if n.holder is Holder.PLATFORM],
            "filings": rows(Filing, "filings"),
            "at": notice.drafted_at,
            **{name: getattr(order, name) for name in SAID},
        }
        return {name: fact for name, fact in known.items() if name in asked}

    @staticmethod
    def _taken(session: Session, placed: Sequence[HoldRow]) -> Sequence[Number]:
        """The numbers that a case has taken back, whoever has them now."""
        taken = {hold.number for hold in placed if hold.kind in (Hold.RECLAIM, Hold.TAKE_BACK)}
        if not taken:
            return ()
        return session.scalars(select(Number).where(Number.number.in_(taken)).order_by(Number.number)).all()


def notice_of(session: Session, case_no: str, step: str) -> Notice:
    """The notice of that step of a case, locked until the transaction ends."""
    return session.execute(
        select(Notice).where(Notice.case_no == case_no, Notice.step == step).with_for_update()
    ).scalar_one()
