"""What a deadline is (rulebook 4.1 to 4.3); how it is counted is said in working_days.py."""

from datetime import date, datetime, time, timedelta

from pydantic import BaseModel, ConfigDict

from rulebook.vocabulary import SHANGHAI


class Deadline(BaseModel):
    """The end of a limit: 24:00 of its last day, which is 0:00 of the day after it, in Asia/Shanghai.

    Provisional while the arrangement of a year it counts through is unpublished (4.2).
    """

    model_config = ConfigDict(frozen=True)

    last_day: date
    provisional: bool = False

    @property
    def at(self) -> datetime:
        """The instant at which the limit has ended."""
        return datetime.combine(self.last_day + timedelta(days=1), time(), SHANGHAI)

    def __str__(self) -> str:
        mark = ", provisional" if self.provisional else ""
        return f"{self.last_day} 24:00 (Asia/Shanghai{mark})"


def later(promised: Deadline, computed: Deadline) -> Deadline:
    """The deadline that holds when one was promised already: never earlier than promised (4.3)."""
    return (
        computed
        if computed.last_day >= promised.last_day
        else promised.model_copy(update={"provisional": computed.provisional})
    )
