"""A draft policy against the record: how the cases would have gone under it, all else being equal (5.4).

The agents' and officers' acts stay at the moments at which they happened; what the rules then do is done
anew, under the draft, with the calendar of now:

- Only cases opened within the window follow the draft. The same agents' cases from before or after it stay
  as they are on record: their fines count as offences where they fell, their shutdowns overtake.
- A penalty falls at its deadline's midnight and the case's own spread; an act at that instant comes before.
- A notice is served when its stage begins, or when it was served on record if the stage began on that day.
- A verification that is awaited holds the penalty back. A case stays open under the draft where none is on
  record, and where its limit is not over yet.
- An offence is counted when its fine falls; a case that was undone before that is none.
- An appeal, or an officer who holds the case, stops the clock of the limit that runs then; what is left of
  it counts on.
- A shutdown overtakes the agent's other open cases at once, and no further case is opened about its numbers.
- A case that was dismissed, overturned or found serious was so for what it is, whatever the policy: that
  stands, at its moment, however far the case has come under the draft.
- A report about a case that is still open under the draft joins it, as do the acts that followed it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from rulebook.deadlines import Deadline
from rulebook.money import ZERO
from rulebook.policy import Policy
from rulebook.vocabulary import Business, Kind, Stage, day_of
from rulebook.working_days import Calendar, deadline, working_days

UNKNOWN = (
    "How an agent would have acted under other limits and amounts: here it acts as it did on record.",
    "What came too late on record and was refused, and reports that were refused, left no act behind.",
    "When a letter would have reached an agent: here it is served at once where the record has none.",
    "What the platform's own checks would have reported by other thresholds: the cases are those on record.",
)
"""What no backtest can know; said with every one."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Deed(StrEnum):
    """What happened in a case: done by the agent, a customer or an officer, or by the platform."""

    OPENED = "opened"
    REPORTED = "reported-again"
    RECTIFIED = "rectified"
    PASSED = "verification-passed"
    FAILED = "verification-failed"
    CONFIRMED = "customer-confirmed"
    PAID = "paid"
    EXTENDED = "extended"
    HELD = "held"
    RESUMED = "resumed"
    APPEALED = "appealed"
    DECIDED = "appeal-decided"
    LOWERED = "fine-lowered"
    UNDONE = "undone"
    CLOSED_FOR_GOOD = "closed-for-good"
    FINED = "fined"
    TAKEN_BACK = "taken-back"
    OVERTAKEN = "overtaken"


class Act(_Value):
    """One deed at its moment; `amount` in yuan of a payment, `working_days` of an extension."""

    at: AwareDatetime
    deed: Deed
    amount: Decimal = ZERO
    working_days: int = 0


class Outcome(_Value):
    """How a case ended, or the stage in which it still is; a fine that is void isn't in it.

    `taken_back_at` is when the account was shut down with all its numbers, or the one number taken back.
    """

    stage: Stage
    offence: int | None = None
    fine: Decimal = ZERO
    taken_back_at: AwareDatetime | None = None


class CaseFacts(_Value):
    """One case as it is on record, its acts in the order in which they happened.

    `served` tells when the notice that begins a stage was served.
    """

    case_no: str
    kind: Kind
    agent: str
    number: str
    business: Business
    opened_at: AwareDatetime
    served: Mapping[Stage, AwareDatetime]
    acts: tuple[Act, ...]
    on_record: Outcome

    def first(self, deed: Deed) -> datetime | None:
        """When this was first done in the case."""
        return next((act.at for act in self.acts if act.deed is deed), None)


class Change(StrEnum):
    """What the draft makes of a case: the penalty that it is spared or that falls on it, if any."""

    SAME = "same"
    SPARED = "spared"
    MILDER = "milder"
    FINED = "fined"
    TAKEN_BACK = "taken-back"
    SHUT_DOWN = "shut-down"
    OTHERWISE = "otherwise"
    NOT_OPENED = "not-opened"


# What falls on the agent, the heaviest last.
_PENALTIES = (Change.SPARED, Change.FINED, Change.TAKEN_BACK, Change.SHUT_DOWN)


def _penalty(outcome: Outcome) -> int:
    if outcome.stage in (Stage.SHUT_DOWN, Stage.CLOSED_FOR_GOOD):
        return 3
    return 2 if outcome.stage is Stage.TAKEN_BACK else int(outcome.fine > ZERO)


class CaseResult(_Value):
    """A case on record, and under the draft if it had been opened there; `note` says what isn't sure."""

    case_no: str
    kind: Kind
    agent: str
    number: str
    opened_at: AwareDatetime
    on_record: Outcome
    under_draft: Outcome | None
    change: Change
    note: str = ""


class Totals(_Value):
    """What fell on the agents; `fined` counts cases, `yuan` is what they were fined."""

    fined: int
    yuan: Decimal
    accounts_shut_down: int
    numbers_taken_back: int

    @classmethod
    def of(cls, outcomes: Iterable[tuple[str, Outcome]]) -> Self:
        """The totals of agents' outcomes."""
        each = list(outcomes)
        return cls(
            fined=sum(outcome.fine > ZERO for _, outcome in each),
            yuan=sum((outcome.fine for _, outcome in each), ZERO),
            accounts_shut_down=len({agent for agent, o in each if o.stage is Stage.SHUT_DOWN}),
            numbers_taken_back=sum(outcome.stage is Stage.TAKEN_BACK for _, outcome in each),
        )


class Backtest(_Value):
    """What a draft would have made of the cases opened from `since` until `until`, as of a moment."""

    since: date
    until: date
    as_of: AwareDatetime
    cases: tuple[CaseResult, ...]
    on_record: Totals
    under_draft: Totals
    changes: Mapping[Change, int]
    unknown: tuple[str, ...] = UNKNOWN


def backtest(
    draft: Policy, calendar: Calendar, record: Iterable[CaseFacts], since: date, until: date, as_of: datetime
) -> Backtest:
    """How the cases opened from `since` until `until` (days in Shanghai) would have gone under the draft.

    `record` has all cases of the agents that matter, in any order; the draft's own day doesn't count.
    """
    agents = defaultdict(list)
    for facts in record:
        agents[facts.agent].append(facts)
    results = []
    for mine in agents.values():
        run = _Agent(draft, calendar, [f for f in mine if since <= day_of(f.opened_at) <= until])
        results += run.results(mine, as_of)
    results.sort(key=lambda result: (result.opened_at, result.case_no))
    drafted = [(result.agent, result.under_draft) for result in results if result.under_draft]
    return Backtest(
        since=since,
        until=until,
        as_of=as_of,
        cases=tuple(results),
        on_record=Totals.of((result.agent, result.on_record) for result in results),
        under_draft=Totals.of(drafted),
        changes=Counter(result.change for result in results),
    )


# What comes first of what comes at one instant.
_SERVED, _ACT, _PENALTY = range(3)


class _Course:
    """One case on its way under the draft."""

    def __init__(self, facts: CaseFacts, spread: timedelta) -> None:
        self.facts = facts
        self.spread = spread
        self.stage = Stage.OPENING
        self.within = 0
        self.counted_from: datetime | None = None
        self.limit: Deadline | None = None
        self.waiting = self.verified = self.still = False
        self.stops: set[Deed] = set()
        self.offence: int | None = None
        self.fine = self.paid = ZERO
        self.taken_back_at: datetime | None = None

    def begin(self, stage: Stage, within: int, served_at: datetime | None) -> None:
        """Go on to a stage whose notice sets a limit, once it is served."""
        self.stage, self.within, self.counted_from, self.limit = stage, within, served_at, None

    def turn(self) -> tuple[datetime, int] | None:
        """When it goes on by itself: its notice is served, or its limit is over and nothing holds it."""
        if self.stage.ended:
            return None
        if self.limit is None:
            return (self.counted_from, _SERVED) if self.counted_from else None
        held = self.waiting or self.still
        return None if held else (self.limit.at + self.spread, _PENALTY)

    def reckon(self, calendar: Calendar) -> None:
        """Compute the limit from the day on which the notice was served, or the clock went on."""
        assert self.counted_from
        self.limit = deadline(self.counted_from, self.within, calendar)

    def does(self, act: Act, calendar: Calendar) -> None:
        """Take an act of the agent, a customer or an officer, if the case is at a stage for it."""
        rectifying = self.stage is Stage.RECTIFICATION
        match act.deed:
            case Deed.RECTIFIED if rectifying:
                self.waiting = True
            case Deed.PASSED | Deed.FAILED if rectifying:
                self.waiting, self.verified = False, act.deed is Deed.PASSED
            case Deed.CONFIRMED if rectifying:
                self.verified = True
            case Deed.EXTENDED if self.limit and not self.still:
                self.within += act.working_days
                self.reckon(calendar)
            case Deed.APPEALED | Deed.HELD if self.limit or act.deed is Deed.APPEALED:
                self.stops.add(act.deed)
                self.stand_still(act.at, calendar)
            case Deed.DECIDED | Deed.RESUMED:
                self.stops.discard(Deed.APPEALED if act.deed is Deed.DECIDED else Deed.HELD)
                if self.still and not self.stops:
                    self.counted_from, self.still = act.at, False
                    self.reckon(calendar)

    def stand_still(self, at: datetime, calendar: Calendar) -> None:
        """Stop the clock (4.4). What is left counts on: the day on which it stops too, and one at least."""
        if self.stops and self.limit and self.counted_from and not self.still:
            first = max(day_of(at), day_of(self.counted_from) + timedelta(days=1))
            self.within = max(1, working_days(first, self.limit.last_day, calendar))
            self.still = True

    def look(self) -> None:
        """End it if all is done that its notice asks for."""
        if self.limit is None:
            return
        if self.stage is Stage.RECTIFICATION and self.verified:
            self.stage = Stage.RECTIFIED
        elif self.stage is Stage.PAYMENT and self.paid >= self.fine:
            self.stage = Stage.SETTLED

    def undo(self, outcome: Stage) -> None:
        """Leave nothing of what it did (5.2)."""
        self.stage, self.offence, self.fine, self.taken_back_at = outcome, None, ZERO, None

    def outcome(self) -> Outcome:
        """How it ended, or where it stands."""
        return Outcome(
            stage=self.stage, offence=self.offence, fine=self.fine, taken_back_at=self.taken_back_at
        )


class _Agent:
    """The cases of one agent on their way, those within the window under the draft."""

    def __init__(self, draft: Policy, calendar: Calendar, within: list[CaseFacts]) -> None:
        self.draft = draft
        self.calendar = calendar
        self.within = {facts.case_no: facts for facts in within}
        self.courses: dict[str, _Course] = {}
        self.notes: dict[str, str] = {}
        self.offences: defaultdict[Kind, list[str]] = defaultdict(list)
        self.closed_by: set[str] = set()
        self.direct: dict[str, str] = {}
        self.now: datetime

    def results(self, record: list[CaseFacts], as_of: datetime) -> list[CaseResult]:
        """Let all that is on record up to a moment happen again, and the rules do the rest."""
        happenings = [
            ((act.at, facts.case_no, place), facts, act)
            for facts in record
            for place, act in enumerate((Act(at=facts.opened_at, deed=Deed.OPENED), *facts.acts))
        ]
        for (at, *_), facts, act in sorted(happenings, key=lambda happening: happening[0]):
            if at > as_of:
                break
            self._time_passes((at, _ACT))
            self.now = at
            if facts.case_no in self.within:
                self._happens(facts, act)
            else:
                self._stays(facts, act)
        self._time_passes((as_of, _PENALTY + 1))
        return [self._result(facts) for facts in self.within.values()]

    def _time_passes(self, until: tuple[datetime, int]) -> None:
        while turns := [
            (turn, course.facts.case_no, course)
            for course in self._running()
            if (turn := course.turn()) and turn < until
        ]:
            (at, what), _, course = min(turns)
            # What was held back beyond its limit falls as soon as nothing holds it.
            self.now = max(self.now, at)
            if what == _SERVED:
                course.reckon(self.calendar)
                course.stand_still(self.now, self.calendar)
                course.look()
            else:
                self._penalise(course)

    def _running(self) -> list[_Course]:
        return [c for no, c in self.courses.items() if no == c.facts.case_no and not c.stage.ended]

    # What the rules do

    def _open(self, facts: CaseFacts) -> None:
        violation = facts.number, facts.kind
        same = [c for c in self._running() if (c.facts.number, c.facts.kind) == violation]
        if same:
            self.courses[facts.case_no] = same[0]
            self.notes[facts.case_no] = f"its report would have joined {same[0].facts.case_no}"
        elif self.closed_by or facts.number in self.direct:
            by = self.direct.get(facts.number) or min(self.closed_by)
            self.notes[facts.case_no] = f"its number would have been taken back before, by {by}"
        else:
            course = _Course(facts, self.draft.clock.spread(facts.case_no))
            self.courses[facts.case_no] = course
            self._begin(course)

    def _begin(self, course: _Course) -> None:
        facts, draft = course.facts, self.draft
        ordered = facts.served.get(Stage.RECTIFICATION)
        if facts.kind is Kind.FRAUD:
            self._fine(course)
            course.begin(Stage.PAYMENT, draft.fraud.pay_within, facts.served.get(Stage.PAYMENT))
        elif facts.kind is Kind.SECONDARY_SALE:
            within = draft.secondary_sale.rectify_within(facts.business)
            course.begin(Stage.RECTIFICATION, within, ordered)
        else:
            course.begin(Stage.RECTIFICATION, draft.service_failure.serve_within, ordered)

    def _fine(self, course: _Course) -> None:
        facts = course.facts
        standing = self.offences[facts.kind]
        if facts.case_no not in standing:
            standing.append(facts.case_no)
        course.offence = standing.index(facts.case_no) + 1
        course.fine = self.draft.fine(facts.kind, course.offence).quantize(ZERO)

    def _penalise(self, course: _Course) -> None:
        facts = course.facts
        if course.stage is Stage.PAYMENT:
            course.stage, course.taken_back_at = Stage.SHUT_DOWN, self.now
            self._close_account(facts.case_no)
        elif facts.kind is Kind.SERVICE_FAILURE:
            course.stage, course.taken_back_at = Stage.TAKEN_BACK, self.now
            self.direct[facts.number] = facts.case_no
        else:
            self._fine(course)
            fined = facts.first(Deed.FINED)
            as_on_record = fined is not None and day_of(fined) == day_of(self.now)
            served = facts.served.get(Stage.PAYMENT) if as_on_record else self.now
            course.begin(Stage.PAYMENT, self.draft.secondary_sale.pay_within, served)

    def _close_account(self, case_no: str) -> None:
        self.closed_by.add(case_no)
        for other in self._running():
            other.stage = Stage.OVERTAKEN

    def _lift(self, case_no: str, kind: Kind) -> None:
        self.offences[kind] = [one for one in self.offences[kind] if one != case_no]
        self.closed_by.discard(case_no)
        self.direct = {number: by for number, by in self.direct.items() if by != case_no}

    # What people do

    def _happens(self, facts: CaseFacts, act: Act) -> None:
        if act.deed is Deed.OPENED:
            self._open(facts)
        elif course := self.courses.get(facts.case_no):
            self._does(course, act, facts.on_record.stage)
            course.look()

    def _does(self, course: _Course, act: Act, on_record: Stage) -> None:
        match act.deed:
            case Deed.REPORTED if course.stage.ended:
                self._note(course, "a report that joined it might have opened a further case")
            case Deed.LOWERED if course.fine:
                self._fine(course)
            case Deed.UNDONE:
                course.undo(on_record)
                self._lift(course.facts.case_no, course.facts.kind)
            case Deed.CLOSED_FOR_GOOD:
                if not course.stage.ended:
                    course.stage = Stage.CLOSED_FOR_GOOD
                self._close_account(course.facts.case_no)
            case Deed.PAID:
                course.paid += act.amount
            case _ if not course.stage.ended:
                course.does(act, self.calendar)

    def _stays(self, facts: CaseFacts, act: Act) -> None:
        match act.deed:
            case Deed.FINED:
                self.offences[facts.kind].append(facts.case_no)
            case Deed.TAKEN_BACK | Deed.CLOSED_FOR_GOOD if facts.kind is not Kind.SERVICE_FAILURE:
                self._close_account(facts.case_no)
            case Deed.UNDONE:
                self._lift(facts.case_no, facts.kind)

    # What has come of it

    def _note(self, course: _Course, text: str) -> None:
        self.notes.setdefault(course.facts.case_no, text)

    def _result(self, facts: CaseFacts) -> CaseResult:
        course = self.courses.get(facts.case_no)
        under = course.outcome() if course and course.facts is facts else None
        change = _change(facts.on_record, under)
        note = self.notes.get(facts.case_no, "")
        if under and not note:
            if facts.on_record.stage.ended and not under.stage.ended:
                note = "the record does not say how it would have gone on"
            elif facts.on_record.stage in (Stage.RECTIFIED, Stage.SETTLED) and change in _PENALTIES[1:]:
                note = "it did in time what was asked of it on record"
        return CaseResult(
            case_no=facts.case_no,
            kind=facts.kind,
            agent=facts.agent,
            number=facts.number,
            opened_at=facts.opened_at,
            on_record=facts.on_record,
            under_draft=under,
            change=change,
            note=note,
        )


def _change(on_record: Outcome, under: Outcome | None) -> Change:
    if under is None:
        return Change.NOT_OPENED
    before, after = _penalty(on_record), _penalty(under)
    if before != after:
        return Change.MILDER if 0 < after < before else _PENALTIES[after]
    return Change.SAME if _told(on_record) == _told(under) else Change.OTHERWISE


def _told(outcome: Outcome) -> tuple[object, ...]:
    day = outcome.taken_back_at and day_of(outcome.taken_back_at)
    return outcome.stage, outcome.offence, outcome.fine, day
