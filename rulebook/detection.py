"""What the platform's own checks report: from what on complaints and observations make a violation.

For each kind of violation, the evidence about a number that no report has named yet, and nothing older:

- Service failure (3): a complaint about service that is not answered within so many working days.
- Secondary sale (2): so many observations, within so many days, of a user who is not the certified customer.
- Fraud (1): so many complaints about fraud within so many days, or one alert of an operator.

What keeps this fair, and officers from being flooded:

- Each row of evidence is reported once. A report names all that there is, and there is at most one a day of
  a kind and number: what comes meanwhile waits for the next day.
- Every report stands by itself. If a case is open, the report joins it; it has to be enough to open one, as
  it comes to a new case where the open one ends first.
- What came in before the last case of the kind ended was dealt with in it; what came in while the number was
  frozen or taken back is not the agent's doing. Neither is held against the agent afterwards.
- About a number that is frozen, or not in an agent's hands, nothing is reported but to a case that is open. A
  number that is not on record is reported: whoever takes the report in says so.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rulebook.policy import Detection
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, ComplaintKind, Kind, day_of, one_line
from rulebook.working_days import Calendar, deadline

SOURCE = "detection"
"""The source of these reports."""

_SHOWN = 20  # rows of evidence in the facts of a report
_LONGEST = 160  # characters of each


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Complaint(_Value):
    """What a customer or a victim complains about, by which channel it came, and whether it was answered."""

    channel: str
    complaint_id: str
    kind: ComplaintKind
    received_at: AwareDatetime
    text: str
    answered_at: AwareDatetime | None = None

    @property
    def key(self) -> str:
        """What it is known by among all evidence."""
        return f"complaint {self.channel}/{self.complaint_id}"

    @property
    def at(self) -> datetime:
        """When it came in."""
        return self.received_at

    @property
    def told(self) -> str:
        """It in the words of a letter."""
        return f"{self.channel}投诉 {self.complaint_id}：{self.text}"


class ObservedUse(_Value):
    """Who was seen to use a number, and how; `customer` was the certified one when it came on record."""

    observation_id: str
    observed_at: AwareDatetime
    user: str
    how: str
    customer: str | None = None

    @property
    def key(self) -> str:
        """What it is known by among all evidence."""
        return f"observation {self.observation_id}"

    @property
    def at(self) -> datetime:
        """When it was seen."""
        return self.observed_at

    @property
    def told(self) -> str:
        """It in the words of a letter."""
        return f"{self.how} {self.observation_id}：实际使用者为“{self.user}”"


class OperatorAlert(_Value):
    """An operator's alert that a number is used for fraud."""

    operator: str
    alert_id: str
    raised_at: AwareDatetime
    text: str

    @property
    def key(self) -> str:
        """What it is known by among all evidence."""
        return f"alert {self.operator}/{self.alert_id}"

    @property
    def at(self) -> datetime:
        """When it was raised."""
        return self.raised_at

    @property
    def told(self) -> str:
        """It in the words of a letter."""
        return f"{self.operator}预警 {self.alert_id}：{self.text}"


Evidence = Complaint | ObservedUse | OperatorAlert


class Record(_Value):
    """What is on record of a number, and the evidence about it that no report has named.

    A number that isn't on record has no `customer`. `out_of_use` says why its agent can't be reported, if
    so; `open` are the kinds of which a case is open. Of each kind: evidence counts if it came in later than
    `dealt_with`; `reported` is the day of the last report.
    """

    number: str
    customer: str | None
    out_of_use: str | None = None
    open: frozenset[Kind] = frozenset()
    dealt_with: Mapping[Kind, AwareDatetime] = {}
    reported: Mapping[Kind, date] = {}
    evidence: tuple[Evidence, ...] = ()


class Found(_Value):
    """A violation that follows from evidence; `held_back` says why it isn't reported now, if so."""

    kind: Kind
    number: str
    facts: str
    evidence: tuple[Evidence, ...]
    held_back: str | None = None

    @property
    def report(self) -> Report:
        """The report of it: by its id, the same evidence never makes a second one."""
        keys = "\n".join(sorted(one.key for one in self.evidence))
        return Report(
            source=SOURCE,
            report_id=f"{self.kind}-{self.number}-{hashlib.sha256(keys.encode()).hexdigest()[:16]}",
            kind=self.kind,
            number=self.number,
            facts=self.facts,
            observed_at=max(one.at for one in self.evidence),
            reported_by=SOURCE,
        )


def found(record: Record, limits: Detection, calendar: Calendar, now: datetime) -> list[Found]:
    """The violations that follow from what is on record of a number at a moment."""
    followed = []
    for kind, rule in _RULES.items():
        after = record.dealt_with.get(kind)
        counts = [one for one in record.evidence if one.at <= now and (after is None or one.at > after)]
        evidence, why = rule(record, counts, limits, calendar, now)
        if evidence:
            ordered = tuple(sorted(evidence, key=lambda one: (one.at, one.key)))
            followed.append(
                Found(
                    kind=kind,
                    number=record.number,
                    facts=_facts(why, ordered),
                    evidence=ordered,
                    held_back=_held_back(record, kind, now),
                )
            )
    return followed


def _held_back(record: Record, kind: Kind, now: datetime) -> str | None:
    if record.out_of_use and kind not in record.open:
        return record.out_of_use
    if record.reported.get(kind) == day_of(now):
        return "reported today already"
    return None


_Followed = tuple[list[Evidence], str]
_NOTHING: _Followed = ([], "")


def _service_failure(
    record: Record, counts: Iterable[Evidence], limits: Detection, calendar: Calendar, now: datetime
) -> _Followed:
    within = limits.unanswered_for
    late: list[Evidence] = [
        one
        for one in counts
        if isinstance(one, Complaint)
        and one.kind is ComplaintKind.SERVICE
        and (one.answered_at is None or one.answered_at > now)
        and deadline(one.received_at, within, calendar).at <= now
    ]
    return late, f"客户投诉逾{within}个工作日未获答复，共{len(late)}件"


def _secondary_sale(
    record: Record, counts: Iterable[Evidence], limits: Detection, calendar: Calendar, now: datetime
) -> _Followed:
    within = limits.observed_within
    others: list[Evidence] = [
        one
        for one in _newer(counts, within, now)
        if isinstance(one, ObservedUse)
        and differs(one.user, record.customer)
        and (one.customer is None or differs(one.user, one.customer))
    ]
    if len(others) < limits.observed_differently:
        return _NOTHING
    if record.customer is None:
        return others, f"号码未登记实名客户，{within}日内{len(others)}次发现有人使用"
    return others, f"实名登记客户为“{record.customer}”，{within}日内{len(others)}次发现由他人使用"


def _fraud(
    record: Record, counts: Iterable[Evidence], limits: Detection, calendar: Calendar, now: datetime
) -> _Followed:
    within = limits.fraud_within
    recent = _newer(counts, within, now)
    alerts = [one for one in recent if isinstance(one, OperatorAlert)]
    complaints = [one for one in recent if isinstance(one, Complaint) and one.kind is ComplaintKind.FRAUD]
    if not alerts and len(complaints) < limits.fraud_complaints:
        return _NOTHING
    said = [f"运营商涉诈预警{len(alerts)}件"] if alerts else []
    said += [f"诈骗投诉{len(complaints)}件"] if complaints else []
    return [*alerts, *complaints], f"{within}日内收到{'、'.join(said)}"


_RULES = {
    Kind.FRAUD: _fraud,
    Kind.SECONDARY_SALE: _secondary_sale,
    Kind.SERVICE_FAILURE: _service_failure,
}


def _newer(counts: Iterable[Evidence], days: int, now: datetime) -> list[Evidence]:
    return [one for one in counts if one.at >= now - timedelta(days=days)]


def _facts(why: str, evidence: tuple[Evidence, ...]) -> str:
    rows = [f"{one.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M} {_cut(one.told)}" for one in evidence[:_SHOWN]]
    more = [f"另有{len(evidence) - _SHOWN}件"] if len(evidence) > _SHOWN else []
    return f"{why}：{'；'.join(rows + more)}"


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


# What a company is, and not which; the longer before what it ends in.
_FORMS = (
    *(
        "有限责任公司",
        "股份有限公司",
        "有限公司",
        "股份公司",
        "分公司",
        "总公司",
        "公司",
        "集团",
        "个体工商户",
    ),
    *("incorporated", "corporation", "limited", "company", "corp", "inc", "llc", "ltd", "co"),
)
_NOBODY = frozenset(
    {"不详", "不明", "未知", "无", "无人接听", "空号", "关机", "unknown", "noanswer", "none", "na"}
)


def differs(user: str, customer: str | None) -> bool:
    """Whether an observed user is certainly not the certified customer; if there is none, anybody isn't.

    Width, case, spaces, brackets and punctuation don't count, nor does what says only that it is a company;
    who names itself by a part of the customer's name, or by more than it, may be the customer. A user of
    whom nothing is known may be anybody.
    """
    seen = _plain(user)
    if not seen or seen in _NOBODY:
        return False
    if customer is None:
        return True
    seen, certified = _core(seen), _core(_plain(customer))
    return not (seen in certified or certified in seen)


def _plain(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _core(name: str) -> str:
    while form := next((form for form in _FORMS if name.endswith(form)), None):
        name = name.removesuffix(form)
    return name
