"""What an officer waits for: the wall time of each command that reads, against a bare script that connects
with the SDK and describes one workflow.

Alone: `.venv/bin/python -m bench.commands [ROUNDS]`, with the machine to itself. Its servers and worker
run in a temporary folder. Each command is run once before it is measured: Python then has its modules
compiled. Each run is paired with one of the script right before it; the median of the ratios is what counts.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BARE = """\
import asyncio, os, sys
from temporalio.client import Client
async def main():
    client = await Client.connect(sys.argv[1])
    print((await client.get_workflow_handle(sys.argv[2]).describe()).status)
asyncio.run(main())
os._exit(0)  # or it dies now and then as its interpreter shuts down (temporalio/sdk-python issue 300)
"""
NUMBER = "4009460989"  # of samples/registry.csv
COMMANDS = (
    ("--help",),
    ("case", f"secondary-sale-{NUMBER}"),
    ("case", NUMBER),
    ("case", NUMBER, "--json"),
    ("cases",),
    ("todo",),
    ("due",),
    ("agent", "A001"),
    ("explain", NUMBER),
)


def _timed(*command: str) -> float:
    # What Python has compiled it keeps, wherever this is measured: as it does for whoever types the command.
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=compiled)
    return time.perf_counter() - begun


def main(rounds: int = 11) -> dict[str, float]:
    """Measure; give the ratios."""
    figures = {}
    enforce = str(Path(sys.executable).parent / "enforce")
    with tempfile.TemporaryDirectory(prefix="b4", ignore_cleanup_errors=True) as folder:
        os.environ |= {"ENFORCE_HOME": f"{folder}/home", "ENFORCE_OFFICER": "bench"}
        up = subprocess.Popen([enforce, "up"], stdout=subprocess.DEVNULL)
        try:
            address = _ready(Path(folder), enforce)
            bare = (sys.executable, "-c", BARE, address, f"secondary-sale-{NUMBER}")
            for command in COMMANDS:
                _timed(enforce, *command)
                pairs = [(_timed(*bare), _timed(enforce, *command)) for _ in range(rounds)]
                words = " ".join(command)
                figures[f"enforce {words}: ms"] = 1000 * median(mine for _, mine in pairs)
                figures[f"enforce {words} / bare"] = median(mine / other for other, mine in pairs)
        finally:
            up.terminate()
            up.wait()
    return figures


def _ready(folder: Path, enforce: str) -> str:
    temporal = folder / "home" / "temporal.toml"
    while not (temporal.exists() and (folder / "home" / "reports").exists()):
        time.sleep(0.1)
    subprocess.run(
        [enforce, "registry", "import", "samples/registry.csv"], check=True, stdout=subprocess.DEVNULL
    )
    report = (enforce, "report", NUMBER, "--facts", "实际用户与登记客户不一致")
    subprocess.run(report, check=True, stdout=subprocess.DEVNULL)
    return temporal.read_text("utf-8").split('"')[1]


if __name__ == "__main__":
    for name, figure in main(*map(int, sys.argv[1:])).items():
        print(f"{name:42}{figure:10.2f}")
