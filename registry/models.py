"""The tables of the registry. Constraints carry the rules; times are instants, money is exact.

The session is the unit of work; whoever changes a row writes its line of the audit trail in the same
transaction (registry/audit.py). Legal moves of status are kept by triggers (registry/migrations).
"""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from rulebook.vocabulary import (
    AccountStatus,
    Awaiting,
    ComplaintKind,
    FilingKind,
    FilingStatus,
    FineStatus,
    Hold,
    Holder,
    IncomingStatus,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
)


class Base(DeclarativeBase):
    """All tables, with the types that the registry uses."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        str: Text,
        datetime: DateTime(timezone=True),
        date: Date,
        Decimal: Numeric(14, 2),
        dict[str, Any]: JSONB,
    }


def _words(words: type[StrEnum], checked: bool = False) -> Enum:
    # Only statuses are checked by the database: a new kind of violation must not need a migration.
    return Enum(
        words,
        native_enum=False,
        create_constraint=checked,
        length=40,
        values_callable=lambda enum: [word.value for word in enum],
        name=words.__name__.lower(),
    )


class Agent(Base):
    """A reseller (代理商) and where its notices go."""

    __tablename__ = "agents"

    agent_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    contact: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str]
    disqualified_at: Mapped[datetime | None]

    account: Mapped["Account"] = relationship(back_populates="agent")


class Account(Base):
    """An agent's one account, under which all its numbers sit."""

    __tablename__ = "accounts"

    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"), primary_key=True)
    status: Mapped[AccountStatus] = mapped_column(
        _words(AccountStatus, checked=True), default=AccountStatus.OPEN
    )
    suspended_by: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no"))
    shut_down_by: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no"))
    closed_by: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no"))
    since: Mapped[datetime] = mapped_column(server_default=func.now())

    agent: Mapped[Agent] = relationship(back_populates="account")


class Number(Base):
    """A 400 number: its agent, the customer whose phone it is, and the real-name certificate.

    `agent_id` is who sold it, also after it was taken back; `holder` is who has it now. `renewal_due` is the
    day on which it has to be renewed: by its agent, or by the platform where it serves the customer directly.
    """

    __tablename__ = "numbers"
    __table_args__ = (
        CheckConstraint("number ~ '^400[0-9]{7}$'", name="ten_digits"),
        CheckConstraint(
            "(status = 'quarantined') = (quarantined_until is not null)", name="quarantine_has_an_end"
        ),
        CheckConstraint("(status = 'frozen') = (frozen_by is not null)", name="frozen_by_a_case"),
        CheckConstraint(
            "case status when 'quarantined' then holder = 'platform' when 'free' then holder = 'nobody' "
            "else holder <> 'nobody' end",
            name="one_holder",
        ),
        Index("ix_numbers_agent_id", "agent_id"),
    )

    number: Mapped[str] = mapped_column(primary_key=True)
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"))
    customer: Mapped[str]
    certificate: Mapped[str]
    operator: Mapped[str]
    status: Mapped[NumberStatus] = mapped_column(
        _words(NumberStatus, checked=True), default=NumberStatus.ACTIVE
    )
    holder: Mapped[Holder] = mapped_column(_words(Holder, checked=True), default=Holder.AGENT)
    customer_email: Mapped[str]
    renewal_due: Mapped[date]
    frozen_by: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no", use_alter=True))
    quarantined_until: Mapped[date | None]
    reclaimed_by: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no", use_alter=True))

    agent: Mapped[Agent] = relationship()


case_numbers = Sequence("case_numbers", metadata=Base.metadata)


class Case(Base):
    """One violation under treatment: at most one open for a number and kind.

    `lines` is how many lines its part of the audit trail has: none can be missing at the end unseen. It is
    counted in the database (registry/audit.py).
    """

    __tablename__ = "cases"
    __table_args__ = (
        Index("uq_cases_open", "number", "kind", unique=True, postgresql_where=text("closed_at is null")),
        CheckConstraint("(closed_at is null) = (outcome is null)", name="closed_with_an_outcome"),
        CheckConstraint("lines >= 0", name="lines"),
        Index("ix_cases_agent_id", "agent_id"),
    )

    case_no: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[Kind] = mapped_column(_words(Kind))
    number: Mapped[str] = mapped_column(ForeignKey("numbers.number"))
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"))
    workflow_id: Mapped[str]
    run_id: Mapped[str]
    policy: Mapped[date]
    opened_at: Mapped[datetime]
    opened_by: Mapped[str]
    outcome: Mapped[Stage | None] = mapped_column(_words(Stage))
    closed_at: Mapped[datetime | None]
    lines: Mapped[int] = mapped_column(server_default=text("0"))

    agent: Mapped[Agent] = relationship()


class HoldRow(Base):
    """What one case holds against an account, or a number of it, until it is lifted.

    The status of an account and of its numbers follows from the holds that stand (rulebook/holds.py). `step`
    is the step of the case that placed it; a hold on the whole account has no `number`.
    """

    __tablename__ = "holds"
    __table_args__ = (
        UniqueConstraint("case_no", "step", "kind", "number", postgresql_nulls_not_distinct=True),
        CheckConstraint("(kind = 'reclaim') = (quarantined_until is not null)", name="quarantine_has_an_end"),
        Index("ix_holds_standing", "agent_id", postgresql_where=text("lifted_at is null")),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    step: Mapped[str]
    kind: Mapped[Hold] = mapped_column(_words(Hold, checked=True))
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"))
    number: Mapped[str | None] = mapped_column(ForeignKey("numbers.number"))
    quarantined_until: Mapped[date | None]
    since: Mapped[datetime]
    lifted_at: Mapped[datetime | None]
    lifted_by: Mapped[str | None]


class Evidence(Base):
    """A file that somebody put before the platform, under the hash of its bytes."""

    __tablename__ = "evidence"
    __table_args__ = (CheckConstraint("length(sha256) = 64", name="sha256"),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    added_at: Mapped[datetime]
    added_by: Mapped[str]


class Appeal(Base):
    """An agent's appeal against a case (5.1), at most one at a time; `upheld`: the case stands."""

    __tablename__ = "appeals"
    __table_args__ = (
        Index("uq_appeals_pending", "case_no", unique=True, postgresql_where=text("decided_at is null")),
        CheckConstraint("(decided_at is null) = (upheld is null)", name="decided"),
    )

    appeal_no: Mapped[str] = mapped_column(primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    statement: Mapped[str]
    evidence: Mapped[list[str]] = mapped_column(JSONB)
    filed_at: Mapped[datetime]
    filed_by: Mapped[str]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    upheld: Mapped[bool | None]
    reasons: Mapped[str | None]


class Wait(Base):
    """Something that waits for an officer (5.7), and on which days it was brought up again."""

    __tablename__ = "waits"
    __table_args__ = (
        Index("uq_waits_unended", "case_no", "what", unique=True, postgresql_where=text("ended_at is null")),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    what: Mapped[Awaiting] = mapped_column(_words(Awaiting))
    since: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    raised: Mapped[int] = mapped_column(default=0)
    raised_on: Mapped[date | None]
    escalated_on: Mapped[date | None]


class ReportRow(Base):
    """A violation report; source and id together are handled once, for ever."""

    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("source", "report_id"), Index("ix_reports_case_no", "case_no"))

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    source: Mapped[str]
    report_id: Mapped[str]
    payload: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    case_no: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no"))


class Incoming(Base):
    """A violation report as it came in, by whatever way: the inbox of the monitor.

    Whoever may write to the registry inserts `source`, `report_id` and `payload`, and the rest follows. The
    payload is kept as it came; a report that can't be taken bears the `reason`. Handed to its case, it is on
    record as a report too (`ReportRow`).
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("source", "report_id"),
        Index("ix_inbox_waiting", "id", postgresql_where=text("status = 'waiting'")),
        Index("ix_inbox_settled_at", "settled_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    source: Mapped[str]
    report_id: Mapped[str]
    payload: Mapped[dict[str, Any]]
    via: Mapped[str] = mapped_column(server_default="sql")
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    status: Mapped[IncomingStatus] = mapped_column(
        _words(IncomingStatus, checked=True), server_default=IncomingStatus.WAITING.value
    )
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    try_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
    workflow_id: Mapped[str | None]


class Feed(Base):
    """How far a file of reports has been read: all before `place`, in bytes, is in the inbox.

    A file goes by its path and by `identity`, which stays with it when it is renamed (log rotation).
    """

    __tablename__ = "feeds"

    path: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int]
    read_at: Mapped[datetime]


class Detection(Base):
    """A report that the platform's own checks put into the inbox (rulebook/detection.py)."""

    __tablename__ = "detections"
    __table_args__ = (Index("ix_detections_number", "number"),)

    report_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[Kind] = mapped_column(_words(Kind))
    number: Mapped[str]
    detected_at: Mapped[datetime]


class Complaint(Base):
    """A complaint about a number, by whatever channel it came; `answered_at` once it was answered.

    As with all evidence for detection: the number may be one that is not on record, and `reported_in` is the
    report that names it. A row is reported once.
    """

    __tablename__ = "complaints"
    __table_args__ = (
        CheckConstraint("number ~ '^400[0-9]{7}$'", name="ten_digits"),
        Index("ix_complaints_unreported", "received_at", postgresql_where=text("reported_in is null")),
    )

    channel: Mapped[str] = mapped_column(primary_key=True)
    complaint_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    kind: Mapped[ComplaintKind] = mapped_column(_words(ComplaintKind))
    received_at: Mapped[datetime]
    text: Mapped[str]
    answered_at: Mapped[datetime | None]
    reported_in: Mapped[str | None] = mapped_column(ForeignKey("detections.report_id"))


class ObservedUse(Base):
    """Who was seen to use a number, and how; `customer` is the certified one of when it came on record."""

    __tablename__ = "observed_uses"
    __table_args__ = (
        CheckConstraint("number ~ '^400[0-9]{7}$'", name="ten_digits"),
        Index("ix_observed_uses_unreported", "observed_at", postgresql_where=text("reported_in is null")),
    )

    observation_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    observed_at: Mapped[datetime]
    user: Mapped[str]
    how: Mapped[str]
    customer: Mapped[str | None]
    reported_in: Mapped[str | None] = mapped_column(ForeignKey("detections.report_id"))


class OperatorAlert(Base):
    """An operator's alert that a number is used for fraud."""

    __tablename__ = "operator_alerts"
    __table_args__ = (
        CheckConstraint("number ~ '^400[0-9]{7}$'", name="ten_digits"),
        Index("ix_operator_alerts_unreported", "raised_at", postgresql_where=text("reported_in is null")),
    )

    operator: Mapped[str] = mapped_column(primary_key=True)
    alert_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    raised_at: Mapped[datetime]
    text: Mapped[str]
    reported_in: Mapped[str | None] = mapped_column(ForeignKey("detections.report_id"))


class Notice(Base):
    """A letter to the agent, as sent. Its clock starts when it was served (4.6).

    The limit counts `working_days` from `counted_from`: the day of service, or the day on which the clock
    went on after it had been stopped, with what was left then (4.4). While `stopped_at` is set, it stands
    still. `bounced_at` is set from when it came back until an officer has served it another way.
    """

    __tablename__ = "notices"
    __table_args__ = (
        UniqueConstraint("case_no", "step"),
        CheckConstraint("(working_days is null) = (last_day is null)", name="limit_has_a_deadline"),
        CheckConstraint("length(sha256) = 64", name="sha256"),
    )

    notice_no: Mapped[str] = mapped_column(primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    step: Mapped[str]
    kind: Mapped[NoticeKind] = mapped_column(_words(NoticeKind))
    recipient: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str]
    drafted_at: Mapped[datetime]
    served_at: Mapped[datetime | None]
    bounced_at: Mapped[datetime | None]
    receipt: Mapped[str | None]
    working_days: Mapped[int | None]
    counted_from: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    last_day: Mapped[date | None]
    provisional: Mapped[bool] = mapped_column(default=False)


class Fine(Base):
    """A fine: one for a case and step. `offence` is the agent's nth offence of this kind when it was set."""

    __tablename__ = "fines"
    __table_args__ = (
        UniqueConstraint("case_no", "step"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("offence >= 1", name="offence"),
        Index("ix_fines_agent_id", "agent_id"),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    step: Mapped[str]
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"))
    kind: Mapped[Kind] = mapped_column(_words(Kind))
    offence: Mapped[int]
    amount: Mapped[Decimal]
    status: Mapped[FineStatus] = mapped_column(_words(FineStatus, checked=True), default=FineStatus.DUE)
    set_at: Mapped[datetime]


class Payment(Base):
    """Money that came in; a bank reference counts once (6.1). It is refunded when its fine is void (5.2).

    A negative amount went back: what a case that had ended owed back (6.2), under a reference of its own.
    `had_on` is the day on which the bank had it, in Asia/Shanghai: none where nobody has said so, and then it
    is the day on which it was recorded (`received_at`).
    """

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount"),
        Index("ix_payments_case_no", "case_no"),
    )

    reference: Mapped[str] = mapped_column(primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    amount: Mapped[Decimal]
    received_at: Mapped[datetime]
    had_on: Mapped[date | None]
    recorded_by: Mapped[str]
    refund_due_at: Mapped[datetime | None]
    refunded_at: Mapped[datetime | None]
    refund_reference: Mapped[str | None]


class Filing(Base):
    """A filing in serious circumstances (1.6), one for a case and recipient, as it was prepared.

    `withdrawal` is the document that takes it back, once the case is undone (5.2).
    """

    __tablename__ = "filings"
    __table_args__ = (UniqueConstraint("case_no", "recipient"),)

    filing_no: Mapped[str] = mapped_column(primary_key=True)
    case_no: Mapped[str] = mapped_column(ForeignKey("cases.case_no"))
    kind: Mapped[FilingKind] = mapped_column(_words(FilingKind))
    recipient: Mapped[str]
    status: Mapped[FilingStatus] = mapped_column(
        _words(FilingStatus, checked=True), default=FilingStatus.PREPARED
    )
    reason: Mapped[str | None]
    document: Mapped[str]
    attachment: Mapped[dict[str, Any]]
    sha256: Mapped[str]
    withdrawal: Mapped[str | None]
    since: Mapped[datetime]


class CalendarDay(Base):
    """What the calendar says of one day beyond the public one: a published arrangement, or a closing day."""

    __tablename__ = "calendar_days"
    __table_args__ = (CheckConstraint("not (closing and works)", name="closing_days_are_off"),)

    day: Mapped[date] = mapped_column(primary_key=True)
    closing: Mapped[bool] = mapped_column(primary_key=True)
    works: Mapped[bool]
    reason: Mapped[str]


class AuditLine(Base):
    """One thing done: who, when, what, and what came of it. Lines are only ever added (5.6).

    The lines of a case are numbered by `serial` without a gap, and each bears the `hash` of what it says and
    of the line before it; so do, as one chain, the lines that belong to no case (registry/audit.py).
    """

    __tablename__ = "audit_trail"
    __table_args__ = (
        UniqueConstraint("case_no", "step"),
        UniqueConstraint("case_no", "serial", postgresql_nulls_not_distinct=True),
        CheckConstraint("serial >= 1", name="serial"),
        CheckConstraint("length(hash) = 64", name="hash"),
        Index("ix_audit_trail_at", "at"),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    case_no: Mapped[str | None] = mapped_column(ForeignKey("cases.case_no"))
    step: Mapped[str]
    at: Mapped[datetime]
    actor: Mapped[str]
    text: Mapped[str]
    result: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    serial: Mapped[int]
    hash: Mapped[str]
