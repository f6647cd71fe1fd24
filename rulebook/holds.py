"""What status follows from what cases hold (rulebook 1.1 to 1.6, 2.5, 3.3).

Several cases may hold the same account or number. Its status is what the holds that stand say, the strictest
first: when one is lifted, it is what it would be without the case whose hold it was (5.2).
"""

from collections.abc import Set

from rulebook.vocabulary import AccountStatus, Hold, Holder, NumberStatus

_ACCOUNT = (
    (Hold.CLOSURE, AccountStatus.CLOSED),
    (Hold.SHUTDOWN, AccountStatus.SHUT_DOWN),
    (Hold.SUSPENSION, AccountStatus.SUSPENDED),
)


def account_status(standing: Set[Hold]) -> AccountStatus:
    """The status of an account under these holds."""
    return next((status for hold, status in _ACCOUNT if hold in standing), AccountStatus.OPEN)


def number_status(standing: Set[Hold]) -> tuple[NumberStatus, Holder]:
    """The status and holder of a number under these holds, while it is not free.

    A number in direct service stays there (3.3) when its agent's other numbers are reclaimed.
    """
    in_use = NumberStatus.FROZEN if Hold.FREEZE in standing else NumberStatus.ACTIVE
    if Hold.TAKE_BACK in standing:
        return in_use, Holder.PLATFORM
    if Hold.RECLAIM in standing:
        return NumberStatus.QUARANTINED, Holder.PLATFORM
    return in_use, Holder.AGENT
