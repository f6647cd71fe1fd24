"""Rulebook 3: service failure; the customer complained of being served badly, late or not at all."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.numbers import Numbers, TakeBackNumber
    from rulebook.vocabulary import Kind, NoticeKind, Stage
    from workflows.messages import CaseEnded, CaseStart, CustomerConfirmed
    from workflows.rectifiable import Rectifiable


@workflow.defn
class ServiceFailureCase(Rectifiable):
    """One number whose customer complained, from the complaint to the end of its case."""

    kind = Kind.SERVICE_FAILURE

    def __init__(self) -> None:
        super().__init__()
        self._signals["customer_confirmed"] = (CustomerConfirmed, self._take_confirmation)

    @workflow.run
    async def run(self, start: CaseStart) -> CaseEnded:
        """Conduct the case; its first report comes as a signal."""
        return await self.conduct(start)

    async def clause(self) -> Stage:
        """Clause 3, top to bottom."""
        # 3.1 The complaint is put to the agent, who serves the customer within the limit.
        self.enter(Stage.RECTIFICATION)
        await self.serve(NoticeKind.SERVICE_ORDER, within=self.policy.service_failure.serve_within)

        # 3.2 Served, and the customer or an officer confirms it: the case ends.
        if await self.rectified_in_time("service"):
            return Stage.RECTIFIED

        # 3.3 Still no service: this number is taken back, the customer served directly, and told.
        self.enter(Stage.TAKE_BACK)
        take_back = TakeBackNumber(**self.step("take-back"))
        taken = await self.do(Numbers.take_back_number, take_back, "Take the number back", decided=True)
        if not taken.direct:
            self.overtaken(by_case=taken.taken_by)
        await self.serve(NoticeKind.TAKE_BACK)
        await self.serve(NoticeKind.TAKE_BACK_CUSTOMER)
        return Stage.TAKEN_BACK

    async def _take_confirmation(self, message: CustomerConfirmed) -> None:
        await self.is_open()
        self.refuse_if_too_late(message)
        text = "Served, the customer confirms" + (f": {message.statement}" if message.statement else "")
        await self.add_line("customer-confirmed", message.by, text)
        self._verified = True
