"""What two clauses share: the agent sets right what is wrong, and an officer verifies it (2.2, 3.2)."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.limits import Standing
    from activities.step import Refused
    from rulebook.vocabulary import Awaiting, Stage, one_line
    from workflows.case import Case
    from workflows.messages import Answer, Message, RectificationReported, Verify


class Rectifiable(Case):
    """A case that ends without a penalty if the agent rectifies in time."""

    def __init__(self) -> None:
        super().__init__()
        self._signals["rectification_reported"] = (RectificationReported, self._take_rectification)
        self._rectifications = 0
        self._verified = self._verifying = False

    async def rectified_in_time(self, what: str) -> bool:
        """Wait for the rectification and its verification; what an officer hasn't checked yet holds (4.5)."""
        return await self.in_time(what, met=lambda: self._verified, checking=self._unverified)

    def stands(self, found: Standing) -> None:
        """Take up a rectification, too, or its verification."""
        super().stands(found)
        if self._stage is not Stage.RECTIFICATION:
            return
        if found.what == "rectification":
            self._rectifications = max(self._rectifications, int(found.step.rpartition("-")[2]))
            self._awaiting.add(Awaiting.VERIFICATION)
        if found.what == "verified":
            self._verified = True

    def _unverified(self) -> bool:
        return Awaiting.VERIFICATION in self._awaiting

    async def _take_rectification(self, message: RectificationReported) -> None:
        await self.is_open()
        self.refuse_if_too_late(message)
        await self._report_rectification(message)

    async def _report_rectification(self, message: RectificationReported) -> None:
        self._rectifications += 1
        self._awaiting.add(Awaiting.VERIFICATION)
        step = f"rectification-{self._rectifications}"
        if self._verifying and workflow.patched("rectifications-wait-for-a-verification"):
            # On record, too, what is verified at this moment ends to wait before this begins to.
            await workflow.wait_condition(lambda: not self._verifying)
        text = "Rectification reported" + (f": {message.statement}" if message.statement else "")
        await self.add_line(step, message.by, text, begins=Awaiting.VERIFICATION)

    @workflow.update
    async def rectified(self, message: RectificationReported) -> Answer:
        """Record that the agent reports rectification (2.2)."""
        await self._report_rectification(message)
        return self.answer("rectification reported; it awaits verification, and no fine is set before that")

    @rectified.validator
    def _may_be_rectified(self, message: RectificationReported) -> None:
        self.refuse_if_too_late(message)

    def refuse_if_too_late(self, message: Message) -> None:
        """Refuse what comes when there is nothing to rectify (any more)."""
        self.may_command(message)
        if self._stage is not Stage.RECTIFICATION:
            raise Refused(f"it is too late to rectify: the case is in stage {self._stage}")

    @workflow.update
    async def verify(self, finding: Verify) -> Answer:
        """Record what an officer found when checking the rectification (2.2)."""
        self._verifying, looked_at = True, self._rectifications
        passed = "passed" if finding.passed else "failed"
        text = f"Verification {passed}" + (f": {finding.reason}" if finding.reason else "")
        ends = Awaiting.VERIFICATION
        await self.add_line(self.asked("verify"), finding.officer, text, ends=ends)
        self._verifying, self._verified = False, self._verified or finding.passed
        if looked_at == self._rectifications:
            self._awaiting.discard(Awaiting.VERIFICATION)
        if finding.passed:
            return self.answer("rectification verified; the case closes without a fine")
        return self.answer(f"verification failed; the limit to rectify ends {self._limit}")

    @verify.validator
    def _may_verify(self, finding: Verify) -> None:
        self.may_command(finding)
        if self._stage is not Stage.RECTIFICATION:
            raise Refused(f"there is nothing to verify: the case is in stage {self._stage}")
        if not self._unverified():
            raise Refused("there is nothing to verify: the agent has not reported rectification")
        if self._verifying:
            raise Refused("another officer is verifying at this moment")
        if not finding.passed and not one_line(finding.reason):
            raise Refused("a failed verification needs a reason")
