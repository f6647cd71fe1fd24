"""The ways on which a notice leaves the house, each one class that sends and says how it ended."""

import hashlib
import os
import re
import threading
from base64 import b64encode
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
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

    A mailbox takes two of one identity for the same.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = one_line(recipient)
    message["Subject"] = one_line(subject)
    message["Date"] = at
    message["Message-ID"] = f"<{identity}@{sender.partition('@')[2] or 'localhost'}>"
    message.set_content("", charset="utf-8", cte="base64")
    bodies = [_with_crlf(text)]
    if html:
        message.add_alternative("", subtype="html", charset="utf-8", cte="base64")
        bodies.append(_with_crlf(html))
    if pdf:
        message.add_attachment(b"", maintype="application", subtype="pdf", filename=pdf[0])
        bodies.append(pdf[1])
    parts = list(message.walk())
    for serial, part in enumerate(part for part in parts if part.is_multipart()):
        # Else the library looks through all of the letter for one that isn't in it. In base64 no "=_" is.
        part.set_boundary(f"=_{serial}_{hashlib.sha256(identity.encode()).hexdigest()[:32]}")
    # It also takes a body line by line, twice: the bodies come in at last. No header holds an empty line.
    for serial, part in enumerate(part for part in parts if not part.is_multipart()):
        part.set_payload(f"={serial}=")
    content = message.as_bytes()
    for serial, body in enumerate(bodies):
        lines = b"\r\n".join(re.findall(b".{1,76}", b64encode(body)))
        content = content.replace(b"\r\n\r\n=%d=" % serial, b"\r\n\r\n%b\r\n" % lines)
    return content


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
