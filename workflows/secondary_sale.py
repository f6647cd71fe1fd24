"""Rulebook 2: secondary sale (私自转售), a real-name-certified number passed on to somebody else."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from rulebook.vocabulary import Kind, NoticeKind, Stage
    from workflows.messages import CaseEnded, CaseStart
    from workflows.rectifiable import Rectifiable


@workflow.defn
class SecondarySaleCase(Rectifiable):
    """One number that was passed on, from the first report to the end of its case."""

    kind = Kind.SECONDARY_SALE

    @workflow.run
    async def run(self, start: CaseStart) -> CaseEnded:
        """Conduct the case; its first report comes as a signal."""
        return await self.conduct(start)

    async def clause(self) -> Stage:
        """Clause 2, top to bottom."""
        rules = self.policy.secondary_sale

        # 2.1 The notice orders the agent to rectify within the limit.
        self.enter(Stage.RECTIFICATION)
        await self.serve(NoticeKind.RECTIFICATION_ORDER, within=rules.rectify_within(self.business))

        # 2.2 Rectified and verified in time: the case ends, no fine.
        if await self.rectified_in_time("rectification"):
            return Stage.RECTIFIED

        # 2.3 Not rectified in time: fine.
        self.enter(Stage.PUNISHMENT)
        await self.impose_fine()

        # 2.4 The punishment notice states the fine, and it is paid within the limit.
        self.enter(Stage.PAYMENT)
        await self.serve(NoticeKind.PUNISHMENT, within=rules.pay_within)
        if await self.in_time("payment", met=self.settled):
            return Stage.SETTLED

        # 2.5 Not paid in time: the account is shut down, all its numbers are taken back.
        return await self.shut_down(clause="2.5")
