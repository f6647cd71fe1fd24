"""`enforce explain`: by which rule, on what evidence and after which notice each thing was done (5.6)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from starter.cli.options import CaseId, Json

if TYPE_CHECKING:
    from starter.explain.told import Deed, Explained, Letter, Next


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(explain)


def explain(named: CaseId, as_json: Json = False) -> None:
    """Explain a case from the record (5.6), without Temporal; of several cases of a number, the newest.

    For each thing done to the agent: by which clause of which policy, on what evidence, after and by which
    notice, by whom and when; what was undone. Then, what comes next and when if nobody acts.

    \b
    Examples:
      $ enforce explain SS-2026-00042
      $ enforce explain 400-800-1234 --json
    """
    from starter import connect, explain
    from starter.cli import show
    from starter.settings import Settings

    told = explain.explain(connect.on_record(Settings()), named, datetime.now(UTC))
    if as_json:
        show.json(told)
    else:
        _draw(told)


def _draw(told: "Explained") -> None:
    from rulebook.money import yuan
    from rulebook.vocabulary import written
    from starter.cli import show

    out, money = show.console(), told.balance
    ended = f"{told.outcome}, {show.when(told.closed_at)}" if told.closed_at else "open"
    for name, what in (
        ("case", f"{told.case_no}   {told.workflow_id}   {ended}"),
        ("kind", told.kind.label),
        ("number", f"{written(told.number)}   {show.outside(told.customer)}"),
        ("agent", f"{show.outside(told.agent_id)}   {show.outside(told.agent_name)}"),
        ("policy", f"of {told.policy}, in force when the case was opened; all clauses are of it"),
        ("money", f"{yuan(money.fine)} fined, {yuan(money.paid)} paid, {yuan(money.due)} due"),
    ):
        out.print(f"{name:8}{what}", soft_wrap=True)
    if told.others:
        others = ", ".join(f"{other.case_no} ({other.outcome or 'open'})" for other in told.others)
        out.print(f"others  {others} of the same name: name one by its case number", soft_wrap=True)

    deeds = show.table("when (Asia/Shanghai)", "who", "rule", "what")
    for deed in told.deeds:
        what = "\n  ".join((show.outside(deed.text), *_grounds(deed)))
        deeds.add_row(show.when(deed.at), show.outside(deed.by), " ".join(deed.rules), what)
    out.print("", deeds, "", sep="\n")
    if told.filings:
        filings = (
            (f.filing_no, show.outside(f.recipient), f.status, show.outside(f.reason), f.sha256[:16])
            for f in told.filings
        )
        headings = ("filing", "recipient", "status", "reason", "sha256")
        out.print(show.rows(show.table(*headings), filings), "", sep="\n")
    coming = show.table("if nobody acts", "rule", "what", "to act, type")
    for later in told.next:
        coming.add_row(_when(later), " ".join(later.rules), show.outside(later.text), later.command)
    out.print(coming if told.next else "nothing is left to come", "", sep="\n")
    out.print(show.rows(show.table("rule", "says"), told.rules.items()))


def _when(later: "Next") -> str:
    from starter.cli import show

    if later.limit:
        return f"{later.limit.last_day} 24:00" + (" (provisional)" if later.limit.provisional else "")
    return show.when(later.at) if later.at else "nothing until an officer acts"


def _grounds(deed: "Deed") -> Iterator[str]:
    """What a deed rests on, line by line."""
    from starter.cli import show

    for proof in deed.evidence:
        sha256 = f", sha256 {proof.sha256[:16]}" if proof.sha256 else ""
        yield f"on {show.outside(proof.what)} by {show.outside(proof.by)}{sha256}: {show.outside(proof.says)}"
    if deed.earlier:
        yield f"after {', '.join(deed.earlier)}, which stood as earlier offences"
    if deed.warned:
        passed = "which had passed" if deed.warned.passed else "which had NOT passed"
        yield f"after {_letter(deed.warned.letter)}, {passed}"
        for move in deed.warned.moved:
            yield f"  {show.when(move.at)} {show.outside(move.by)}: {show.outside(move.text)}"
    if deed.letter:
        own = deed.step.startswith("notice-")
        yield _letter(deed.letter) if own else f"told by {deed.letter.notice_no} {deed.letter.kind}"
    for later in deed.later:
        what = "UNDONE" if later.undone else "since then"
        yield f"{what} {show.when(later.at)} by {show.outside(later.by)}: {show.outside(later.text)}"


def _letter(letter: "Letter") -> str:
    from starter.cli import show

    served = "not served"
    if letter.served_at:
        served = f"served {show.when(letter.served_at)}, {show.outside(letter.how)}"
    limit = f", limit {letter.limit}" if letter.limit else ""
    return f"{letter.notice_no} {letter.kind}, sha256 {letter.sha256[:16]}, {served}{limit}"
