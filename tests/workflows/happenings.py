"""What may happen to cases of secondary sale, and plans of it in any order."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from tests.world import a_report

# Monday; before Spring Festival; before the May holiday; at the end of a year.
DAYS = ("2038-03-01", "2038-02-03", "2038-04-30", "2038-12-29")
TEXTS = ("号码已恢复由登记客户使用", "𠮷😀 \u202e反", "第一行\r\nBcc: all@agent.example", "a\x00b")
GARBAGE: tuple[tuple[str, str, Any], ...] = (
    ("signal", "payment_received", {"reference": "G1", "amount": "-5"}),
    ("signal", "payment_received", {"reference": "G1", "amount": "0.001"}),
    ("signal", "payment_received", {"reference": "G1", "amount": "NaN"}),
    ("signal", "payment_received", {"reference": " \x00", "amount": 1}),
    ("signal", "payment_received", ["G1", 1000]),
    ("signal", "payment_received", None),
    ("signal", "rectification_reported", {"by": "代理商", "整改": True}),
    ("signal", "rectification_reported", "done"),
    ("signal", "report_received", {"source": "monitor"}),
    ("signal", "report_received", a_report("4009999999").model_dump(mode="json")),
    ("signal", "付款", {"reference": "G1", "amount": 1}),
    ("update", "paid", {"reference": "G1", "amount": True}),
    ("update", "paid", None),
    ("update", "verify", {"officer": "", "passed": True}),
    ("update", "verify", None),
    ("update", "extend", {"officer": "李敏", "working_days": 0, "reason": "x"}),
    ("update", "extend", None),
    ("update", "dismiss", {"officer": "李敏", "reason": ""}),
    ("update", "dismiss", None),
    ("update", "rectified", None),
    ("update", "撤销", {}),
)


# What may happen, each to the case of one number; numbers are named by their place in the plan


@dataclass(frozen=True)
class Reported:
    number: int
    irregular: bool
    facts: str
    by_signal: bool = False


@dataclass(frozen=True)
class ReportedAgain:
    number: int
    by_signal: bool


@dataclass(frozen=True)
class Rectified:
    number: int
    statement: str = ""
    by_signal: bool = False


@dataclass(frozen=True)
class Verified:
    number: int
    passed: bool


@dataclass(frozen=True)
class Paid:
    """A third of what is due, all of it, or a fen more; before a fine is set, of the first fine."""

    number: int
    share: str
    by_signal: bool = False


@dataclass(frozen=True)
class PaidAgain:
    """A bank reference comes a second time: with the same amount, another one, or for another case."""

    number: int
    like: str
    by_signal: bool = False


@dataclass(frozen=True)
class Extended:
    number: int
    working_days: int


@dataclass(frozen=True)
class Dismissed:
    number: int
    reason: str


@dataclass(frozen=True)
class TimePasses:
    """Until just before the limit ends, just after, or some days on."""

    number: int
    until: str | int


@dataclass(frozen=True)
class ClosingDay:
    """The platform closes on the last day of the limit that runs."""

    number: int


@dataclass(frozen=True)
class Garbage:
    number: int
    which: int


Happening = (
    Reported
    | ReportedAgain
    | Rectified
    | Verified
    | Paid
    | PaidAgain
    | Extended
    | Dismissed
    | TimePasses
    | ClosingDay
    | Garbage
)


@dataclass(frozen=True)
class AtOnce:
    first: Happening
    second: Happening


@dataclass(frozen=True)
class Violation:
    agent: int
    irregular: bool
    day: str


@dataclass(frozen=True)
class Plan:
    violations: tuple[Violation, ...]
    happenings: tuple[Happening | AtOnce, ...]


def _any_of(number: st.SearchStrategy[int]) -> list[st.SearchStrategy[Happening]]:
    flag, words = st.booleans(), st.sampled_from(TEXTS)
    return [
        st.builds(TimePasses, number, st.sampled_from(["over", "eve", 1, 9])),
        st.builds(Rectified, number, words, flag),
        st.builds(Verified, number, flag),
        st.builds(Paid, number, st.sampled_from(["all", "part", "more"]), flag),
        st.builds(Extended, number, st.integers(1, 3)),
        st.builds(Reported, number, flag, words, flag),
        st.builds(ReportedAgain, number, flag),
        st.builds(PaidAgain, number, st.sampled_from(["same", "amount", "case"]), flag),
        st.builds(Dismissed, number, words),
        st.builds(ClosingDay, number),
        st.builds(Garbage, number, st.integers(0, len(GARBAGE) - 1)),
    ]


def _at_once(number: int) -> st.SearchStrategy[AtOnce]:
    """Something else, mostly to the same case, while the case takes a turn: there most harm is done."""
    turns = [
        TimePasses(number, "over"),
        Verified(number, True),
        Verified(number, False),
        Paid(number, "all"),
        Dismissed(number, TEXTS[0]),
    ]
    either = st.one_of(*_any_of(st.just(number))), st.one_of(*_any_of(NUMBERS))
    return st.builds(AtOnce, st.sampled_from(turns) | either[1], st.one_of(*either))


# One number gets most of it: a case must come far before it can go wrong.
NUMBERS = st.sampled_from([0, 0, 0, 1, 2])
ONE = _any_of(NUMBERS)
AT_ONCE = NUMBERS.flatmap(_at_once)
# Time, rectification and payment more often than the rest: without them no case gets anywhere.
HAPPENINGS: st.SearchStrategy[Happening | AtOnce] = st.one_of(*ONE, *ONE[:4] * 2, ONE[0], *[AT_ONCE] * 5)
VIOLATIONS = st.builds(Violation, st.integers(0, 1), st.booleans(), st.sampled_from(DAYS))
# Three short lists on end are longer on the average than one long list.
PLANS = st.builds(
    Plan,
    st.lists(VIOLATIONS, min_size=1, max_size=3).map(tuple),
    st.tuples(*[st.lists(HAPPENINGS, max_size=5)] * 3).map(lambda lists: tuple(chain(*lists))),
)
