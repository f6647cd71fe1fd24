"""Record the histories of today's code: play the demo, then keep each of its workflows as a file.

What is recorded is never recorded anew: these files are the promise that a case which was begun under an
older release goes on under a newer one. A new kind of case, or a path that no file takes yet, adds files.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from starter import connect, local
from starter.settings import Settings
from worker import WORKFLOWS

HERE = Path(__file__).parent


async def _keep(settings: Settings) -> None:
    client = await connect.temporal(settings)
    names = ", ".join(f"'{workflow.__name__}'" for workflow in WORKFLOWS)
    async for execution in client.list_workflows(f"WorkflowType IN ({names})"):
        # Case numbers are given in the order of the day: the same violation may get another one next time.
        target = HERE / f"{re.sub('-[A-Z]{2}-[0-9]{4}-[0-9]+$', '', execution.id)}.json"
        if target.exists():
            print(f"kept as it was: {target.name}")  # noqa: T201
            continue
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        target.write_text((await handle.fetch_history()).to_json() + "\n", "utf-8")
        print(f"recorded: {target.name}")  # noqa: T201


def main() -> None:
    """Play and record."""
    enforce = Path(sys.executable).parent / "enforce"
    with tempfile.TemporaryDirectory(prefix="e4-") as folder:
        subprocess.run([enforce, "demo", "--exit"], cwd=folder, check=True)
        settings = Settings(home=Path(folder) / ".enforce-demo")
        with local.temporal(settings, time_skipping=True, web=False):
            asyncio.run(_keep(settings))


if __name__ == "__main__":
    main()
