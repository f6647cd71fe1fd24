"""The outbox: whole letters, each under its number."""

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from activities.channels import Letter, Outbox, mail

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


@pytest.mark.parametrize("text", ["", "a\nb\n", "=0=\n\n=1=\n\n=2=", "长\n" * 500, "q" * 5000])
def test_each_part_of_a_mail_arrives_whole_whatever_it_says(text: str) -> None:
    at, subject = datetime(2026, 11, 24, tzinfo=UTC), "=0=\r\n\r\n=1=" + "题" * 60
    file = text.encode() + b"%PDF\r\n\r\n=2="
    content = mail(
        *("a@b.example", "王芳 <x@y.example>", subject, at, "N1", text),
        html=f"<p>{text}</p>",
        pdf=("N1.pdf", file),
    )

    said = [part for part in message_from_bytes(content, policy=default).walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in said] == ["text/plain", "text/html", "application/pdf"]
    plain, html, pdf = (part.get_content() for part in said)
    assert plain == (text.removesuffix("\n") + "\n").replace("\n", "\r\n")
    assert html == f"<p>{text}</p>\n".replace("\n", "\r\n")
    assert pdf == file
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 78
