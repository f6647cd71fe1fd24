"""What a violation report says: the one shape in a feed, in a signal and in the registry."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from rulebook.vocabulary import Business, Kind, Number400, OneLine, Told


class Report(BaseModel):
    """One report of one violation.

    `source` and `report_id` together are handled once, for ever. `observed_at` carries its time zone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[OneLine, StringConstraints(pattern="^[^/]*$")]
    report_id: OneLine
    kind: Kind
    number: Number400
    business: Business = Business.REGULAR
    facts: Told = Field(max_length=4000)
    observed_at: AwareDatetime | None = None
    reported_by: OneLine = "monitor"

    @property
    def key(self) -> str:
        """Source and id in one word, for people and for comparing; a source has no slash in it."""
        return f"{self.source}/{self.report_id}"
