"""The names by which workflows are started are those that the worker serves."""

from temporalio import workflow

from worker import WORKFLOWS
from workflows import names
from workflows.case import Case

SERVED = {workflow._Definition.must_from_class(one).name: one for one in WORKFLOWS}


def test_every_workflow_that_is_started_by_name_is_served() -> None:
    started = {name for key, name in vars(names).items() if key.isupper() and isinstance(name, str)}
    assert len(started) > 5
    assert started <= set(SERVED)


def test_every_kind_of_violation_is_dealt_with_by_its_clause() -> None:
    clauses = {one.kind: name for name, one in SERVED.items() if issubclass(one, Case)}
    assert clauses == names.CLAUSES
