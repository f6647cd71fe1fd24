"""What doesn't hold is shown in full, also where it is no test that says so."""

import pytest

pytest.register_assert_rewrite(
    "tests.workflows.any_order", "tests.workflows.on_record", "tests.workflows.rules_that_hold"
)
