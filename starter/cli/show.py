"""How cases look in a terminal: tables, stories, JSON. Text from outside never acts as markup."""

import json as _json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from activities.advice import advice, command
from rulebook.money import yuan
from rulebook.vocabulary import SHANGHAI, Awaiting, IncomingStatus, Stage, one_line, written

if TYPE_CHECKING:
    from registry.models import Incoming
    from registry.shown import Story
    from starter.agents import AgentView
    from starter.docket import Entry, Waiting

_COLOURS = {
    Stage.RECTIFIED: "green",
    Stage.SETTLED: "green",
    Stage.SHUT_DOWN: "red",
    Stage.TAKEN_BACK: "red",
    Stage.CLOSED_FOR_GOOD: "red",
    Stage.OVERTAKEN: "magenta",
    Stage.DISMISSED: "cyan",
    Stage.OVERTURNED: "cyan",
    Stage.UPHELD: "magenta",
    Stage.RESTORED: "cyan",
    Stage.ALREADY_HANDLED: "dim",
}
WIDE = 110  # columns


def console(*, error: bool = False) -> Console:
    """The terminal; a pipe gets plain text that isn't cut."""
    out = Console(stderr=error, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 240
    return out


def json(value: Any) -> None:
    """Print data as JSON, with Chinese as Chinese; what acts in a terminal is escaped."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = _json.dumps(to_jsonable_python(value), ensure_ascii=False, indent=2)
    safe = (c if c.isprintable() or c == "\n" else _json.dumps(c)[1:-1] for c in text)
    print("".join(safe))  # noqa: T201


def outside(text: str) -> str:
    """Text from outside, made harmless for a terminal: one line, no control characters."""
    return one_line(text)


def when(moment: datetime) -> str:
    """A moment in Shanghai, as people write it."""
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"


def left(deadline: datetime, now: datetime) -> str:
    """What is left until a deadline, to the hour."""
    seconds = int((deadline - now).total_seconds())
    if seconds <= 0:
        return "over"
    days, hours = divmod(seconds // 3600, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h" if hours else f"{seconds // 60} min"


def last_day(deadline: datetime) -> str:
    """A deadline as the notice states it: 24:00 of its last day."""
    before = datetime.fromtimestamp(deadline.timestamp() - 1, SHANGHAI)
    return f"{before:%Y-%m-%d} 24:00"


def amount(value: Decimal) -> str:
    """An amount in a table; nothing is shown as nothing."""
    return f"{value:,.2f}" if value else ""


def stage(of: Stage | None) -> Text:
    """A stage in its colour."""
    return Text(of or "-", style=_COLOURS.get(of, "yellow") if of else "dim")


def table(*columns: str) -> Table:
    """A table as all commands have it."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    return drawn


def rows(drawn: Table, cells: Iterable[Sequence[str | Text]]) -> Table:
    """Fill a table."""
    for row in cells:
        drawn.add_row(*row)
    return drawn


def entries(listed: "Sequence[Entry]", total: int, *, due: bool = False) -> None:
    """Print a list of cases; a narrow terminal gets the columns that matter most.

    Of those that are `due` it tells what follows, instead of what they were fined.
    """
    now, out = datetime.now(UTC), console()
    wide = out.width >= WIDE
    drawn = table("case", "number", *(("kind", "agent") if wide else ()), "stage", "deadline", "left")
    if wide or due:
        drawn.add_column("then" if due else "fine")
    if wide or not due:
        drawn.add_column("awaiting")
    for column in drawn.columns[: 5 if not wide else 7]:
        column.no_wrap = True
    for entry in listed:
        fine = f"¥{entry.fine_yuan:,} (offence {entry.offence})" if entry.fine_yuan else ""
        deadline = last_day(entry.deadline) if entry.deadline else ""
        drawn.add_row(
            entry.case_no or "-",
            written(entry.number),
            *((entry.kind, outside(entry.agent or "-")) if wide else ()),
            Text(entry.status, "red") if entry.status == "failed" else stage(entry.stage),
            deadline if wide else deadline[5:10],
            left(entry.deadline, now) if entry.deadline else "",
            *((entry.then,) if due else (fine,) if wide else ()),
            *((Text(", ".join(entry.awaiting), "bold"),) if wide or not due else ()),
        )
    out.print(drawn if listed else "no case matches")
    if len(listed) < total:
        out.print(f"{len(listed)} of {total} shown: --limit {total} shows all")


def _facts(facts: Mapping[str, str | Text]) -> Table:
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    return rows(drawn, facts.items())


def story(told: "Story") -> Group:
    """All that can be said of a case, with its timeline drawn."""
    now = datetime.now(UTC)
    facts: dict[str, str | Text] = {
        "case": f"{told.case_no or 'not opened yet'}   {told.workflow_id}",
        "kind": told.kind.label,
        "number": f"{written(told.number)}   {outside(told.customer)}",
        "agent": f"{outside(told.agent_id)}   {outside(told.agent_name)}",
        "stage": stage(told.stage),
    }
    if told.deadline:
        facts["deadline"] = f"{told.deadline}   left: {left(told.deadline.at, now)}"
    if told.offence:
        facts["fine"] = f"{yuan(told.balance.fine)}   offence {told.offence}"
    if told.offence or told.balance.paid:
        facts["money"] = (
            f"{yuan(told.balance.paid)} paid, {yuan(told.balance.due)} due, "
            f"{yuan(told.balance.owed_back)} owed back"
        )
    if told.awaiting:
        facts["awaiting"] = Text(", ".join(told.awaiting), style="bold")
    notices = rows(
        table("notice", "kind", "served", "sha256"),
        ((n.notice_no, n.kind, when(n.served_at), n.sha256[:16]) for n in told.notices),
    )
    parts: list[Any] = [_facts(facts), "", _timeline(told, now), ""]
    if told.notices:
        parts += [notices, ""]
    if told.filings:
        filings = rows(
            table("filing", "recipient", "status", "reason", "sha256"),
            ((f.filing_no, f.recipient, f.status, outside(f.reason), f.sha256[:16]) for f in told.filings),
        )
        parts += [filings, ""]
    parts += [f"next: {advice(what, told.case_no, told.number)}" for what in told.awaiting]
    return Group(*parts)


def _timeline(told: "Story", now: datetime) -> Table:
    """What was done, from top to bottom, the days that passed in between, and the limit that runs."""
    drawn = Table.grid(padding=(0, 1))
    drawn.add_column(no_wrap=True)
    drawn.add_column(style="cyan")
    drawn.add_column(overflow="fold", style="bold", max_width=14)
    drawn.add_column(overflow="fold")
    drawn.add_row(Text("Asia/Shanghai", "dim"), "", "", "")
    before = None
    for line in told.lines:
        if before is not None and (days := (line.at - before).days) > 0:
            drawn.add_row("", "┊", "", Text(f"{days} day{'s' if days > 1 else ''}", "dim"))
        drawn.add_row(when(line.at), "●", outside(line.by), outside(line.text))
        before = line.at
    if told.deadline and not told.stage.ended:
        drawn.add_row("", "┊", "", Text(left(told.deadline.at, now), "dim"))
        drawn.add_row(last_day(told.deadline.at), Text("○", "yellow"), "", Text("the limit ends", "yellow"))
    return drawn


def agent(seen: "AgentView") -> None:
    """Print an agent as it stands."""
    facts: dict[str, str | Text] = {
        "agent": f"{outside(seen.agent_id)}   {outside(seen.name)}",
        "account": seen.account + (f", by case {seen.by_case}" if seen.by_case else ""),
        "qualification": "stands" if seen.qualified else Text("cancelled", "red"),
        "numbers": "; ".join(f"{count} {what}" for what, count in sorted(seen.numbers.items())) or "none",
        "offences": "; ".join(f"{count} {kind.label}" for kind, count in seen.offences.items()) or "none",
        "debt": yuan(seen.debt),
    }
    parts: list[Any] = [_facts(facts), ""]
    out = console()
    if seen.cases:
        parts += [_cases(seen, wide=out.width >= WIDE), ""]
    if any(case.awaiting for case in seen.cases):
        waits = ((w, c.case_no, command(w, c.case_no, c.number)) for c in seen.cases for w in c.awaiting)
        parts += [rows(table("awaiting", "case", "next"), waits), ""]
    if seen.quarantine:
        resting = ((written(n.number), str(n.until)) for n in seen.quarantine)
        parts.append(rows(table("in quarantine", "until"), resting))
    out.print(Group(*parts))


def _cases(seen: "AgentView", *, wide: bool) -> Table:
    """An agent's cases; a narrow terminal gets the columns that matter most."""
    drawn = table("case", "number", *(("kind", "opened") if wide else ()), "outcome")
    for column in drawn.columns:
        column.no_wrap = True
    for heading in ("offence", "fine", *(("paid",) if wide else ()), "due"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for case in seen.cases:
        drawn.add_row(
            case.case_no,
            written(case.number),
            *((case.kind, when(case.opened_at)) if wide else ()),
            stage(case.outcome) if case.outcome else Text("open", "yellow"),
            str(case.offence or ""),
            amount(case.fine),
            *((amount(case.paid),) if wide else ()),
            amount(case.due),
        )
    return drawn


def renewals(waiting: "Sequence[Waiting]") -> None:
    """Print the renewals that wait for an officer."""
    drawn = rows(
        table("number", "renew by", "next"),
        ((written(w.number), str(w.due), command(Awaiting.RENEWAL, "", w.number)) for w in waiting),
    )
    console().print(drawn if waiting else "no renewal is waiting")


def ended(how: Mapping[IncomingStatus, int]) -> str:
    """How reports have ended, in words."""
    told = [f"{how[status]} {status}" for status in IncomingStatus if how.get(status)]
    return ", ".join(told) or "no reports"


def incoming(reports: "Sequence[Incoming]") -> None:
    """Print reports of the inbox."""
    drawn = rows(
        table("no.", "source / id", "came in", "via", "status", "reason"),
        (
            (
                str(report.id),
                f"{outside(report.source)}/{outside(report.report_id)}",
                when(report.received_at),
                outside(report.via),
                report.status,
                outside(report.reason or report.workflow_id or ""),
            )
            for report in reports
        ),
    )
    console().print(drawn if reports else "no report matches")
