"""All measures: `make bench` prints a table and writes bench.json; `make bench ARGS=quick` is a short one.

Each figure is measured on the embedded servers, and what counts are the ratios within one run.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import cases, commands, midnight, monitor, sleepers, workers

MEASURES: dict[str, tuple[Callable[..., dict[str, float]], tuple[int, ...], tuple[int, ...]]] = {
    "cases": (cases.main, (15, 1), (150, 3)),
    "midnight": (midnight.main, (50,), (1000,)),
    "sleepers": (sleepers.main, (40,), (2000,)),
    "monitor": (monitor.main, (300,), (900,)),
    "workers": (workers.main, (30,), (150,)),
    "commands": (commands.main, (2,), (11,)),
}


def _machine() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def main(wanted: list[str]) -> None:
    """Measure what is wanted, or all; print it, and write it to bench.json."""
    quick = "quick" in wanted
    chosen = [name for name in wanted if name in MEASURES] or list(MEASURES)
    report: dict[str, object] = {**_machine()}
    for name, what in report.items():
        print(f"{name:14}{what}")
    for name in chosen:
        measure, few, many = MEASURES[name]
        begun = time.perf_counter()
        figures = measure(*(few if quick else many))
        report[name] = figures
        print(f"\n{name} ({time.perf_counter() - begun:.0f} s)")
        for what, figure in figures.items():
            print(f"  {what:42}{figure:12,.2f}", flush=True)
    Path("bench.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
