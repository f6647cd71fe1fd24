"""The ways on which a notice leaves the house, each one class that sends and says how it ended."""

import os
import threading
from pathlib import Path
from typing import Protocol


class Channel(Protocol):
    """Something that can deliver a letter.

    `deliver` may be called again with the same letter, after a crash: the receiver must be able to see that
    it is the same, by `notice_no`. It returns a receipt in words, or raises, and is then tried again.
    """

    def deliver(self, notice_no: str, recipient: str, letter: bytes) -> str:
        """Hand the letter (RFC 5322) over; returns the receipt."""
        ...


class Outbox:
    """A folder of `.eml` files: the embedded default, which any mail program opens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, notice_no: str, recipient: str, letter: bytes) -> str:
        """Write the letter under its number; a second delivery replaces the first; no half file is seen."""
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{notice_no}.eml"
        draft = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        draft.write_bytes(letter)
        draft.replace(target)
        return f"outbox: {target.name}"
