"""`enforce notices`: letters as they were sent, and whether the record is still what was recorded."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import Json

if TYPE_CHECKING:
    from registry.proof import Proof
    from registry.session import Sessions
    from starter.letters import Part, Shown

notices = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Letters as they were sent, and proof of the record."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(notices, name="notices")


@notices.command()
def show(
    notice_no: Annotated[str, typer.Argument(metavar="NOTICE", help="its number, as the case shows it")],
    as_text: Annotated[bool, typer.Option("--text", help="only its plain text")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="its HTML")] = False,
    as_pdf: Annotated[bool, typer.Option("--pdf", help="its PDF")] = False,
    as_eml: Annotated[
        bool, typer.Option("--eml", help="the whole mail, to open with a mail program")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="write it there, byte for byte")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a letter as it was sent: to whom, when, what the other side answered, its hash, and what it says.

    With --text, --html, --pdf or --eml, write it in this form: to a file, or into a pipe.

    \b
    Examples:
      $ enforce notices show SS-2026-00042-N1
      $ enforce notices show SS-2026-00042-N1 --pdf -o notice.pdf
      $ enforce notices show SS-2026-00042-N1 --eml | sha256sum
    """
    from starter import connect, letters
    from starter.cli import show as print_
    from starter.settings import Refused, Settings

    asked = dict(zip(letters.Part, (as_text, as_html, as_pdf, as_eml), strict=True))
    wanted = [part for part, asked_for in asked.items() if asked_for]
    if len(wanted) + as_json > 1:
        raise Refused("one form at a time: say --text, --html, --pdf, --eml or --json")
    if output and not wanted:
        raise Refused(f"in which form shall {output} be written? Say --text, --html, --pdf or --eml")
    notice = letters.find(connect.on_record(Settings()), notice_no)
    if wanted:
        _write(letters.part(notice, wanted[0]), wanted[0], output)
    elif as_json:
        print_.json(letters.shown(notice))
    else:
        _draw(letters.shown(notice))


def _write(content: bytes, part: "Part", output: Path | None) -> None:
    from rulebook.vocabulary import prose
    from starter.letters import Part
    from starter.settings import Refused

    if output:
        try:
            output.write_bytes(content)
        except OSError as error:
            raise Refused(f"{output}: {error.strerror}") from error
        typer.echo(f"{output}: {len(content):,} bytes")
    elif not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    elif part is Part.TEXT:
        typer.echo(prose("\n".join(content.decode("utf-8", "replace").splitlines())))
    else:
        raise Refused(f"a terminal can't show {part}: write it to a file with -o FILE, or into a pipe")


def _draw(seen: "Shown") -> None:
    from starter.cli import show as print_

    served = print_.when(seen.served_at) if seen.served_at else "not yet"
    if seen.bounced_at:
        served += f"; came back {print_.when(seen.bounced_at)}, to be served another way"
    hash_ = seen.sha256
    if hash_ != seen.recorded_sha256:
        hash_ += f"   THIS IS NOT WHAT WAS RECORDED: {seen.recorded_sha256}"
    deadline = str(seen.deadline) if seen.deadline else "none"
    if seen.stopped_at:
        deadline += f"; its clock stands still since {print_.when(seen.stopped_at)}"
    out = print_.console()
    for name, what in (
        ("notice", f"{seen.notice_no}   {seen.kind}, of case {seen.case_no}"),
        ("to", seen.recipient),
        ("drafted", print_.when(seen.drafted_at)),
        ("served", served),
        ("receipt", seen.receipt or "none"),
        ("deadline", deadline),
        ("message", seen.message_id),
        ("subject", seen.subject),
        ("size", f"{seen.size:,} bytes"),
        ("sha256", hash_),
        *(
            ("attached", f"{a.name}   {a.type}, {a.size:,} bytes, sha256 {a.sha256}")
            for a in seen.attachments
        ),
    ):
        out.print(f"{name:10}{what}", soft_wrap=True)
    out.print("", seen.text, sep="\n", soft_wrap=True)


@notices.command()
def verify(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="notice number, case number, workflow id, or 400 number", show_default=False
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="the record of every case")] = False,
    as_json: Json = False,
) -> None:
    """Prove that the record of a case is what was recorded: its lines, its letters, its evidence.

    Each line bears a hash of what it says and of the line before it; each letter and file is proved by its
    hash. The head is the hash of the last line: who keeps it elsewhere can prove later that nothing up to
    there was changed. Of several cases of a number, the newest. Exit code 1: something is wrong.

    \b
    Examples:
      $ enforce notices verify SS-2026-00042
      $ enforce notices verify SS-2026-00042-N1 --json
      $ enforce notices verify --all
    """
    from starter import connect
    from starter.cli import show as print_
    from starter.settings import Refused, Settings

    if everything is (named is not None):
        raise Refused("of which case? Name one, or a notice of it, or say --all")
    on_record = connect.on_record(Settings())
    proofs = [_of(on_record, named)] if named else list(_of_all(on_record))
    sound = not any(proof.faults for proof in proofs)
    if as_json:
        found = [proof.model_dump(mode="json") for proof in proofs]
        print_.json({"ok": sound} | ({"cases": found} if everything else found[0]))
    else:
        _tell(proofs, everything)
    if not sound:
        raise typer.Exit(1)


def _of(on_record: "Sessions", named: str) -> "Proof":
    from registry.models import Notice
    from registry.proof import examine
    from registry.session import snapshot
    from starter.explain.record import cases_named
    from starter.settings import Refused

    with snapshot(on_record) as session:
        if notice := session.get(Notice, named.upper()):
            return examine(session, notice.case_no)
        for case in cases_named(session, named):
            return examine(session, case.case_no)
    raise Refused(f"no case or notice {named} is in the registry")


def _of_all(on_record: "Sessions") -> "Iterator[Proof]":
    from rich.progress import Progress
    from sqlalchemy import func, select

    from registry.models import Case
    from registry.proof import examine_all
    from registry.session import snapshot
    from starter.cli import show as print_

    out = print_.console(error=True)
    with (
        snapshot(on_record) as session,
        Progress(console=out, transient=True, disable=not out.is_terminal) as progress,
    ):
        cases = session.scalar(select(func.count()).select_from(Case)) or 0
        yield from progress.track(examine_all(session), total=cases + 1, description="cases")


def _tell(proofs: "list[Proof]", everything: bool) -> None:
    from starter.cli import show as print_

    for proof in proofs:
        if proof.faults:
            of = proof.case_no or "the lines that belong to no case"
            typer.echo(f"{of}: {_counted([proof])}; {len(proof.faults)} faults")
            for fault in proof.faults:
                typer.echo(f"  {print_.outside(fault)}")
    if any(proof.faults for proof in proofs):
        return
    if everything:
        typer.echo(f"OK: {len(proofs) - 1} cases, {_counted(proofs)}, all as they were recorded")
    else:
        [proof] = proofs
        typer.echo(f"OK {proof.case_no}: {_counted(proofs)}, all as they were recorded\nhead {proof.head}")


def _counted(proofs: "list[Proof]") -> str:
    lines, notices, files = (sum(getattr(p, what) for p in proofs) for what in ("lines", "notices", "files"))
    return f"{lines} lines, {notices} notices, {files} files of evidence"


@notices.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Argument(exists=True, file_okay=False, help="templates in another folder than the program's"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the letters' templates: unknown variables, a missing language, a letter that says too little.

    Each letter is written in each situation that its wording tells apart. Exit code 1: something is wrong.

    \b
    Example:
      $ enforce notices check
    """
    from activities.letters import TEMPLATES
    from starter import specimens
    from starter.cli import show as print_

    found = list(specimens.faults(folder or TEMPLATES))
    if as_json:
        print_.json({"ok": not found, "faults": found})
    else:
        out = print_.console()
        for fault in found:
            out.print(fault, soft_wrap=True)
        out.print(f"{len(found)} faults" if found else "OK: every letter can be written, in both languages")
    if found:
        raise typer.Exit(1)


@notices.command()
def preview(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="which letter, e.g. punishment")],
    of: Annotated[
        str, typer.Option("--of", metavar="VIOLATION", help="fraud, secondary-sale or service-failure")
    ] = "",
    situation: Annotated[int, typer.Option("--situation", min=1, help="the 1st, 2nd, ... one")] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="as .html, .pdf or .txt, after its name"),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--templates", exists=True, file_okay=False, help="from another folder")
    ] = None,
) -> None:
    """Show a letter as it would look, about a case that never was.

    \b
    Examples:
      $ enforce notices preview punishment --of fraud
      $ enforce notices preview undone -o undone.pdf
    """
    from jinja2 import TemplateError

    from activities.letters import TEMPLATES, Letters
    from rulebook.vocabulary import Kind, NoticeKind
    from starter import specimens
    from starter.settings import Refused

    ways = {k: specimens.letters_of(k) for k in Kind if not of or k == of}
    meant = next((k for k, letters in ways.items() if kind in letters), None)
    if meant is None:
        known = sorted({letter for letters in ways.values() for letter in letters})
        raise Refused(f"no letter {kind}{f' of {of}' if of else ''}; known are {', '.join(known or Kind)}")
    situations = list(specimens.specimens(meant, NoticeKind(kind)))
    if situation > len(situations):
        raise Refused(f"{kind} of {meant} has {len(situations)} situations")
    try:
        written = specimens.preview(Letters(folder or TEMPLATES), situations[situation - 1])
    except (TemplateError, ValueError) as error:
        raise Refused(f"it can't be written: {error}; `enforce notices check` says where") from error
    if output is None:
        typer.echo(written.text)
        typer.echo(f"(situation {situation} of {len(situations)}, {meant})", err=True)
        return
    forms = {".html": written.html.encode(), ".pdf": written.pdf, ".txt": written.text.encode()}
    if output.suffix not in forms:
        raise Refused(f"{output}: its name has to end in {', '.join(forms)}")
    try:
        output.write_bytes(forms[output.suffix])
    except OSError as error:
        raise Refused(f"{output}: {error.strerror}") from error
    typer.echo(f"{output}: situation {situation} of {len(situations)}, {meant}")
