"""Rulebook 4: waiting until a deadline, however often it moves, and while the clock stands still."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.limits import ExtendLimit, Limits, ReckonDeadline, RestartClock, Standing, StopClock
    from activities.notices import NoticeServed
    from activities.step import Refused
    from rulebook.deadlines import Deadline, later
    from rulebook.money import Balance
    from rulebook.vocabulary import Awaiting, NoticeKind, Stage
    from workflows.messages import Answer, Extend, HoldCase, LookAgain, ResumeCase
    from workflows.undo import Undoable


class Limited(Undoable):
    """A proceeding in which the agent has a limit to do something, set by a notice."""

    def __init__(self) -> None:
        super().__init__()
        self._signals |= {
            "calendar_changed": (LookAgain, self._take_look_again),
            "fine_reviewed": (LookAgain, self._take_look_again),
        }
        self._limit_notice = self._limit_no = ""
        self._moved = self._look_again = False
        self._restated: tuple[str, str] | None = None
        self._restatements = self._decisions = self._clock_moves = 0
        self._stops: dict[str, str] = {}
        self._stopped: Deadline | None = None
        self._on_record: Stage | None = None

    def has_come_in(self) -> bool:
        """Whether something has come in that is to be taken up before the wait goes on."""
        return False

    async def take_up(self) -> None:
        """Take up what has come in."""

    # Waiting

    async def in_time(
        self,
        what: str,
        met: Callable[[], bool],
        checking: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait until it is met or the limit has ended, however often the limit moves (4.3 to 4.5).

        `checking` tells that the agent has done its part and an officer hasn't looked at it yet: that holds
        the penalty back, and so does the limit's notice when it has bounced. Whatever comes in before the
        penalty counts as in time. When the timer fires:

        1. every message that has arrived is dealt with;
        2. the deadline is computed anew, and if it has moved, the wait goes on; what the registry knows of
           payments and of the case's end counts, even if a crash kept it out of the history;
        3. what came in meanwhile is dealt with too; only then, in the same breath, is the limit over.
        """
        spread = self.policy.clock.spread(self.opened.case_no)

        def held_back() -> bool:
            return checking() or self._limit_no in self._bounced

        reckoned = False
        while True:
            await self.take_up()
            if why := self.left():
                raise why
            if met():
                self._limit = None
                return True
            if self._stops or self._stopped:
                await self._stand_still(met)
                reckoned = False
                continue
            if self._look_again:
                self._look_again = False
                await self._reckon()
                continue
            if self._restated:
                await self._restate()
                continue
            assert self._limit
            left = self._limit.at + spread - workflow.now()
            self._moved = False
            if held_back():
                reckoned = False
                self._show()
                await workflow.wait_condition(lambda: self._news() or met() or not held_back())
            elif left > timedelta():
                reckoned = False
                self._show()
                summary = f"Wait for {what} until {self._limit}"
                await self._wait(left, summary, lambda: self._news() or met() or held_back())
            elif not workflow.all_handlers_finished():
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() or self._news())
            elif not reckoned:
                await self._reckon()
                reckoned = True
            else:
                self._limit = None
                return False

    async def _stand_still(self, met: Callable[[], bool]) -> None:
        """The clock stands still while an appeal is pending or an officer holds the case (4.4)."""
        if self._stopped is None and self._limit:
            self._clock_moves += 1
            cause, why = next(iter(self._stops.items()))
            stop = StopClock(
                **self.step(f"clock-{self._clock_moves}"), notice_step=self._limit_notice, why=why
            )
            await self.do(Limits.stop_clock, stop, f"Stop the clock: {why}")
            self._stopped, self._limit = self._limit, None
            self._restated = cause, why if cause == "held" else ""
            await self._restate()
        self._show()
        await workflow.wait_condition(
            lambda: bool(
                self._upheld
                or self.left()
                or self.has_come_in()
                or self._look_again
                or met()
                or not self._stops
            )
        )
        if self._look_again:
            self._look_again = False
            await self._reckon()
            return
        if self._upheld and self._stops:
            await self.tell_decision()
        if self.left() or self.has_come_in() or met() or self._stops:
            return
        self._clock_moves += 1
        why = self._upheld.reason if self._upheld else "resumed by an officer"
        restart = RestartClock(
            **self.step(f"clock-{self._clock_moves}"), notice_step=self._limit_notice, why=why
        )
        done = await self.do(Limits.restart_clock, restart, f"The clock goes on: {why}")
        self._stopped, self._limit = None, done.deadline
        if self._upheld:
            await self.tell_decision()
        else:
            self._restated = "resumed", ""
            await self._restate()

    async def _restate(self) -> None:
        """Restate the deadline to the agent: it has moved, or its clock stands still."""
        assert self._restated
        (cause, reason), self._restated = self._restated, None
        self._restatements += 1
        await self.serve(
            NoticeKind.DEADLINE, nth=self._restatements, cause=cause, reason=reason, limit=self._limit
        )

    def _news(self) -> bool:
        return bool(self.left() or self.has_come_in() or self._moved or self._look_again or self._stops)

    async def _wait(self, time: timedelta, summary: str, until: Callable[[], bool]) -> None:
        try:
            await workflow.wait_condition(until, timeout=time, timeout_summary=summary)
        except TimeoutError:
            return

    async def _reckon(self) -> None:
        order = ReckonDeadline(**self.step(self._limit_notice))
        reckoned = await self.ask(Limits.reckon_deadline, order, "Compute the deadline anew")
        self._on_record = reckoned.outcome
        self._balance = Balance(
            fine=reckoned.balance.fine, paid=max(self._balance.paid, reckoned.balance.paid)
        )
        if self._offence:
            self._offence = reckoned.offence or self._offence
        self._lines += [line for line in reckoned.reviewed if line not in self._lines]
        if self._limit and reckoned.deadline != self._limit:
            before, self._limit = self._limit, later(self._limit, reckoned.deadline)
            self._lines.append(reckoned.line)
            moved = before.last_day != self._limit.last_day
            if moved and workflow.patched("deadlines-are-restated"):
                self._restated = "calendar", ""
        self._clock_moves = max(self._clock_moves, reckoned.taken.clock_moves)
        self._restatements = max(self._restatements, reckoned.taken.restatements)
        self._decisions = max(self._decisions, reckoned.taken.decisions)
        for one in reckoned.standing:
            if one.step not in self._steps:
                self._steps.add(one.step)
                self.stands(one)

    def stands(self, found: Standing) -> None:
        """Take up what stands on record and isn't in the history: a restore has cut it off, or a crash."""
        match found.what:
            case "held" | "appeal":
                self._stops[found.what] = found.why
                if found.what == "appeal":
                    self._awaiting.add(Awaiting.APPEAL)
                elif workflow.patched("holds-await-a-resumption"):
                    self._awaiting.add(Awaiting.RESUMPTION)
            case "anew":
                self._restated = "extended", found.why

    # The notices that say so

    async def serve(
        self, kind: NoticeKind, within: int | None = None, nth: int = 1, **told: Any
    ) -> NoticeServed:
        """Serve a notice; the limit that it sets is the one that runs.

        One that was on record before is of a run whose history is lost: the record knows what stands.
        """
        asked = workflow.now()
        served = await super().serve(kind, within, nth, **told)
        if served.deadline and served.line.at < asked and workflow.patched("taken-up-with-what-stands"):
            self._look_again = True
        if served.deadline:
            self._limit, self._limit_notice = served.deadline, f"notice-{kind}"
            self._limit_no = served.notice_no
        return served

    def served_again(self, served: NoticeServed) -> None:
        """A limit whose notice had bounced counts anew from the day on which it was served (4.6)."""
        super().served_again(served)
        if served.notice_no == self._limit_no and served.deadline and self._limit:
            self._limit, self._moved = later(self._limit, served.deadline), True

    async def tell_decision(self) -> None:
        """Tell the agent that its appeal was decided and the case stands, with the deadline if one runs."""
        assert self._upheld
        decision, self._upheld = self._upheld, None
        self._decisions += 1
        await self.serve(
            NoticeKind.APPEAL_DECISION,
            nth=self._decisions,
            reason=decision.reason,
            limit=self._limit,
        )

    # Messages

    async def _take_look_again(self, _: LookAgain) -> None:
        self._look_again = True

    @workflow.update
    async def extend(self, extension: Extend) -> Answer:
        """Extend the limit that runs by working days (4.4)."""
        order = ExtendLimit(
            **self.step(self.asked("extend"), extension.officer),
            notice_step=self._limit_notice,
            working_days=extension.working_days,
            reason=extension.reason,
        )
        summary = f"Extend the limit by {extension.working_days} working days: {extension.reason}"
        done = await self.do(Limits.extend_limit, order, summary)
        self._limit, self._moved = done.deadline, True
        if workflow.patched("deadlines-are-restated"):
            self._restated = "extended", extension.reason
        return self.answer(f"The limit now ends {done.deadline}")

    @extend.validator
    def _may_extend(self, extension: Extend) -> None:
        self.may_command(extension)
        self.refuse_if_over()
        if self._stopped:
            raise Refused("the clock stands still: what is left of the limit is kept")
        if self._limit is None:
            raise Refused(f"no limit is running: the case is in stage {self._stage}")

    @workflow.update
    async def hold(self, message: HoldCase) -> Answer:
        """Stop the clock of the limit that runs (4.4)."""
        self._stops["held"] = message.reason
        if workflow.patched("holds-await-a-resumption"):
            self._awaiting.add(Awaiting.RESUMPTION)
        text = f"Case held: {message.reason}"
        await self.add_line(self.asked("hold"), message.officer, text, begins=Awaiting.RESUMPTION)
        return self.answer("held: the clock stands still until it is resumed")

    @hold.validator
    def _may_hold(self, message: HoldCase) -> None:
        self.may_command(message)
        self.refuse_if_over()
        if "held" in self._stops:
            raise Refused("the case is held already")
        if self._limit is None and not self._stopped:
            raise Refused(f"no limit is running: the case is in stage {self._stage}")

    @workflow.update
    async def resume(self, message: ResumeCase) -> Answer:
        """Let the clock go on, with what was left of the limit."""
        text = "Case resumed" + (f": {message.reason}" if message.reason else "")
        await self.add_line(self.asked("resume"), message.officer, text, ends=Awaiting.RESUMPTION)
        self._stops.pop("held", None)
        self._awaiting.discard(Awaiting.RESUMPTION)
        return self.answer("resumed" + ("; an appeal is still pending" if self._stops else ""))

    @resume.validator
    def _may_resume(self, message: ResumeCase) -> None:
        self.may_command(message)
        self.refuse_if_over()
        if "held" not in self._stops:
            raise Refused("the case is not held")

    def refuse_if_over(self) -> None:
        """Refuse a command that comes after the end."""
        if self._stage.ended:
            raise Refused(f"the case has ended: {self._stage}")
