"""Rulebook 1: fraud (诈骗), the customer does illegal business. Serious circumstances: see serious.py."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounts import Accounts, ReopenAccount, SuspendAccount
    from activities.numbers import FreezeNumber, Numbers, UnfreezeNumber
    from activities.step import Refused
    from rulebook.vocabulary import Kind, NoticeKind, Stage
    from workflows.case import Case
    from workflows.messages import CaseEnded, CaseStart


@workflow.defn
class FraudCase(Case):
    """One number suspected of fraud, from the first report to the end of its case."""

    kind = Kind.FRAUD

    @workflow.run
    async def run(self, start: CaseStart) -> CaseEnded:
        """Conduct the case; its first report comes as a signal."""
        return await self.conduct(start)

    async def clause(self) -> Stage:
        """Clause 1, top to bottom."""
        # 1.1 The number is frozen at once.
        self.enter(Stage.PUNISHMENT)
        await self.do(Numbers.freeze_number, FreezeNumber(**self.step("freeze")), "Freeze the number")

        # 1.2 The agent's account is closed, reversibly.
        suspend = SuspendAccount(**self.step("account-suspend"))
        await self.do(Accounts.suspend_account, suspend, "Suspend the account")

        # 1.3 The agent is fined for the number, payable within the limit.
        await self.impose_fine()
        self.enter(Stage.PAYMENT)
        await self.serve(NoticeKind.PUNISHMENT, within=self.policy.fraud.pay_within)

        # 1.4 Paid: the case ends.
        if await self.in_time("payment", met=self.settled):
            return Stage.SETTLED

        # 1.5 Not paid in time: the account is shut down, all its numbers are taken back.
        return await self.shut_down(clause="1.5")

    async def release(self) -> None:
        """Reopen the account and lift the freeze, newest first, unless another case holds them (5.2)."""
        assert self._dismissal
        officer = self._dismissal.officer
        reopen = ReopenAccount(**self.step("account-reopen", officer), undo=True)
        try:
            await self.do(Accounts.reopen_account, reopen, "Reopen the account")
        except Refused as why:
            await self.add_line("account-reopen-refused", officer, f"Not reopened: {why.message}")
        unfreeze = UnfreezeNumber(**self.step("unfreeze", officer), undo=True)
        try:
            await self.do(Numbers.unfreeze_number, unfreeze, "Unfreeze the number")
        except Refused as why:
            await self.add_line("unfreeze-refused", officer, f"Not unfrozen: {why.message}")
