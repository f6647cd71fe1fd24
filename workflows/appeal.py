"""Contesting a case that has ended: the agent appeals (5.1), or an officer dismisses it (5.2)."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.cases import Cases, FindCase
    from activities.step import Refused
    from rulebook.vocabulary import NoticeKind, Stage
    from workflows.messages import (
        Answer,
        AppealStart,
        CaseEnded,
        CaseUndone,
        Decide,
        DismissalStart,
    )
    from workflows.undo import Undoable


class Contest(Undoable):
    """A proceeding about a case that has ended."""

    async def find(self, case_no: str) -> None:
        """Find the case. Raises `Refused` where there is none, or it is open."""
        found = await self.ask(Cases.find_any_case, FindCase(case_no=case_no), f"Find case {case_no}")
        if found.outcome is None:
            raise Refused(f"case {case_no} is open: it is contested there")
        self.kind = found.kind
        self._opened = found.opened

    async def undo_all(self, outcome: Stage, officer: str, reason: str) -> None:
        """Undo all that the case did. Raises `Refused` if it was undone before."""
        step = f"undo-{workflow.info().run_id}"  # another contest finds it undone, and is refused
        found = await self.find_undone(outcome, officer, reason, step)
        self._stage = outcome
        self._show()
        await self.undo(found, outcome, officer, reason)

    async def end(self, outcome: Stage) -> CaseEnded:
        """End once every command has been answered."""
        self._stage = outcome
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show()
        return CaseEnded(case_no=self.opened.case_no, outcome=outcome, balance=self._balance)


@workflow.defn
class Appeal(Contest):
    """One appeal against a case that has ended, from the agent's statement to an officer's decision."""

    def __init__(self) -> None:
        super().__init__()
        self._dismissed = False
        self._signals["case_undone"] = (CaseUndone, self._take_undone)

    async def _take_undone(self, _: CaseUndone) -> None:
        self._dismissed = True

    @workflow.run
    async def run(self, start: AppealStart) -> CaseEnded:
        """Clause 5.1, top to bottom. Raises `Refused` where no appeal is possible (any more)."""
        await self.find(start.case_no)
        filed = await self.file_appeal(start.appeal)
        self._stage = Stage.APPEAL
        self._show()
        await workflow.wait_condition(lambda: bool(self._overturned or self._upheld or self._dismissed))
        if self._dismissed:
            self._awaiting.clear()
            return await self.end(Stage.DISMISSED)
        if self._overturned:
            decision = self._overturned
            await self.undo_all(Stage.OVERTURNED, decision.officer, decision.reason)
            return await self.end(Stage.OVERTURNED)
        assert self._upheld
        nth = int(filed.appeal_no.rpartition("-A")[2])  # the agent is told of each
        await self.serve(NoticeKind.APPEAL_DECISION, nth=nth, reason=self._upheld.reason)
        return await self.end(Stage.UPHELD)

    @workflow.update
    async def decide(self, decision: Decide) -> Answer:
        """Decide the appeal (5.1): the case stands, or everything is undone."""
        await self.decide_appeal(decision)
        if decision.upheld:
            return self.answer("the case stands")
        await workflow.wait_condition(lambda: self._stage.undone)
        return self.answer("the case is overturned: what it did is undone")

    @decide.validator
    def _may_decide(self, decision: Decide) -> None:
        self.may_decide_appeal(decision)


@workflow.defn
class Dismissal(Contest):
    """An officer finds that a case that has ended had no ground."""

    @workflow.run
    async def run(self, start: DismissalStart) -> CaseEnded:
        """Clause 5.2, top to bottom. Raises `Refused` where the case can't be dismissed (any more)."""
        await self.find(start.case_no)
        dismissal = start.dismissal
        await self.undo_all(Stage.DISMISSED, dismissal.officer, dismissal.reason)
        await self.tell(f"appeal-{start.case_no}", "case_undone", CaseUndone(officer=dismissal.officer))
        return await self.end(Stage.DISMISSED)
