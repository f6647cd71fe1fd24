"""`enforce demo`: what a newcomer sees first has to be true."""

import os
import re
import subprocess
import tempfile

import pytest

from tests.starter.screen import ENFORCE

ENDS = {
    "Rectified and verified on the second day": "rectified",
    "The first rectification fails verification": "rectified",
    "Rectified on the last evening": "rectified",
    "paid in two parts": "settled +1,000.00 +1,000.00",
    "the fine for a first offence": "settled +1,000.00 +1,000.00",
    "twice the fine": "settled +2,000.00 +2,500.00 +500.00",
    "a third time": "shut-down +3,000.00 +3,000.00",
    "No reaction, no payment": "shut-down +1,000.00 +1,000.00",
    "finds no ground": "dismissed",
    "paid only after the shutdown": "shut-down +1,000.00 +600.00 +400.00",
    "paid in time, then": "settled +30,000.00 +30,000.00",
    "found serious by two officers": "closed-for-good +30,000.00 +30,000.00",
    "other case ends with that": "overtaken",
    "appealed against: overturned": "overturned",
    "the case stands, and is": "rectified",
    "found to be a mistake": "dismissed",
    "on the last day, and": "rectified",
    "taken back into": "taken-back",
}


@pytest.fixture(scope="module")
def played() -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENFORCE_", "TEMPORAL_"))}
    with tempfile.TemporaryDirectory(prefix="e4-", ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [ENFORCE, "demo", "--exit"], cwd=folder, env=clean, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("what", "ends"), ENDS.items())
def test_every_violation_of_the_demo_ends_as_the_rulebook_says(played: str, what: str, ends: str) -> None:
    [line] = [line for line in played.splitlines() if what in line]
    assert re.search(f" {ends} *$", line)


def test_the_demo_says_which_reports_it_refused_and_where_to_look(played: str) -> None:
    assert "reports.jsonl: 22 handed, 3 refused" in played
    assert "number 400-800-0000 is not in the registry" in played
    assert re.search(r"Web UI +http://127.0.0.1:\d+", played)
