"""What was done in a case, by which rule, on what evidence, after and by which notice."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import func, select

from activities.filings import evidence
from activities.step import SYSTEM
from registry.audit import line_of
from registry.models import AuditLine, Evidence, Fine, Notice
from rulebook.deadlines import Deadline
from rulebook.report import Report
from rulebook.vocabulary import NoticeKind, Stage
from starter.explain.record import Record
from starter.explain.rules import meaning, rules_of
from starter.explain.told import Deed, Later, Letter, Proof, Warned

# What may only come once the limit of a notice is over, and what moves such a limit.
_AFTER_A_LIMIT = ("fine", "account-shutdown", "reclaim", "take-back")
_MOVES = re.compile("extend-.+|clock-.+|notice-.+-deadline-.+")
# What is not taken back by an `undo-` step: a fine, and holds in cases dismissed before there were any.
_TAKEN_BACK_BY = {"fine": "fine-void", "freeze": "unfreeze", "account-suspend": "account-reopen"}


def deed(of: Record, line: AuditLine) -> Deed:
    """What a line of the audit trail says was done, with its grounds."""
    means = meaning(line.step)
    return Deed(
        step=line.step,
        at=line.at,
        by=line.actor,
        text=line.text,
        rules=_rules(of, line),
        penalty=means.penalty,
        evidence=tuple(_evidence(of, line) if means.penalty else _files(of, line)),
        warned=_warned(of, line) if line.step in _AFTER_A_LIMIT else None,
        letter=_told_by(of, line, means.told),
        earlier=_earlier(of, line) if line.step == "fine" else (),
        later=tuple(_later(of, line.step)) if means.penalty else (),
    )


def _rules(of: Record, line: AuditLine) -> tuple[str, ...]:
    if line.result.get("in_time") and line.step.startswith("payment-"):
        return "4.5", "6.1", "6.2"
    if line.step.startswith("payment-") and of.ended and line.id > of.ended.id:
        return "6.1", "6.3"
    if line.step.startswith("filing-") and of.undone and line.id > of.undone.id:
        return ("5.2",)
    if re.fullmatch("notice-deadline(-[0-9]+)?", line.step):
        moves = [move for move in of.lines if move.id < line.id and _MOVES.fullmatch(move.step)]
        return rules_of(moves[-1].step if moves else line.step, of.case.kind)
    closed = of.steps.get("close")
    outcome = Stage(closed.result["outcome"]) if closed and "outcome" in closed.result else of.case.outcome
    return rules_of(line.step, of.case.kind, outcome)


# Notices


def _letter(notice: Notice) -> Letter:
    limit = Deadline(last_day=notice.last_day, provisional=notice.provisional) if notice.last_day else None
    return Letter(
        notice_no=notice.notice_no,
        kind=notice.kind,
        sha256=notice.sha256,
        served_at=notice.served_at,
        how=notice.receipt or "",
        limit=limit,
        stopped_at=notice.stopped_at,
    )


def _told_by(of: Record, line: AuditLine, told: NoticeKind | None) -> Letter | None:
    """The notice that a line is about, or else the next one of the kind that tells of what the line says."""
    for notice in of.notices:
        served = of.steps.get(notice.step)
        own = line.step in (notice.step, f"{notice.step}-undeliverable")
        if own or (notice.kind is told and served and served.id > line.id):
            return _letter(notice)
    return None


def _warned(of: Record, line: AuditLine) -> Warned | None:
    notice = of.limit_before(line)
    if notice is None:
        return None
    letter, since = _letter(notice), of.steps[notice.step].id
    moves = (move for move in of.lines if since < move.id < line.id and _MOVES.fullmatch(move.step))
    return Warned(
        letter=letter,
        moved=tuple(map(line_of, moves)),
        passed=letter.stopped_at is None and letter.limit is not None and line.at >= letter.limit.at,
    )


# Evidence


def _evidence(of: Record, line: AuditLine) -> Iterator[Proof]:
    """What a penalty rests on: the reports that had joined by then, and what officers had found."""
    for row in of.reports:
        report = Report.model_validate(row.payload)
        joined = of.steps.get(f"report-{report.key}")
        if joined.id < line.id if joined else row.received_at <= line.recorded_at:
            yield Proof(
                what=f"report {report.key}",
                says=report.facts,
                by=report.reported_by,
                at=joined.at if joined else of.case.opened_at,
                sha256=evidence(row)["sha256"],
            )
    for found in of.lines:
        if found.id < line.id and found.text.startswith("Verification failed"):
            yield Proof(what="verification", says=found.text, by=found.actor, at=found.at)
    if line.step == "filings" or line.step.startswith("serious-"):
        yield from _findings(of, line)


def _findings(of: Record, line: AuditLine) -> Iterator[Proof]:
    """What two officers found: that the circumstances are serious, with the evidence of the first."""
    approved = next(
        a for a in reversed(of.lines) if a.id <= line.id and re.fullmatch("serious-.+-close", a.step)
    )
    proposed = of.steps[f"{approved.step.removesuffix('close')}proposed"]
    yield Proof(what="finding", says=proposed.text, by=proposed.actor, at=proposed.at)
    if approved is not line:
        yield Proof(what="approval", says=approved.text, by=approved.actor, at=approved.at)
    for piece in of.filings[0].attachment["serious"]["evidence"] if of.filings else ():
        yield Proof(what="evidence", says=piece, by=proposed.actor, at=proposed.at)


def _files(of: Record, line: AuditLine) -> Iterator[Proof]:
    """The files of an appeal, with the line that files or decides it."""
    for appeal in of.appeals:
        filed = line.result.get("appeal_no") == appeal.appeal_no
        if filed or (line.step.startswith("decide-") and line.at == appeal.decided_at):
            files = select(Evidence.name, Evidence.added_by, Evidence.added_at, Evidence.sha256)
            ordered = files.where(Evidence.sha256.in_(appeal.evidence)).order_by(Evidence.name)
            for name, by, at, sha256 in of.session.execute(ordered):
                yield Proof(what="file", says=name, by=by, at=at, sha256=sha256)


# Before and after


def _earlier(of: Record, line: AuditLine) -> tuple[str, ...]:
    """The cases whose fines stood when this one was set, and so counted as earlier offences (5.5, 7.3)."""
    own = select(func.min(Fine.id)).where(Fine.case_no == of.case.case_no).scalar_subquery()
    voided = select(AuditLine.case_no).where(AuditLine.step == "fine-void", AuditLine.id < line.id)
    stood = (
        select(Fine.case_no)
        .where(Fine.agent_id == of.case.agent_id, Fine.kind == of.case.kind, Fine.id < own)
        .where(Fine.case_no.not_in(voided))
    )
    return tuple(of.session.scalars(stood.order_by(Fine.id)))


def _later(of: Record, step: str) -> Iterator[Later]:
    """What became of a penalty: undone with the case, or a fine reviewed, a hold lifted without an undo."""
    if step == "fine":
        for line in of.lines:
            if line.step.startswith("review-after-"):
                yield Later(at=line.at, by=line.actor, text=line.text, undone=False)
    if undoing := of.steps.get(f"undo-{step}") or of.steps.get(_TAKEN_BACK_BY.get(step, "")):
        because = of.undone or of.steps.get("close")
        why = f" ({because.text})" if because else ""
        yield Later(at=undoing.at, by=undoing.actor, text=f"{undoing.text}{why}", undone=True)
    else:
        yield from _lifted(of, step)


def _lifted(of: Record, step: str) -> Iterator[Later]:
    """When and by what a hold was lifted that its case did not undo: the end of a quarantine, an officer."""
    lifted: defaultdict[datetime, set[str]] = defaultdict(set)
    for hold in of.holds:
        if hold.step == step and hold.lifted_at and hold.lifted_by:
            lifted[hold.lifted_at].add(hold.lifted_by)
    for at, by in lifted.items():
        if freed := sum(name.startswith("quarantine-") for name in by):
            yield Later(at=at, by=SYSTEM, text=f"the quarantine of {freed} numbers ended", undone=False)
        else:
            lifting = select(AuditLine).where(AuditLine.case_no.in_(by), AuditLine.at == at)
            for line in of.session.scalars(lifting.order_by(AuditLine.id).limit(1)):
                yield Later(at=at, by=line.actor, text=f"{line.text} ({line.case_no})", undone=False)
