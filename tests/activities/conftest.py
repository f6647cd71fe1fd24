"""The activities on a registry of the test's own, called as a case calls them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pytest

from activities.accounts import Accounts, AccountShutDown, ShutDownAccount
from activities.cases import CaseOpened, Cases, CloseCase, OpenCase, Opening
from activities.fines import (
    FineImposed,
    Fines,
    FineVoided,
    ImposeFine,
    PaymentRecorded,
    RecordPayment,
    VoidFine,
)
from activities.numbers import Numbers, NumbersReclaimed, ReclaimNumbers
from registry.session import Sessions
from rulebook.report import Report
from rulebook.vocabulary import Stage, workflow_id
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

    def open(self, report: Report | str, at: datetime = OPENED) -> CaseOpened:
        """Open a case on a report, or on any report of a number."""
        opening = self.try_to_open(a_report(report) if isinstance(report, str) else report, at)
        assert opening.opened
        return opening.opened

    def close(self, case_no: str, outcome: Stage = Stage.RECTIFIED) -> None:
        order = CloseCase(case_no=case_no, step="close", at=OPENED, outcome=outcome, text="Case closed")
        Cases(self.on_record).close_case(order)

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

    def shut_down(self, case_no: str, at: datetime = OPENED) -> AccountShutDown:
        order = ShutDownAccount(case_no=case_no, step="account-shutdown", at=at)
        return Accounts(self.on_record).shut_down_account(order)

    def reclaim(self, case_no: str, at: datetime = OPENED) -> NumbersReclaimed:
        order = ReclaimNumbers(case_no=case_no, step="reclaim", at=at)
        return Numbers(self.on_record).reclaim_numbers(order)


@pytest.fixture
def steps(on_record: Sessions) -> Steps:
    return Steps(on_record)
