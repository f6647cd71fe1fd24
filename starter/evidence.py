"""Files that somebody puts before the platform, kept under the hash of their bytes."""

import hashlib
from datetime import datetime
from pathlib import Path

from sqlalchemy.dialects.postgresql import insert

from registry.models import Evidence
from registry.session import Sessions
from rulebook.vocabulary import one_line
from starter.settings import Refused

_LARGEST = 50_000_000  # bytes


def keep(on_record: Sessions, file: Path, by: str, at: datetime) -> str:
    """Put a file on record as evidence; returns the hash under which it is kept, once for the same bytes.

    Raises `Refused` for one that is empty, too large or not readable.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    if not 0 < len(content) <= _LARGEST:
        raise Refused(
            f"{file}: evidence has between 1 byte and {_LARGEST // 1_000_000} MB, not {len(content)}"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    with on_record.begin() as session:
        row = {"sha256": sha256, "name": one_line(file.name), "content": content}
        session.execute(insert(Evidence).values(**row, added_at=at, added_by=by).on_conflict_do_nothing())
    return sha256
