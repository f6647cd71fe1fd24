"""Letters on record, as whoever has to prove them reads them: what they are, what they say, their parts."""

import hashlib
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select

from registry.models import Notice
from registry.session import Sessions
from rulebook.deadlines import Deadline
from rulebook.vocabulary import NoticeKind, one_line, prose
from starter.settings import Refused


class Part(StrEnum):
    """In what form a letter is wanted."""

    TEXT = "text"
    HTML = "html"
    PDF = "pdf"
    EML = "eml"


class Attachment(BaseModel):
    """A file that went with a letter."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    size: int
    sha256: str


class Shown(BaseModel):
    """A letter as it was sent. `sha256` is the hash of its very bytes, `recorded_sha256` the one on record.

    `receipt` is what the other side answered, or how an officer has served it; `text` is Chinese and English.
    """

    model_config = ConfigDict(frozen=True)

    notice_no: str
    case_no: str
    kind: NoticeKind
    recipient: str
    drafted_at: AwareDatetime
    served_at: AwareDatetime | None
    bounced_at: AwareDatetime | None
    receipt: str | None
    deadline: Deadline | None
    stopped_at: AwareDatetime | None
    message_id: str
    subject: str
    size: int
    sha256: str
    recorded_sha256: str
    attachments: tuple[Attachment, ...]
    text: str


def find(on_record: Sessions, notice_no: str) -> Notice:
    """The notice of that number. Raises `Refused` where there is none."""
    with on_record() as session:
        notice = session.scalar(select(Notice).where(Notice.notice_no == notice_no.upper()))
    if notice is None:
        raise Refused(f"no notice {notice_no} is in the registry: `enforce case CASE` lists those of a case")
    return notice


def shown(notice: Notice) -> Shown:
    """A letter with all that can be said of it, harmless for a terminal."""
    letter = _parsed(notice)
    text = _body(letter, Part.TEXT)
    return Shown(
        notice_no=notice.notice_no,
        case_no=notice.case_no,
        kind=notice.kind,
        recipient=one_line(notice.recipient),
        drafted_at=notice.drafted_at,
        served_at=notice.served_at,
        bounced_at=notice.bounced_at,
        receipt=notice.receipt and one_line(notice.receipt),
        deadline=Deadline(last_day=notice.last_day, provisional=notice.provisional)
        if notice.last_day
        else None,
        stopped_at=notice.stopped_at,
        message_id=one_line(letter["Message-ID"] or ""),
        subject=one_line(letter["Subject"] or ""),
        size=len(notice.content),
        sha256=hashlib.sha256(notice.content).hexdigest(),
        recorded_sha256=notice.sha256,
        attachments=tuple(map(_attachment, letter.iter_attachments())) if letter.is_multipart() else (),
        text=prose("\n".join((text or b"").decode("utf-8", "replace").splitlines())),
    )


def part(notice: Notice, wanted: Part) -> bytes:
    """A letter in one of its forms, byte for byte. Raises `Refused` if it was not sent in that one."""
    letter = _parsed(notice)
    match wanted:
        case Part.EML:
            return notice.content
        case Part.PDF:
            attached = letter.iter_attachments() if letter.is_multipart() else ()
            found = next((_bytes(a) for a in attached if a.get_content_type() == "application/pdf"), None)
        case _:
            found = _body(letter, wanted)
    if found is None:
        only = " as plain text only" if wanted is not Part.TEXT and not letter.is_multipart() else ""
        raise Refused(
            f"notice {notice.notice_no} was sent{only or f' without a part in {wanted}'}: "
            "`--eml` writes all of it"
        )
    return found


def _parsed(notice: Notice) -> EmailMessage:
    return message_from_bytes(notice.content, policy=policy.default)


def _body(letter: EmailMessage, wanted: Part) -> bytes | None:
    body = letter.get_body(("plain" if wanted is Part.TEXT else wanted.value,))
    return None if body is None else _bytes(body)


def _bytes(part: MIMEPart) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else part.as_bytes()


def _attachment(part: MIMEPart) -> Attachment:
    content = _bytes(part)
    return Attachment(
        name=one_line(part.get_filename() or ""),
        type=part.get_content_type(),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
