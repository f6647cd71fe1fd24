"""A bank statement: its lines as the bank wrote them."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date as Day  # a field goes by the other name
from decimal import Decimal
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rulebook.money import ZERO, Amount
from rulebook.vocabulary import faults, one_line
from starter.settings import Refused
from workflows.messages import Reference

_HEADINGS = {
    "date": (
        *("交易日期", "交易日", "入账日期", "记账日期", "记账日", "日期", "交易时间", "入账时间", "记账时间"),
        *("transaction date", "value date", "posting date", "date"),
    ),
    "amount": ("金额", "交易金额", "贷方金额", "贷方发生额", "收入金额", "收入", "amount"),
    "out": ("借方金额", "借方发生额", "支出金额", "支出", "debit"),
    "side": ("借贷标志", "借贷方向", "收支方向", "direction"),
    "payer": ("对方户名", "付款人", "付款方户名", "payer"),
    "reference": ("流水号", "交易流水号", "凭证号", "reference"),
    "remark": ("摘要", "附言", "用途", "备注", "remark"),
}
_PREAMBLE = 50  # lines that a bank may put before the headings
_FEN = Decimal("0.01")
_IN_YUAN = TypeAdapter[Decimal](Amount)
_REFERENCE = TypeAdapter[str](Reference)

DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))
_IN_A_SPREADSHEET = re.compile(r"""="(.*)"|'(.*)""", re.DOTALL)
_ROUNDED = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]+", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]+)?")
_DAY = re.compile(r"([0-9]{4})(?:[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?|([0-9]{2})([0-9]{2}))")
_TIME = re.compile(r"[T ]?([0-9]{1,2}[:时][0-9]{2}([:分][0-9]{2}(\.[0-9]+)?秒?|分)?|[0-9]{6}|[0-9]{4})?")
_CURRENCY = re.compile(r"\s|¥|元|CNY|RMB", re.IGNORECASE)


class Line(BaseModel):
    """One line of a statement; `amount` in yuan is below zero where money went out.

    `cells` is the line as it was written, the other texts have full-width forms and spaces evened out. `on`
    is the day of its `date`, none where the statement doesn't tell. A line with a `fault` can't be
    understood; its `amount` may be none.
    """

    model_config = ConfigDict(frozen=True)

    line: int
    cells: tuple[str, ...] = ()
    date: str = ""
    on: Day | None = None
    amount: Decimal | None = None
    payer: str = ""
    reference: str = ""
    remark: str = ""
    fault: str = ""

    @property
    def content(self) -> tuple[object, ...]:
        """What the bank says under the reference."""
        return self.date, self.amount, self.payer, self.remark


class Total(NamedTuple):
    """How many lines, and their sum in yuan; money that went out lowers it."""

    lines: int
    amount: Decimal


class Statement(BaseModel):
    """A statement as the bank gave it."""

    model_config = ConfigDict(frozen=True)

    headings: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def total(self) -> Total:
        """All lines."""
        return total_of(self.lines)


def total_of(lines: Iterable[Line]) -> Total:
    """How many lines these are, and their sum."""
    amounts = [line.amount or ZERO for line in lines]
    return Total(len(amounts), sum(amounts, ZERO))


def even(text: str) -> str:
    """Text from a bank with full-width forms and spaces evened out: two ways to write it are equal."""
    text = one_line(unicodedata.normalize("NFKC", text))
    if held := _IN_A_SPREADSHEET.fullmatch(text):
        text = held[1] or held[2] or ""
    return text.strip()


def read(text: str) -> Statement:
    """The lines of a statement in CSV, below the first line that has headings for amount and reference.

    Raises `Refused` where there is none, two columns could hold the amount, or the text is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    headings: list[str] = []
    columns: Mapping[str, Sequence[int]] = {}
    lines = []
    start = 1
    try:
        for cells in reader:
            if columns:
                if any(map(one_line, cells)):
                    lines.append(_line(start, cells, columns))
            elif start <= _PREAMBLE:
                headings, columns = cells, _columns(cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise Refused(f"line {reader.line_num}: {error}") from error
    if not columns:
        wanted = (f"{what} ({', '.join(_HEADINGS[what])})" for what in ("amount", "reference"))
        raise Refused(f"no line has the headings of a bank statement: {' and '.join(wanted)}")
    return Statement(headings=tuple(headings), lines=tuple(lines))


def _columns(cells: Sequence[str]) -> dict[str, list[int]]:
    """Where the columns are, those that matter most first; nothing where this is no line of headings."""
    named: dict[str, int] = {}
    for index, cell in enumerate(cells):
        named.setdefault(re.sub(r"\s*[(\[].*[)\]]$", "", even(cell)).lower(), index)
    columns = {what: [named[h] for h in known if h in named] for what, known in _HEADINGS.items()}
    if not (columns["amount"] and columns["reference"]):
        return {}
    if len(columns["amount"]) > 1:
        which = " and ".join(one_line(cells[index]) for index in columns["amount"])
        raise Refused(f"which column has the amount, {which}? Take one of them out of the file")
    return columns


def _line(line: int, cells: Sequence[str], columns: Mapping[str, Sequence[int]]) -> Line:
    def said(what: str) -> list[str]:
        return [even(cells[index]) if index < len(cells) else "" for index in columns[what]]

    date, payer, reference, side = (
        next(iter(said(what)), "") for what in ("date", "payer", "reference", "side")
    )
    amount, wrong = None, []
    try:
        amount = _amount(said("amount")[0], next(iter(said("out")), ""), side)
    except ValidationError as error:
        wrong.append(f"amount: {faults(error)}")
    except ValueError as error:
        wrong.append(f"amount: {error}")
    try:
        reference = _REFERENCE.validate_python(reference) if reference else ""
    except ValidationError as error:
        wrong.append(f"reference: {faults(error)}")
    if _ROUNDED.fullmatch(reference):
        wrong.append(f"reference: a spreadsheet has rounded it to {reference}")
    on = None
    try:
        on = _day(date) if date else None
    except ValueError as error:
        wrong.append(f"date: {error}")
    return Line(
        line=line,
        cells=tuple(cells),
        date=date,
        on=on,
        amount=amount,
        payer=payer,
        reference=reference,
        remark=" ".join(filter(None, said("remark"))),
        fault="; ".join(wrong),
    )


def _day(cell: str) -> Day:
    """The day of 2026-11-20, 2026/11/20 10:15:00, 20261120, 2026年11月20日. Raises `ValueError`."""
    plain = cell.translate(DASHES)
    day = _DAY.match(plain)
    if not day or not _TIME.fullmatch(plain, day.end()):
        raise ValueError(f"{cell[:40]!r} is no day: 2026-11-20 would be one")
    try:
        return Day(*(int(part) for part in day.groups() if part))
    except ValueError as error:
        raise ValueError(f"{cell[:40]!r} is no day of the calendar") from error


def _amount(came: str, went: str, side: str) -> Decimal:
    """What came in, in yuan; below zero where it went out. Raises `ValueError`."""
    into, out = _yuan(came), _yuan(went)
    if into and out:
        raise ValueError("money both came in and went out")
    if out and out < 0:
        raise ValueError(f"{went} went out")
    value = -out if out else into if into is not None else out
    if value is None:
        raise ValueError("is not given")
    if side and side[0].upper() not in "贷收入C借支付出D":
        raise ValueError(f"{side!r} is neither in nor out")
    if side and side[0].upper() in "借支付出D":
        value = -abs(value)
    exact = _IN_YUAN.validate_python(abs(value)).quantize(_FEN)
    return exact if value > 0 else -exact


def _yuan(cell: str) -> Decimal | None:
    plain = _CURRENCY.sub("", cell.translate(DASHES))
    if not plain.strip("-"):
        return None
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"{cell[:40]!r} is not a number")
    return Decimal(plain.replace(",", ""))
