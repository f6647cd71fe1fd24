"""The outbox: whole letters, each under its number."""

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from activities.channels import Letter, Outbox

LETTER = "通知书\r\n".encode() * 1000


def sealed(content: bytes) -> Letter:
    return Letter(name="SS-2026-00001-N1", to="a@agent.example", content=content)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_letter_arrives_as_it_was_handed_over(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    receipt = Outbox(folder).deliver(sealed(LETTER))
    assert receipt == "outbox: SS-2026-00001-N1.eml"
    assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [("SS-2026-00001-N1.eml", LETTER)]


def test_a_letter_delivered_again_is_still_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for letter in (b"first", b"second"):
        outbox.deliver(sealed(letter))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"second"]


@pytest.mark.parametrize("before", [None, b"first"])
def test_a_letter_that_could_not_be_written_leaves_no_half_letter(
    tmp_path: Path, before: bytes | None
) -> None:
    outbox = Outbox(tmp_path)
    if before:
        outbox.deliver(sealed(before))
    with full_disk(1000), pytest.raises(OSError, match="too large"):
        outbox.deliver(sealed(LETTER))
    assert [file.read_bytes() for file in tmp_path.glob("*.eml")] == ([before] if before else [])


def test_one_letter_delivered_by_two_attempts_at_once_arrives_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)

    def deliver(_: int) -> bytes:
        outbox.deliver(sealed(LETTER))
        return (tmp_path / "SS-2026-00001-N1.eml").read_bytes()

    with ThreadPoolExecutor(4) as attempts:
        assert set(attempts.map(deliver, range(200))) == {LETTER}
