"""What may happen to numbers and their cases of all kinds, and plans of it in any order."""

from dataclasses import dataclass
from itertools import chain
from typing import Literal

from hypothesis import strategies as st

from rulebook.vocabulary import FilingStatus, Kind

# Monday; before Spring Festival; before the May holiday.
DAYS = ("2038-03-01", "2038-02-03", "2038-04-30")
FR, SS, SF = Kind.FRAUD, Kind.SECONDARY_SALE, Kind.SERVICE_FAILURE
LI, ZHANG, CHEN, ZHAO = "李敏", "张伟", "陈静", "赵强"


@dataclass(frozen=True)
class Reported:
    number: int
    kind: Kind


@dataclass(frozen=True)
class Rectified:
    number: int
    kind: Kind
    by_signal: bool = False


@dataclass(frozen=True)
class Verified:
    number: int
    kind: Kind
    passed: bool


@dataclass(frozen=True)
class Confirmed:
    """The customer says that it has been served."""

    number: int
    kind: Kind = SF


@dataclass(frozen=True)
class Paid:
    """All that is due or a third of it; or the bank reference that came last, again."""

    number: int
    kind: Kind
    share: str = "all"
    by_signal: bool = False


@dataclass(frozen=True)
class Extended:
    number: int
    kind: Kind
    working_days: int


@dataclass(frozen=True)
class Dismissed:
    number: int
    kind: Kind


@dataclass(frozen=True)
class Appealed:
    number: int
    kind: Kind


@dataclass(frozen=True)
class Heard:
    """The appeal is decided."""

    number: int
    kind: Kind
    upheld: bool
    officer: str = ZHAO


@dataclass(frozen=True)
class Reinstated:
    """An officer takes the shutdown back, or finds that it stays."""

    number: int
    kind: Kind
    keep: bool = False


@dataclass(frozen=True)
class Returned:
    """An officer has given back what the case owes."""

    number: int
    kind: Kind


@dataclass(frozen=True)
class LimitPasses:
    number: int
    kind: Kind


@dataclass(frozen=True)
class Proposed:
    """李敏 finds the circumstances of the number's last case of fraud serious."""

    number: int


@dataclass(frozen=True)
class Decided:
    number: int
    officer: str = ZHANG
    approves: bool = True


@dataclass(frozen=True)
class Filed:
    number: int
    which: int
    status: FilingStatus


@dataclass(frozen=True)
class Lifted:
    """An officer reopens the account, or unfreezes the number, after the number's last case of fraud."""

    number: int
    act: Literal["reopen", "unfreeze"]


@dataclass(frozen=True)
class Round:
    """The daily round, some days on."""

    days: int


OfCase = (
    Rectified
    | Verified
    | Confirmed
    | Paid
    | Extended
    | Dismissed
    | Appealed
    | Heard
    | Reinstated
    | Returned
    | LimitPasses
)
OfFraud = Proposed | Decided | Filed | Lifted
Happening = Reported | OfCase | OfFraud | Round


@dataclass(frozen=True)
class AtOnce:
    first: Happening
    second: Happening


@dataclass(frozen=True)
class Violation:
    agent: int
    kind: Kind


@dataclass(frozen=True)
class Plan:
    violations: tuple[Violation, ...]
    happenings: tuple[Happening | AtOnce, ...]
    day: str = DAYS[0]


# Whatever may happen, to whichever case: much of it is refused.
NUMBERS, KINDS = st.integers(0, 3), st.sampled_from(Kind)
ANYTHING: st.SearchStrategy[Happening] = st.one_of(
    st.builds(LimitPasses, NUMBERS, KINDS),
    st.builds(Paid, NUMBERS, KINDS, st.sampled_from(["all", "part", "again"]), st.booleans()),
    st.builds(Reported, NUMBERS, KINDS),
    st.builds(Rectified, NUMBERS, KINDS, st.booleans()),
    st.builds(Verified, NUMBERS, KINDS, st.booleans()),
    st.builds(Confirmed, NUMBERS),
    st.builds(Dismissed, NUMBERS, KINDS),
    st.builds(Extended, NUMBERS, KINDS, st.integers(1, 3)),
    st.builds(Appealed, NUMBERS, KINDS),
    st.builds(Heard, NUMBERS, KINDS, st.booleans(), st.sampled_from([ZHAO, LI])),
    st.builds(Reinstated, NUMBERS, KINDS, st.booleans()),
    st.builds(Returned, NUMBERS, KINDS),
    st.builds(Proposed, NUMBERS),
    st.builds(Decided, NUMBERS, st.sampled_from([LI, ZHANG, CHEN]), st.booleans()),
    st.builds(Lifted, NUMBERS, st.sampled_from(["reopen", "unfreeze"])),
    st.builds(Filed, NUMBERS, st.integers(1, 5), st.sampled_from(FilingStatus)),
    st.builds(Round, st.sampled_from([1, 25, 40])),
)


def _in_a_row(number: int) -> st.SearchStrategy[tuple[Happening, ...]]:
    """What by chance alone hardly ever follows on one another."""
    submitted, refused = (Filed(number, 1, to) for to in (FilingStatus.SUBMITTED, FilingStatus.REFUSED))
    return st.sampled_from(
        [
            (Rectified(number, SS), Verified(number, SS, passed=True)),
            (Rectified(number, SS), LimitPasses(number, SS), Verified(number, SS, passed=False)),
            (LimitPasses(number, SS), Paid(number, SS), Reported(number, SS), LimitPasses(number, SS)),
            (LimitPasses(number, SS), Dismissed(number, SS)),
            (LimitPasses(number, SS), LimitPasses(number, SS)),
            (Rectified(number, SF), Verified(number, SF, passed=True)),
            (LimitPasses(number, SF),),
            (Paid(number, FR, "part"), Extended(number, FR, 2), LimitPasses(number, FR)),
            (
                Paid(number, SS),
                Rectified(number, SS),
                Verified(number, SS, passed=True),
                Returned(number, SS),
            ),
            (Paid(number, FR), Paid(number, FR), Returned(number, FR), Dismissed(number, FR)),
            (Paid(number, FR), Lifted(number, "unfreeze"), Lifted(number, "reopen")),
            (LimitPasses(number, FR), Paid(number, FR), Reinstated(number, FR), Reported(number, FR)),
            (LimitPasses(number, FR), Round(40), Paid(number, FR, "part"), Reinstated(number, FR)),
            (Proposed(number), Decided(number, CHEN, approves=False), LimitPasses(number, FR), Round(40)),
            (Proposed(number), Decided(number), submitted, refused),
            (LimitPasses(number, FR), Appealed(number, FR), Heard(number, FR, upheld=False)),
            (Proposed(number), Decided(number), Appealed(number, FR), Heard(number, FR, upheld=False)),
            (LimitPasses(number, SF), Dismissed(number, SF)),
            (Appealed(number, SS), Heard(number, SS, upheld=True), LimitPasses(number, SS)),
        ]
    )


def _some_at_once(acts: list[Happening], together: set[int]) -> tuple[Happening | AtOnce, ...]:
    """The acts one after the other, but for some that come at once with the next one."""
    in_order: list[Happening | AtOnce] = []
    for place, act in enumerate(acts):
        last = in_order[-1] if in_order else None
        if place in together and last and not isinstance(last, AtOnce):
            in_order[-1] = AtOnce(last, act)
        else:
            in_order.append(act)
    return tuple(in_order)


ACTS = st.lists(st.tuples(ANYTHING) | NUMBERS.flatmap(_in_a_row), min_size=5, max_size=8)
PLANS = st.builds(
    Plan,
    st.lists(
        st.builds(Violation, st.integers(0, 1), st.sampled_from([FR, SS, SF, FR])), min_size=2, max_size=4
    ).map(tuple),
    st.builds(_some_at_once, ACTS.map(lambda acts: list(chain(*acts))), st.sets(st.integers(1, 15))),
    st.sampled_from(DAYS),
)
