"""Rulebook 2: secondary sale (私自转售), a real-name-certified number passed on to somebody else."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.step import Refused
    from rulebook.vocabulary import Awaiting, Kind, NoticeKind, Stage
    from workflows.case import Case
    from workflows.messages import Answer, CaseEnded, CaseStart, RectificationReported, Verify


@workflow.defn
class SecondarySaleCase(Case):
    """One number that was passed on, from the first report to the end of its case."""

    kind = Kind.SECONDARY_SALE

    def __init__(self) -> None:
        super().__init__()
        self._signals["rectification_reported"] = (RectificationReported, self._take_rectification)
        self._rectifications = 0
        self._verified = self._verifying = False

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
        if await self.in_time("rectification", met=lambda: self._verified, checking=self._unverified):
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
        self.enter(Stage.SHUTDOWN)
        await self.shut_down_account()
        await self.reclaim_numbers()
        await self.serve(NoticeKind.SHUTDOWN)
        return Stage.SHUT_DOWN

    def _unverified(self) -> bool:
        return Awaiting.VERIFICATION in self._awaiting

    async def _take_rectification(self, message: RectificationReported) -> None:
        await self.is_open()
        self._may_be_rectified(message)
        await self._report_rectification(message)

    async def _report_rectification(self, message: RectificationReported) -> None:
        self._rectifications += 1
        self._awaiting.add(Awaiting.VERIFICATION)
        text = "Rectification reported" + (f": {message.statement}" if message.statement else "")
        await self.add_line(f"rectification-{self._rectifications}", message.by, text)

    @workflow.update
    async def rectified(self, message: RectificationReported) -> Answer:
        """Record that the agent reports rectification (2.2)."""
        await self._report_rectification(message)
        return self._answer("rectification reported; it awaits verification, and no fine is set before that")

    @rectified.validator
    def _may_be_rectified(self, message: RectificationReported) -> None:
        self.may_command(message)
        if self._stage is not Stage.RECTIFICATION:
            raise Refused(f"it is too late to rectify: the case is in stage {self._stage}")

    @workflow.update
    async def verify(self, finding: Verify) -> Answer:
        """Record what an officer found when checking the rectification (2.2)."""
        self._verifying, looked_at = True, self._rectifications
        update = workflow.current_update_info()
        assert update
        passed = "passed" if finding.passed else "failed"
        text = f"Verification {passed}" + (f": {finding.reason}" if finding.reason else "")
        await self.add_line(f"verify-{update.id}", finding.officer, text)
        self._verifying, self._verified = False, finding.passed
        if looked_at == self._rectifications:
            self._awaiting.discard(Awaiting.VERIFICATION)
        if finding.passed:
            return self._answer("rectification verified; the case closes without a fine")
        return self._answer(f"verification failed; the limit to rectify ends {self._limit}")

    @verify.validator
    def _may_verify(self, finding: Verify) -> None:
        self.may_command(finding)
        if self._stage is not Stage.RECTIFICATION:
            raise Refused(f"there is nothing to verify: the case is in stage {self._stage}")
        if not self._unverified():
            raise Refused("there is nothing to verify: the agent has not reported rectification")
        if self._verifying:
            raise Refused("another officer is verifying at this moment")
        if not finding.passed and not finding.reason:
            raise Refused("a failed verification needs a reason")
