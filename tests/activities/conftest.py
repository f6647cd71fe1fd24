"""The activities on a registry of the test's own, called as a case calls them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pytest

from activities.accounts import (
    AccountMoved,
    Accounts,
    CloseAccount,
    ReopenAccount,
    ShutDownAccount,
    SuspendAccount,
)
from activities.cases import CaseOpened, Cases, CloseCase, OpenCase, Opening
from activities.fines import (
    FineImposed,
    Fines,
    FineVoided,
    ImposeFine,
    PaymentRecorded,
    RecordPayment,
    ReturnOwedBack,
    VoidFine,
)
from activities.numbers import (
    FreezeNumber,
    Numbers,
    NumbersReclaimed,
    NumberTakenBack,
    ReclaimNumbers,
    TakeBackNumber,
    UnfreezeNumber,
)
from registry import audit
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import Kind, Stage, workflow_id
from tests.world import a_report, shanghai

OPENED = shanghai("2026-02-12")


@dataclass(frozen=True)
class Steps:
    """The steps of cases."""

    on_record: Sessions

    def try_to_open(self, report: Report, at: datetime = OPENED, run_id: str = "run") -> Opening:
        case_id = workflow_id(report.kind, report.number)
        return Cases(self.on_record).open_case(
            OpenCase(workflow_id=case_id, run_id=run_id, at=at, report=report)
        )

    def open(
        self, report: Report | str, at: datetime = OPENED, kind: Kind = Kind.SECONDARY_SALE
    ) -> CaseOpened:
        """Open a case on a report, or on any report of this kind about a number."""
        opening = self.try_to_open(a_report(report, kind=kind) if isinstance(report, str) else report, at)
        assert opening.opened
        return opening.opened

    def close(self, case_no: str, outcome: Stage = Stage.RECTIFIED, at: datetime = OPENED) -> None:
        order = CloseCase(case_no=case_no, step="close", at=at, outcome=outcome, text="Case closed")
        Cases(self.on_record).close_case(order)

    def settle(self, case_no: str, at: datetime = OPENED) -> None:
        """Fine the agent, take its money, and close the case."""
        self.pay(case_no, str(self.fine(case_no, at).balance.due), f"all of {case_no}")
        self.close(case_no, Stage.SETTLED, at)

    def fine(self, case_no: str, at: datetime = OPENED) -> FineImposed:
        return Fines(self.on_record).impose_fine(ImposeFine(case_no=case_no, step="fine", at=at))

    def void(self, case_no: str) -> FineVoided:
        return Fines(self.on_record).void_fine(VoidFine(case_no=case_no, step="fine-void", at=OPENED))

    def pay(self, case_no: str, amount: str, reference: str) -> PaymentRecorded:
        return Fines(self.on_record).record_payment(
            RecordPayment(
                case_no=case_no,
                step=f"payment-{reference}",
                at=OPENED,
                by="bank",
                reference=reference,
                amount=Decimal(amount),
            )
        )

    def return_owed_back(self, case_no: str, reference: str, at: datetime = OPENED) -> audit.Done:
        order = ReturnOwedBack(
            case_no=case_no, step=f"returned-{reference}", at=at, by="李敏", reference=reference
        )
        return Fines(self.on_record).return_owed_back(order)

    def suspend(self, case_no: str, at: datetime = OPENED) -> AccountMoved:
        order = SuspendAccount(case_no=case_no, step="account-suspend", at=at)
        return Accounts(self.on_record).suspend_account(order)

    def reopen(self, case_no: str, at: datetime = OPENED, *, undo: bool = False) -> AccountMoved:
        order = ReopenAccount(case_no=case_no, step="account-reopen", at=at, by="李敏", undo=undo)
        return Accounts(self.on_record).reopen_account(order)

    def close_account(self, case_no: str, at: datetime = OPENED) -> AccountMoved:
        order = CloseAccount(case_no=case_no, step="account-close", at=at, by="王芳")
        return Accounts(self.on_record).close_account(order)

    def shut_down(self, case_no: str, at: datetime = OPENED) -> AccountMoved:
        order = ShutDownAccount(case_no=case_no, step="account-shutdown", at=at)
        return Accounts(self.on_record).shut_down_account(order)

    def reclaim(self, case_no: str, at: datetime = OPENED) -> NumbersReclaimed:
        order = ReclaimNumbers(case_no=case_no, step="reclaim", at=at)
        return Numbers(self.on_record).reclaim_numbers(order)

    def freeze(self, case_no: str) -> audit.Done:
        return Numbers(self.on_record).freeze_number(FreezeNumber(case_no=case_no, step="freeze", at=OPENED))

    def unfreeze(self, case_no: str, *, undo: bool = False) -> audit.Done:
        order = UnfreezeNumber(case_no=case_no, step="unfreeze", at=OPENED, by="李敏", undo=undo)
        return Numbers(self.on_record).unfreeze_number(order)

    def take_back(self, case_no: str) -> NumberTakenBack:
        order = TakeBackNumber(case_no=case_no, step="take-back", at=OPENED)
        return Numbers(self.on_record).take_back_number(order)


@pytest.fixture
def steps(on_record: Sessions) -> Steps:
    return Steps(on_record)
