"""Rulebook 6.3: an officer takes back the shutdown of a case that has ended; fine and offence stand."""

from contextlib import suppress

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.cases import Cases, FindCase
    from activities.step import Refused
    from activities.undoing import ReinstateCase, Undoing
    from rulebook.money import ZERO
    from rulebook.vocabulary import NoticeKind
    from workflows.messages import CaseEnded, ReinstatementStart, RestitutionStart
    from workflows.proceeding import Proceeding
    from workflows.restitution import leave_to_officers


@workflow.defn
class Reinstatement(Proceeding):
    """One shutdown that an officer takes back, or finds to be right."""

    @workflow.run
    async def run(self, start: ReinstatementStart) -> CaseEnded:
        """Take the shutdown back and tell the agent. Raises `Refused` where none is to be taken back."""
        asked = FindCase(case_no=start.case_no)
        found = await self.ask(Cases.find_any_case, asked, f"Find case {start.case_no}")
        self.kind, self._opened = found.kind, found.opened
        order = ReinstateCase(
            **self.step(self.asked("reinstate"), start.officer), reason=start.reason, keep=start.keep
        )
        what = "Leave the shutdown as it is" if start.keep else "Take the shutdown back"
        done = await self.do(Undoing.reinstate_case, order, f"{what}: {start.reason}", decided=True)
        self._lines += done.lines
        self._stage, self._balance = done.outcome, done.balance
        self._show()
        if done.lost:
            await leave_to_officers(RestitutionStart(case_no=start.case_no, refund=ZERO, lost=done.lost))
        if not start.keep:
            cause = "in-time" if done.in_time else "late"
            with suppress(Refused):  # undone meanwhile: the agent is told of that
                await self.serve(NoticeKind.REINSTATED, cause=cause, reason=start.reason, lost=done.lost)
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show()
        return CaseEnded(case_no=start.case_no, outcome=self._stage, balance=self._balance)
