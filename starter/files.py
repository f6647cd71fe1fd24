"""Files that people take away: written whole or not at all, and tables for their spreadsheet programs."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rulebook.vocabulary import one_line
from starter.settings import Refused

_ACTS = re.compile(r"[=+@\t\r＝＋－＠]|-(?![0-9]+\.[0-9]+$)")  # money below zero is a number


def spreadsheet(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A table that spreadsheet programs open in full Unicode, and in which no cell acts as a formula."""
    target = io.StringIO()
    table = csv.writer(target)
    table.writerow(columns)
    for row in rows:
        cells = (one_line(cell) for cell in row)
        table.writerow([f"'{cell}" if _ACTS.match(cell) else cell for cell in cells])
    return b"\xef\xbb\xbf" + target.getvalue().encode()


def write(files: Mapping[Path, bytes]) -> None:
    """Write files, each whole or not at all. Raises `Refused` where one can't be written."""
    drafts = {file: file.with_name(f".{file.name}.{os.getpid()}.part") for file in files}
    file = next(iter(files))
    try:
        for file, draft in drafts.items():
            draft.write_bytes(files[file])
        for file, draft in drafts.items():
            draft.replace(file)
    except OSError as error:
        raise Refused(f"{file} can't be written: {error.strerror}") from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)
