"""Rulebook 5.2: a case that did not stand is undone, newest effect first, each once."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.appeals import AppealFiled, Appeals, DecideAppeal, FileAppeal
    from activities.filings import Filings, WithdrawFilings
    from activities.fines import Fines, VoidFine
    from activities.numbers import Renewal
    from activities.step import Refused
    from activities.undoing import CaseUndone as Found
    from activities.undoing import LiftHold, UndoCase, Undoing
    from registry.shown import FilingShown, Raised
    from rulebook.money import Balance
    from rulebook.vocabulary import Awaiting, FilingStatus, Kind, NoticeKind, Stage
    from workflows.messages import AppealReceived, CaseUndone, Decide, RestitutionStart
    from workflows.proceeding import Proceeding
    from workflows.restitution import leave_to_officers


class Undoable(Proceeding):
    """A proceeding that may end with the case undone: dismissed by an officer, or overturned on appeal."""

    def __init__(self) -> None:
        super().__init__()
        self._deciding = False
        self._overturned: Decide | None = None
        self._upheld: Decide | None = None

    # Appeals (5.1)

    @property
    def appealed(self) -> bool:
        """Whether an appeal is pending."""
        return Awaiting.APPEAL in self._awaiting

    async def file_appeal(self, message: AppealReceived) -> AppealFiled:
        """Put the agent's appeal on record. Raises `Refused`."""
        order = FileAppeal(
            **self.step(self.asked("appeal"), message.by),
            statement=message.statement,
            evidence=message.evidence,
        )
        filed = await self.do(Appeals.file_appeal, order, f"Record the appeal of {message.by}")
        self._awaiting.add(Awaiting.APPEAL)
        self._show()
        return filed

    def may_file_appeal(self, message: AppealReceived) -> None:
        """Refuse an appeal while another is pending."""
        self.may_command(message)
        if self.appealed:
            raise Refused("an appeal is pending already: it has to be decided first")

    async def decide_appeal(self, decision: Decide) -> None:
        """Decide the appeal that is pending. Raises `Refused` for an officer who had a part in the case."""
        order = DecideAppeal(
            **self.step(self.asked("decide"), decision.officer),
            upheld=decision.upheld,
            reasons=decision.reason,
        )
        self._deciding = True
        try:
            ruling = "the case stands" if decision.upheld else "the case is overturned"
            await self.do(Appeals.decide_appeal, order, f"Decide the appeal: {ruling}", decided=True)
        finally:
            self._deciding = False
        if decision.upheld:
            self._upheld = decision
        else:
            self._overturned = decision
        self._awaiting.discard(Awaiting.APPEAL)

    def may_decide_appeal(self, decision: Decide) -> None:
        """Refuse a decision where no appeal is pending."""
        self.may_command(decision)
        if not self.appealed:
            raise Refused("no appeal is pending")
        if self._deciding:
            raise Refused("another officer is deciding at this moment")

    # Undoing (5.2)

    async def find_undone(self, outcome: Stage, officer: str, reason: str, step: str = "undo") -> Found:
        """Put on record that the case did not stand. Raises `Refused` if it can't be undone (any more)."""
        text = f"Case closed: {outcome} ({reason})"
        order = UndoCase(**self.step(step, officer), outcome=outcome, text=text)
        return await self.do(Undoing.undo_case, order, text, decided=True)

    async def undo(self, found: Found, outcome: Stage, officer: str, reason: str) -> None:
        """Take back what the case did, the newest first; officers do the rest, and the agent is told."""
        if self.kind is Kind.FRAUD:
            await self.tell(f"serious-{self.opened.case_no}", "case_undone", CaseUndone(officer=officer))

        lost: list[str] = []
        direct: list[Renewal] = []
        served_again: set[str] = set()
        filings: tuple[FilingShown, ...] = ()
        raised: tuple[Raised, ...] = ()
        for effect in found.effects:
            summary = f"Undo: {effect.text}"
            match effect.what:
                case "filings":
                    withdraw = WithdrawFilings(**self.step("undo-filings", officer), reason=reason)
                    filings = (await self.do(Filings.withdraw_filings, withdraw, summary)).filings
                case "hold":
                    lift = LiftHold(**self.step(f"undo-{effect.step}", officer), of=effect.step)
                    lifted = await self.do(Undoing.lift_hold, lift, summary)
                    lost += lifted.lost
                    direct += lifted.no_longer_direct
                    if lifted.no_longer_direct:
                        served_again |= set(lifted.returned)
                case "fine":
                    void = VoidFine(**self.step("fine-void", officer))
                    raised = (await self.do(Fines.void_fine, void, summary)).raised
        self._balance, self._offence = Balance(paid=found.refund), None
        for renewal in direct:
            await self.tell(f"renewal-{renewal.number}-{renewal.due}", "returned")

        left = RestitutionStart(
            case_no=self.opened.case_no,
            refund=found.refund,
            lost=tuple(lost),
            filings=tuple(f for f in filings if f.status is FilingStatus.WITHDRAWING),
            raised=raised,
        )
        # What the rules can't do by themselves waits for officers, in a workflow of its own.
        if left.refund or left.lost or left.filings or left.raised:
            await leave_to_officers(left)
        await self.serve(NoticeKind.UNDONE, outcome=outcome, reason=reason, lost=tuple(lost))
        if served_again:
            await self.serve(NoticeKind.UNDONE_CUSTOMER, outcome=outcome)
