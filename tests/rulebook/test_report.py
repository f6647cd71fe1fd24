"""A report of a violation says what is needed, and nothing that isn't understood."""

from typing import Any

import pytest
from pydantic import ValidationError

from rulebook.report import Report
from rulebook.vocabulary import Business, Kind

SAID: dict[str, Any] = {
    "source": "monitor",
    "report_id": "R-1",
    "kind": "secondary-sale",
    "number": "400-800-1234",
    "facts": "登记客户为乙商贸有限公司，\n实际由丙某使用",
}


def test_a_report_is_understood_with_what_it_leaves_out() -> None:
    report = Report.model_validate(SAID)
    assert (report.kind, report.number, report.business) == (
        Kind.SECONDARY_SALE,
        "4008001234",
        Business.REGULAR,
    )
    assert (report.key, report.reported_by, report.facts) == ("monitor/R-1", "monitor", SAID["facts"])


def test_a_report_survives_the_way_through_json() -> None:
    report = Report.model_validate(SAID | {"observed_at": "2026-02-12T23:59:59+08:00"})
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("needed", ["source", "report_id", "kind", "number", "facts"])
def test_a_report_that_lacks_something_is_refused(needed: str) -> None:
    with pytest.raises(ValidationError, match=needed):
        Report.model_validate({field: value for field, value in SAID.items() if field != needed})


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("severity", "high"),
        ("kind", "theft"),
        ("number", "95588"),
        ("business", "illegal"),
        ("source", "\u200b"),
        ("source", "monitor/north"),
        ("report_id", "长" * 201),
        ("reported_by", ""),
        ("facts", ""),
        ("facts", " \n\u200b"),
        ("facts", "长" * 4001),
        ("facts", None),
        ("observed_at", "2026-02-12T23:59:59"),
        ("observed_at", "yesterday"),
    ],
)
def test_a_report_that_is_not_understood_is_refused_with_the_field_named(field: str, said: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Report.model_validate(SAID | {field: said})
