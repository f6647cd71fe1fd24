"""The embedded servers start also where others start beside them."""

import socket
from pathlib import Path

import pytest

from starter import connect, local
from starter.settings import Refused, Settings


async def test_a_port_that_somebody_took_in_between_is_given_up_for_another(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    settings = Settings(home=home / "taken-port")
    with socket.socket() as quicker:
        quicker.bind(("127.0.0.1", 0))
        quicker.listen()
        taken = quicker.getsockname()[1]
        found = iter([taken])
        free_port = local._free_port
        monkeypatch.setattr(local, "_free_port", lambda wanted: next(found, None) or free_port(wanted))
        with local.temporal(settings, web=False) as running:
            assert running.address != f"127.0.0.1:{taken}"
            client = await connect.temporal(settings)
            assert await client.count_workflows("WorkflowType = 'none'")
    assert not settings.temporal_file.exists()


def test_a_server_that_finds_no_port_says_so(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with socket.socket() as quicker:
        quicker.bind(("127.0.0.1", 0))
        quicker.listen()
        monkeypatch.setattr(local, "_free_port", lambda wanted: quicker.getsockname()[1])
        with (
            pytest.raises(Refused, match="did not start: see its log"),
            local.temporal(Settings(home=home / "no-port"), web=False),
        ):
            pass
