"""The ways on which a notice leaves the house, each one class that sends and says how it ended."""

import os
import re
import threading
from base64 import b64encode
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from functools import cache
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from temporalio.exceptions import ApplicationError

from rulebook.vocabulary import one_line


class Undeliverable(ApplicationError):
    """No further attempt can deliver the letter: an officer has to serve it another way (4.6)."""

    def __init__(self, why: str) -> None:
        super().__init__(why, type="Undeliverable", non_retryable=True)


class Addresses(BaseModel):
    """Where the platform's letters come from, and where it writes to its own people (5.7)."""

    model_config = ConfigDict(frozen=True)

    sender: str
    officers: str
    supervisor: str


def mail(
    sender: str,
    recipient: str,
    subject: str,
    at: datetime,
    identity: str,
    text: str,
    *,
    html: str = "",
    pdf: tuple[str, bytes] | None = None,
) -> bytes:
    """A letter as a mail (RFC 5322, 7 bit) in plain text, and in HTML and as an attached PDF where given.

    A mailbox takes two of one identity for the same. The name of the PDF is plain ASCII.
    """
    head = EmailMessage(policy=SMTP)
    head["From"] = sender
    head["To"] = one_line(recipient)
    head["Subject"] = one_line(subject)
    head["Date"] = at
    head["Message-ID"] = f"<{identity}@{sender.partition('@')[2] or 'localhost'}>"
    bodies = [_with_crlf(text)]
    if html:
        bodies.append(_with_crlf(html))
    name, file = pdf or ("", b"")
    if name:
        bodies.append(file)
    first, *frame = _frame(bool(html), bool(name))
    content = [head.as_bytes().removesuffix(b"\r\n"), first]
    for body, after in zip(bodies, frame, strict=True):
        lines = re.findall(b".{1,76}", b64encode(body))
        content += [b"\r\n".join(lines), b"\r\n", after.replace(_NAME.encode(), name.encode("ascii"))]
    return b"".join(content)


_BODY, _NAME = "=body=", "=name="


@cache
def _frame(html: bool, pdf: bool) -> list[bytes]:
    """What stands before, between and behind the bodies of a mail.

    The library takes a mail line by line, several times over, and looks through it for boundaries.
    """
    parts = EmailMessage(policy=SMTP)
    parts.set_content("", charset="utf-8", cte="base64")
    if html:
        parts.add_alternative("", subtype="html", charset="utf-8", cte="base64")
    if pdf:
        parts.add_attachment(b"", maintype="application", subtype="pdf", filename=_NAME)
    for serial, part in enumerate(parts.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_enforce_{serial}")  # in base64 no "=_" is
        else:
            part.set_payload(_BODY)
    return parts.as_bytes().split(_BODY.encode())


def _with_crlf(text: str) -> bytes:
    return b"\r\n".join(text.encode().splitlines()) + b"\r\n"


class Letter(BaseModel):
    """A letter ready to leave: its number, whom it goes to, and its very bytes (RFC 5322).

    `to` are mail addresses with ", " between them; `phone` is empty where none is registered.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    to: str
    phone: str = ""
    content: bytes


class Channel(Protocol):
    """Something that can deliver a letter.

    `deliver` may be called again with the same letter, after a crash: the receiver must be able to see that
    it is the same, by its name or its Message-ID. It returns a receipt in words, or raises, and is then tried
    again, unless what it raises is `Undeliverable`.
    """

    def deliver(self, letter: Letter) -> str:
        """Hand the letter over; returns the receipt, in one line."""
        ...


class Outbox:
    """A folder of `.eml` files: the embedded default, which any mail program opens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, letter: Letter) -> str:
        """Write the letter under its number; a second delivery replaces the first; no half file is seen."""
        if not letter.to.strip():
            raise Undeliverable("there is no address to deliver it to")
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{letter.name}.eml"
        draft = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        draft.write_bytes(letter.content)
        draft.replace(target)
        return f"outbox: {target.name}"
