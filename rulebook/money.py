"""Money of a case (rulebook 6): exact decimals of yuan."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("an amount is a number of yuan")
    return value


Amount = Annotated[Decimal, BeforeValidator(_no_flag), Field(gt=0, max_digits=12, decimal_places=2)]
"""A sum that was paid, in yuan, exact to the fen."""

ZERO = Decimal("0.00")


class Balance(BaseModel):
    """What is due and what is owed back, of one fine (6.2)."""

    model_config = ConfigDict(frozen=True)

    fine: Decimal = ZERO
    paid: Decimal = ZERO

    @property
    def due(self) -> Decimal:
        """What the agent still has to pay."""
        return max(self.fine - self.paid, ZERO)

    @property
    def owed_back(self) -> Decimal:
        """What the platform has to give back."""
        return max(self.paid - self.fine, ZERO)

    @property
    def settled(self) -> bool:
        """Whether the payments have reached the fine; true also where there is none."""
        return self.paid >= self.fine


def yuan(amount: Decimal) -> str:
    """An amount for people: ¥1,000.00."""
    return f"¥{amount:,.2f}"
