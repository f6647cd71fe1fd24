"""What stands of an agent, everything but the record: two moments, or two agents, can be compared."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from sqlalchemy import select

from registry.models import Account, Case, Filing, Fine, Number, Payment
from registry.session import Sessions
from rulebook.vocabulary import SHANGHAI, FilingStatus, FineStatus, Kind

_NOTHING_FILED = (FilingStatus.WAIVED, FilingStatus.WITHDRAWING, FilingStatus.WITHDRAWN)


@dataclass(frozen=True)
class Standing:
    """Numbers go by their place, cases by the names that they are given, moments by their day."""

    account: tuple[Any, ...]
    numbers: list[tuple[Any, ...]]
    fines: list[tuple[Any, ...]]
    offences: Counter[Kind]
    filings: list[tuple[Any, ...]]
    debt: Decimal
    kept: Decimal
    """What was paid, up to the fine, and isn't to be given back."""

    @classmethod
    def of(cls, on_record: Sessions, numbers: Sequence[str], named: Mapping[str, str] | None = None) -> Self:
        """What stands of the one agent of all these numbers."""

        def case(case_no: str | None) -> str | None:
            return case_no and (named or {}).get(case_no, case_no)

        with on_record() as session:
            held = [session.get_one(Number, number) for number in numbers]
            account = session.get_one(Account, held[0].agent_id)
            since = account.agent.disqualified_at
            fines = session.scalars(
                select(Fine)
                .where(Fine.agent_id == account.agent_id, Fine.status != FineStatus.VOID)
                .order_by(Fine.id)
            ).all()
            mine = select(Case.case_no).where(Case.agent_id == account.agent_id)
            paid: defaultdict[str, Decimal] = defaultdict(Decimal)
            for payment in session.scalars(
                select(Payment).where(Payment.case_no.in_(mine), Payment.refund_due_at.is_(None))
            ):
                paid[payment.case_no] += payment.amount
            filings = session.scalars(
                select(Filing)
                .where(Filing.case_no.in_(mine), Filing.status.not_in(_NOTHING_FILED))
                .order_by(Filing.filing_no)
            ).all()
            kept = {fine.case_no: min(fine.amount, paid[fine.case_no]) for fine in fines}
            return cls(
                account=(
                    account.status,
                    case(account.suspended_by),
                    case(account.shut_down_by),
                    case(account.closed_by),
                    since and since.astimezone(SHANGHAI).date(),
                ),
                numbers=[
                    (n.status, n.holder, n.quarantined_until, case(n.frozen_by), case(n.reclaimed_by))
                    for n in held
                ],
                fines=[
                    (
                        case(fine.case_no),
                        # Only where a fine rises with each offence does the record follow a review (5.5).
                        fine.offence if fine.kind is Kind.SECONDARY_SALE else None,
                        fine.amount,
                        fine.status,
                    )
                    for fine in fines
                ],
                offences=Counter(fine.kind for fine in fines),
                filings=[(case(f.case_no), f.recipient, f.status) for f in filings],
                debt=sum((fine.amount - kept[fine.case_no] for fine in fines), Decimal(0)),
                kept=sum(kept.values(), Decimal(0)),
            )
