"""Mails that come back (RFC 3464): which notice it was, and why."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from pathlib import Path
from typing import NamedTuple

from rulebook.vocabulary import one_line
from starter.settings import Refused

_NOTICE = re.compile(r"<([A-Z]{2}-\d{4}-\d+-N\d+)\.\d{8}@")


class Bounce(NamedTuple):
    """A notice that could not be delivered after all, and what the mail system says about it."""

    notice_no: str
    reason: str


def read(file: Path) -> Bounce:
    """Read a delivery status notification. Raises `Refused` where it isn't one about a notice that failed."""
    mail = message_from_bytes(file.read_bytes(), policy=policy.default)
    parts = list(mail.walk())
    reports = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    if not reports:
        raise Refused(f"{file.name} is no report of a mail that came back (multipart/report, RFC 3464)")
    fields = [block for report in reports for block in report.get_payload() if isinstance(block, Message)]
    failed = [block for block in fields if str(block.get("Action", "")).strip().lower() == "failed"]
    if not failed:
        raise Refused(f"{file.name} reports no failure: the mail may still arrive")
    found = next((match for part in parts if (match := _named(part))), None)
    if found is None:
        raise Refused(f"{file.name} doesn't say which mail came back: name the notice with --reason instead")
    said = failed[0].get("Diagnostic-Code") or failed[0].get("Status") or "no reason is given"
    return Bounce(notice_no=found, reason=one_line(str(said))[:200])


def _named(part: Message) -> str | None:
    """The notice whose mail a part is, or holds the header of."""
    if part.get_content_type() == "text/rfc822-headers" and isinstance(part, EmailMessage):
        text = str(part.get_content())
    else:
        text = f"{part.get('Message-ID', '')} {part.get('In-Reply-To', '')} {part.get('References', '')}"
    match = _NOTICE.search(text)
    return match[1] if match else None
