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


_DIGITS = "零壹贰叁肆伍陆柒捌玖"
_PLACES = ("", "拾", "佰", "仟")
_MYRIADS = ("", "万", "亿")


def capitals(amount: Decimal | int) -> str:
    """An amount in the numerals that can't be altered: 30000 is 叁万元整, 1004.50 is 壹仟零肆元伍角.

    As banks demand it (支付结算办法, annex 1). Raises `ValueError` below zero, from a trillion on, or
    where the amount isn't exact to the fen.
    """
    fen = Decimal(amount) * 100
    if fen != fen.to_integral_value() or not 0 <= fen < 10**14:
        raise ValueError(f"{amount} is no amount of yuan")
    yuan_part, rest = divmod(int(fen), 100)
    jiao, odd = divmod(rest, 10)
    said = _whole(yuan_part) + "元" if yuan_part else ""
    if not rest:
        return (said or "零元") + "整"
    if said and not jiao:
        said += "零"
    return said + (f"{_DIGITS[jiao]}角" if jiao else "") + (f"{_DIGITS[odd]}分" if odd else "")


def _whole(number: int) -> str:
    """A whole number above zero: a row of noughts between digits is said once, at the end of it never."""
    said, gap = "", False
    digits = str(number)
    for index, digit in enumerate(map(int, digits)):
        myriad, place = divmod(len(digits) - 1 - index, 4)
        if digit:
            said += ("零" if gap else "") + _DIGITS[digit] + _PLACES[place]
        gap = not digit
        if place == 0 and int(digits[max(0, index - 3) : index + 1]):
            said += _MYRIADS[myriad]
    return said
