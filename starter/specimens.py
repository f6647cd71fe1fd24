"""Letters about a case that never was: for trying the templates in every situation that they know of."""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

from activities.letters import LANGUAGES, TEMPLATES, Letters, Written, environment
from activities.step import Serious
from registry.models import Account, Agent, Case, Filing, Fine, Notice, Number
from rulebook.deadlines import Deadline
from rulebook.money import Balance
from rulebook.policy import in_force
from rulebook.report import Report
from rulebook.vocabulary import (
    SHANGHAI,
    AccountStatus,
    Business,
    FilingKind,
    FilingStatus,
    Kind,
    NoticeKind,
    NumberStatus,
    Stage,
)

AT = datetime(2026, 2, 12, 10, 30, tzinfo=SHANGHAI)
_LIMIT = Deadline(last_day=date(2026, 2, 26))
_PROVISIONAL = Deadline(last_day=date(2027, 1, 5), provisional=True)
_SERIOUS = Serious(
    reasons="受害人众多，涉案金额巨大", evidence=("报案回执",), proposed_by="李敏", approved_by="赵军"
)


class Specimen(NamedTuple):
    """A letter in one situation."""

    kind: Kind
    notice: NoticeKind
    facts: dict[str, Any]


_FINED = (Kind.FRAUD, Kind.SECONDARY_SALE)
_OF_SOME_KINDS = {
    NoticeKind.RECTIFICATION_ORDER: (Kind.SECONDARY_SALE,),
    NoticeKind.SERVICE_ORDER: (Kind.SERVICE_FAILURE,),
    NoticeKind.PUNISHMENT: _FINED,
    NoticeKind.FINE_LOWERED: _FINED,
    NoticeKind.SHUTDOWN: _FINED,
    NoticeKind.REINSTATED: _FINED,
    NoticeKind.PERMANENT_CLOSURE: (Kind.FRAUD,),
    NoticeKind.TAKE_BACK: (Kind.SERVICE_FAILURE,),
    NoticeKind.TAKE_BACK_CUSTOMER: (Kind.SERVICE_FAILURE,),
    NoticeKind.UNDONE_CUSTOMER: (Kind.SERVICE_FAILURE,),
}


def letters_of(kind: Kind) -> list[NoticeKind]:
    """The letters that a case of this kind may have to send."""
    return [notice for notice in NoticeKind if kind in _OF_SOME_KINDS.get(notice, Kind)]


def specimens(kind: Kind, notice: NoticeKind) -> Iterator[Specimen]:
    """The letter in each situation that its wording tells apart; the plainest first."""
    for situation in _situations(kind, notice):
        yield Specimen(kind, notice, _facts(kind, notice) | situation)


def _situations(kind: Kind, notice: NoticeKind) -> list[dict[str, Any]]:  # noqa: PLR0911
    fined = kind is not Kind.SERVICE_FAILURE
    match notice:
        case NoticeKind.RECTIFICATION_ORDER | NoticeKind.SERVICE_ORDER:
            return [
                {"working_days": 3, "limit": _LIMIT},
                {"working_days": 1, "limit": _PROVISIONAL, "reports": _reports(kind, Business.IRREGULAR)},
            ]
        case NoticeKind.PUNISHMENT:
            return [
                {"working_days": 5, "limit": _LIMIT},
                {"working_days": 1, "limit": _PROVISIONAL, "balance": _balance(kind, 300)},
            ]
        case NoticeKind.SHUTDOWN | NoticeKind.PERMANENT_CLOSURE:
            return [
                {"balance": _balance(kind, paid), "reclaimed": reclaimed}
                for paid in (0, 30_000, 40_000)
                for reclaimed in ([], ["4008001234"], [f"400800{serial}" for serial in range(1000, 1040)])
            ] + [{"balance": Balance()}]
        case NoticeKind.DEADLINE:
            return [
                {"cause": cause, "limit": limit, "fine": fine, "reason": reason}
                for cause in ("extended", "held", "resumed", "appeal", "calendar")
                for limit in (_LIMIT, _PROVISIONAL, None)
                for fine in ([_fine(kind), None] if fined else [None])
                for reason in ("洪水停工", "")
            ]
        case NoticeKind.APPEAL_DECISION:
            return [
                {"limit": limit, "fine": fine}
                for limit in (_LIMIT, _PROVISIONAL, None)
                for fine in ([_fine(kind), None] if fined else [None])
            ]
        case NoticeKind.CLOSING:
            outcomes = [Stage.SETTLED if fined else Stage.RECTIFIED, Stage.DISMISSED, Stage.OVERTAKEN]
            return [
                {"outcome": outcome, "balance": _balance(kind, paid)}
                for outcome in ([Stage.RECTIFIED, *outcomes] if kind is Kind.SECONDARY_SALE else outcomes)
                for paid in ((30_000, 40_000, 0) if fined else (0,))
            ]
        case NoticeKind.FINE_LOWERED:
            return [
                {"balance": _balance(kind, paid), "case": _case(kind, closed)}
                for paid in (300, 30_000, 40_000)
                for closed in (False, True)
            ]
        case NoticeKind.REINSTATED:
            return [*_reinstated(kind)]
        case NoticeKind.UNDONE:
            return [*_undone(kind)]
        case _:
            return [{}, {"number": _number(NumberStatus.FROZEN)}]


def _reinstated(kind: Kind) -> Iterator[dict[str, Any]]:
    yield {"cause": "in-time", "balance": _balance(kind, 30_000), "returned": [_number()]}
    number = _number(NumberStatus.FROZEN)
    for paid in (300, 40_000):
        for status in AccountStatus:
            for suspended_by in (_case(kind).case_no, "FR-2026-00002"):
                yield {
                    "cause": "late",
                    "balance": _balance(kind, paid),
                    "returned": [_number(), number],
                    "kept": [number],
                    "lost": ("4008001235",),
                    "account": _account(status, suspended_by),
                }


def _account(status: AccountStatus, suspended_by: str = "FR-2026-00002") -> Account:
    return Account(
        status=status,
        suspended_by=suspended_by,
        shut_down_by="SS-2026-00003",
        closed_by="FR-2026-00004",
    )


def _undone(kind: Kind) -> Iterator[dict[str, Any]]:
    number = _number(NumberStatus.FROZEN)
    yield {"outcome": Stage.DISMISSED, "reason": "号码登记有误"}
    for status in AccountStatus:
        yield {
            "outcome": Stage.OVERTURNED,
            "reason": "号码登记有误",
            "voided": _fine(kind),
            "balance": Balance(paid=Decimal(1000)),
            "held": {"suspension", "shutdown", "closure", "freeze"},
            "returned": [_number(), number],
            "kept": [number],
            "lost": ("4008001235",),
            "number": number,
            "filings": [
                Filing(filing_no=f"FR-2026-00001-F{serial}", kind=what, recipient=to, status=status)
                for serial, (what, to, status) in enumerate(
                    [
                        (FilingKind.OPERATOR, "中国电信", FilingStatus.WITHDRAWN),
                        (FilingKind.MIIT, FilingKind.MIIT.recipient, FilingStatus.WITHDRAWING),
                        (FilingKind.ANNOUNCEMENT, "社会公告", FilingStatus.WITHDRAWING),
                    ],
                    1,
                )
            ],
            "account": _account(status),
        }


def _facts(kind: Kind, notice: NoticeKind) -> dict[str, Any]:
    """What every letter may say; a situation says some of it otherwise."""
    case = _case(kind)
    policy = in_force(case.policy)
    return {
        "policy": policy,
        "notice": Notice(notice_no=f"{case.case_no}-N2", case_no=case.case_no, kind=notice),
        "case": case,
        "agent": case.agent,
        "account": Account(status=AccountStatus.OPEN),
        "number": _number(),
        "reports": _reports(kind),
        "limit": None,
        "fine": None if kind is Kind.SERVICE_FAILURE else _fine(kind),
        "voided": None,
        "balance": _balance(kind, 0),
        "reclaimed": [],
        "quarantine": policy.quarantine.days,
        "held": set(),
        "returned": [],
        "kept": [],
        "filings": [],
        "at": AT,
        "working_days": None,
        "outcome": None,
        "reason": "经核查，原认定事实清楚",
        "overtaken_by": "FR-2026-00009",
        "clause": f"{kind.clause}.5",
        "serious": _SERIOUS,
        "cause": "",
        "lost": (),
        "because_of": "SS-2026-00007",
    }


def _case(kind: Kind, closed: bool = False) -> Case:
    agent = Agent(
        agent_id="A011",
        name="天津智呼信息技术有限公司",
        contact="王芳",
        email="wangfang@agent.example",
        phone="022-8888-0011",
    )
    return Case(
        case_no=f"{kind.prefix}-2026-00001",
        kind=kind,
        number="4001925397",
        agent_id="A011",
        agent=agent,
        policy=date(2017, 2, 16),
        opened_at=AT,
        closed_at=AT if closed else None,
    )


def _number(status: NumberStatus = NumberStatus.ACTIVE) -> Number:
    return Number(
        number="4001925397",
        agent_id="A011",
        customer="合肥嘉禾环保科技有限公司",
        customer_email="service@jiahe.example",
        certificate="91340100MA2RQ3XK7T",
        operator="中国移动",
        status=status,
        frozen_by="FR-2026-00002" if status is NumberStatus.FROZEN else None,
        reclaimed_by="SS-2026-00003",
        renewal_due=date(2026, 9, 30),
    )


def _reports(kind: Kind, business: Business = Business.REGULAR) -> list[Report]:
    facts = {
        Kind.FRAUD: "多名受害人报案，称来电冒充客服骗取验证码",
        Kind.SECONDARY_SALE: "登记客户称号码已转让他人，回拨由第三方公司接听",
        Kind.SERVICE_FAILURE: "客户三次报修无人处理，号码已停用两周",
    }
    return [
        Report(
            source="dial-back",
            report_id="DB-26020017",
            kind=kind,
            number="4001925397",
            business=business,
            facts=facts[kind],
        )
    ]


def _fine(kind: Kind) -> Fine:
    return Fine(amount=_balance(kind, 0).fine, offence=2, kind=kind)


def _balance(kind: Kind, paid: int) -> Balance:
    fine = {Kind.FRAUD: 30_000, Kind.SECONDARY_SALE: 2_000, Kind.SERVICE_FAILURE: 0}[kind]
    return Balance(fine=Decimal(fine), paid=Decimal(min(paid, fine) if paid <= 30_000 else fine + 500))


def preview(letters: Letters, specimen: Specimen) -> Written:
    """Write a specimen's letter."""
    return letters.write(specimen.kind, specimen.notice, specimen.facts, AT)


def faults(templates: Path = TEMPLATES) -> Iterator[str]:
    """What is wrong with the templates, each as a sentence that names the file."""
    yield from _missing(templates)
    broken = list(_unknown(templates))
    yield from broken
    if broken:
        return
    letters = Letters(templates)
    for kind in Kind:
        for notice in letters_of(kind):
            said = {
                fault: None for specimen in specimens(kind, notice) for fault in _tried(letters, specimen)
            }
            yield from said


def _missing(templates: Path) -> Iterator[str]:
    """A letter that is there in one language only."""
    zh, en = (
        {path.relative_to(templates / language) for path in (templates / language).rglob("*.j2")}
        for language in LANGUAGES
    )
    # What goes to officers, operators and authorities is written in Chinese.
    own = {path for path in zh if path.parts[0] in ("filing", "officers")}
    for language, missing in (("en", zh - en - own), ("zh", en - zh)):
        for path in sorted(missing):
            yield f"{language}/{path} is missing: each letter is in both languages"


def _unknown(templates: Path) -> Iterator[str]:
    """A template that can't be read, or asks for what no letter knows."""
    known = set(_facts(Kind.FRAUD, NoticeKind.PUNISHMENT))
    all_known = ", ".join(sorted(known))
    wording = environment(templates)
    for path in sorted(templates.rglob("*.txt.j2")):
        name = path.relative_to(templates)
        try:
            tree = wording.parse(path.read_text("utf-8"), str(name))
        except TemplateSyntaxError as error:
            yield f"{name}, line {error.lineno}: {error.message}"
            continue
        if name.parts[1] not in ("filing", "officers"):
            own = {each.name for each in tree.find_all(nodes.Name) if each.ctx == "store"}
            for variable in sorted(meta.find_undeclared_variables(tree) - own - known):
                yield f"{name}: {{{{ {variable} }}}} is not known; known are {all_known}"


def _tried(letters: Letters, specimen: Specimen) -> Iterator[str]:
    kind, notice, facts = specimen
    try:
        written = preview(letters, specimen)
    except (TemplateError, TypeError, ValueError, AttributeError) as error:
        yield f"the letter {notice} of {kind} can't be written: {error}"
        return
    must = [facts["notice"].notice_no, facts["case"].case_no]
    if limit := facts["limit"]:
        day = limit.last_day
        must += [f"{day.year}年{day.month}月{day.day}日 24:00", f"{day} 24:00"]
    if notice is NoticeKind.PUNISHMENT:
        must.append(f"{facts['fine'].amount:,.2f}")
    yield from (
        f"the letter {notice} of {kind} doesn't say {what}" for what in must if what not in written.text
    )
    if fault := _markup_fault(written.html):
        yield f"letter.html.j2: {fault}"


class _Tags(HTMLParser):
    """Whether each tag that opens is closed, in order."""

    _EMPTY = frozenset({"meta", "br", "hr", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fault = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.fault = self.fault or f"</{tag}> closes what isn't open, line {self.getpos()[0]}"


def _markup_fault(html: str) -> str:
    tags = _Tags()
    tags.feed(html)
    tags.close()
    return tags.fault or (f"<{tags.open[-1]}> is never closed" if tags.open else "")
