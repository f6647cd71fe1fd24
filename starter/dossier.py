"""The dossier of a case: all that is on record about it, as an auditor or the police would want it.

One ZIP file, the same byte for byte as long as the record is the same: nothing in it is of the moment at
which it was made. `SHA256SUMS` lists every file, so `sha256sum -c` checks it; each line of `audit.jsonl` is
exactly what its hash in the chain was made of.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from activities.filings import evidence
from activities.letters import Letters
from registry import audit, proof
from registry.models import AuditLine, Evidence, Notice, Payment
from registry.session import Sessions, snapshot
from rulebook.deadlines import Deadline
from rulebook.money import yuan
from rulebook.vocabulary import SHANGHAI, one_line, written
from starter import letters
from starter.explain.record import Record, cases_named
from starter.files import spreadsheet
from starter.letters import Part
from starter.settings import Refused

_READ_ME = """案卷 {case_no}
==================================================
dossier.pdf      案卷封面：案情、时间轴、文书、缴款、证据一览
timeline.svg     时间轴图
notices/         送达的文书：.eml 为发出的原始字节，.pdf 与 .txt 取自其中
reports/         立案所据的举报，按收到时的内容
evidence/        证据文件，文件名以其 SHA-256 开头
filings/         备案、公告及移送材料
audit.jsonl      审计记录：每行即其校验值所据的原文，previous 为上一行的校验值
audit.sha256     审计记录各行的校验值
*.csv            时间轴与缴款表
case.json        案件登记信息
policy.toml      本案适用的规定（规定第5.4条）
proof.json       制作案卷时对记录的核验结果
SHA256SUMS       以上全部文件的校验值

校验：在本目录执行  sha256sum -c SHA256SUMS
逐行校验审计记录：  while read -r line; do printf %s "$line" | sha256sum; done < audit.jsonl

--------------------------------------------------
Dossier of case {case_no}
==================================================
dossier.pdf      the case on a few pages: facts, timeline, notices, payments, evidence
timeline.svg     the timeline as a picture
notices/         the letters: .eml is the very bytes that were sent, .pdf and .txt are taken from it
reports/         the reports on which the case was opened, as they came in
evidence/        evidence files, named by their SHA-256
filings/         what was filed, announced and submitted
audit.jsonl      the audit trail: each line is what its hash was made of, `previous` is the hash before it
audit.sha256     the hashes of these lines
*.csv            timeline and payments as tables
case.json        the case as it is registered
policy.toml      the policy that the case keeps (5.4)
proof.json       what an examination of the record found when the dossier was made
SHA256SUMS       the hashes of all these files

To check it:  sha256sum -c SHA256SUMS
Each line of the audit trail:  while read -r line; do printf %s "$line" | sha256sum; done < audit.jsonl
"""


class Dossier(BaseModel):
    """A dossier: the bytes of its ZIP file, and what is wrong with the record, if anything."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    content: bytes
    files: int
    faults: tuple[str, ...]


def make(on_record: Sessions, named: str) -> Dossier:
    """Make the dossier of a case by its case number, workflow id or 400 number (then the newest).

    Raises `Refused` where there is none.
    """
    with snapshot(on_record) as session:
        case = next(iter(cases_named(session, named)), None)
        if case is None:
            raise Refused(f"no case {named} is in the registry")
        of = Record.of(session, case)
        examined = proof.examine(session, case.case_no)
        files = dict(_files(of, examined))
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    files["SHA256SUMS"] = sums.encode()
    content = _zipped(case.case_no, files, _made_at(of))
    return Dossier(case_no=case.case_no, content=content, files=len(files), faults=examined.faults)


def _made_at(of: Record) -> datetime:
    """The moment of the last thing on record: what a dossier says of its own time."""
    return max([of.case.opened_at, *(line.at for line in of.lines)]).astimezone(SHANGHAI)


def _zipped(case_no: str, files: dict[str, bytes], at: datetime) -> bytes:
    target = io.BytesIO()
    # Stored as they are: what a compressor makes of them differs from one version to the next.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{case_no}/{name}", at.timetuple()[:6])
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, files[name])
    return target.getvalue()


def _files(of: Record, examined: proof.Proof) -> Iterator[tuple[str, bytes]]:
    case_no = of.case.case_no
    yield "README.txt", _READ_ME.format(case_no=case_no).encode()
    yield "case.json", _json(_registered(of))
    yield "proof.json", _json(examined.model_dump(mode="json"))
    policy_file = resources.files("rulebook") / f"{of.policy.effective}.toml"
    yield "policy.toml", policy_file.read_bytes()
    lines = proof.hashed_lines(of.session, case_no)
    yield "audit.jsonl", "".join(f"{said}\n" for said, _ in lines).encode()
    yield "audit.sha256", "".join(f"{hash_}\n" for _, hash_ in lines).encode()
    yield "timeline.csv", spreadsheet(("when", "who", "what", "step"), map(_told, of.lines))
    paid = (
        "reference",
        "amount",
        "received",
        "had by the bank",
        "recorded by",
        "refunded",
        "refund reference",
    )
    yield "payments.csv", spreadsheet(paid, _payments(of))
    yield from _notices(of.notices)
    for serial, row in enumerate(of.reports, 1):
        yield f"reports/{serial:03}.json", audit.canonical(row.payload).encode()
    for kept in _evidence(of):
        yield f"evidence/{kept.sha256}-{_file_name(kept.name)}", kept.content
    for filing in of.filings:
        yield f"filings/{filing.filing_no}.txt", filing.document.encode()
        yield f"filings/{filing.filing_no}.json", audit.canonical(filing.attachment).encode()
        if filing.withdrawal:
            yield f"filings/{filing.filing_no}-withdrawal.txt", filing.withdrawal.encode()
    press, cover = Letters(), _cover(of)
    yield "timeline.svg", press.typeset("timeline", cover, _made_at(of), "svg")
    yield "dossier.pdf", press.typeset("dossier", cover, _made_at(of), "pdf")


def _json(value: Any) -> bytes:
    return (audit.canonical(value) + "\n").encode()


def _registered(of: Record) -> dict[str, Any]:
    case = of.case
    return {
        "case_no": case.case_no,
        "kind": case.kind,
        "clause": case.kind.clause,
        "number": case.number,
        "customer": of.number.customer,
        "certificate": of.number.certificate,
        "operator": of.number.operator,
        "agent_id": case.agent_id,
        "agent": case.agent.name,
        "policy": case.policy.isoformat(),
        "workflow_id": case.workflow_id,
        "opened_at": case.opened_at.isoformat(),
        "opened_by": case.opened_by,
        "closed_at": case.closed_at.isoformat() if case.closed_at else None,
        "outcome": case.outcome,
        "balance": of.balance.model_dump(mode="json"),
        "appeals": [
            {
                "appeal_no": appeal.appeal_no,
                "statement": appeal.statement,
                "evidence": appeal.evidence,
                "filed_at": appeal.filed_at.isoformat(),
                "filed_by": appeal.filed_by,
                "decided_at": appeal.decided_at.isoformat() if appeal.decided_at else None,
                "decided_by": appeal.decided_by,
                "case_stands": appeal.upheld,
                "reasons": appeal.reasons,
            }
            for appeal in of.appeals
        ],
    }


def _told(line: AuditLine) -> tuple[str, ...]:
    return _when(line.at), line.actor, line.text, line.step


def _when(moment: datetime | None) -> str:
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" if moment else ""


def _payments(of: Record) -> Iterator[tuple[str, ...]]:
    for paid in of.payments:
        came, went = _came_and_went(paid)
        yield (
            *(paid.reference, f"{paid.amount:.2f}", came, str(paid.had_on or "")),
            *(paid.recorded_by, went, paid.refund_reference or ""),
        )


def _came_and_went(paid: Payment) -> tuple[str, str]:
    """When money came in, and when it was given back: of what a case owed back (6.2), only the latter."""
    if paid.amount < 0:
        return "", _when(paid.received_at)
    return _when(paid.received_at), _when(paid.refunded_at)


def _notices(notices: Sequence[Notice]) -> Iterator[tuple[str, bytes]]:
    for notice in notices:
        name = f"notices/{notice.notice_no}"
        yield f"{name}.eml", notice.content
        with suppress(Refused):  # it was sent without one
            yield f"{name}.txt", letters.part(notice, Part.TEXT).replace(b"\r\n", b"\n")
        with suppress(Refused):
            yield f"{name}.pdf", letters.part(notice, Part.PDF)


def _evidence(of: Record) -> list[Evidence]:
    named = {str(sha256) for appeal in of.appeals for sha256 in appeal.evidence}
    named |= {sha256 for notice in of.notices if (sha256 := proof.proof_of_service(notice))}
    kept = (of.session.get(Evidence, sha256) for sha256 in sorted(named))
    return [file for file in kept if file is not None]


def _file_name(name: str) -> str:
    """A name from outside as one that every system can store: it comes after the file's hash."""
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in one_line(name))
    return safe[-60:]


# The cover


def _cover(of: Record) -> dict[str, Any]:
    """What the cover and the timeline show, as plain data for their layouts."""
    case = of.case
    facts = [
        ("案件编号 · case", case.case_no),
        ("违规类型 · violation", f"{case.kind.label}（规定第{case.kind.clause}条）"),
        ("涉案号码 · number", written(case.number)),
        ("实名登记客户 · customer", f"{of.number.customer}（{of.number.certificate}）"),
        ("代理商 · agent", f"{case.agent.name}（{case.agent_id}）"),
        ("立案 · opened", f"{_when(case.opened_at)}，{case.opened_by}"),
        ("结案 · closed", f"{_when(case.closed_at)}，{case.outcome}" if case.closed_at else "未结 · open"),
        ("适用规定 · policy", f"{case.policy}"),
        ("罚款 · fine", yuan(of.balance.fine)),
        ("已缴 · paid", yuan(of.balance.paid)),
        ("尚欠 · due", yuan(of.balance.due)),
    ]
    reports = [evidence(row) for row in of.reports]
    return {
        "house": "400号码服务平台 · 合规管理部",
        "title": f"案卷 {case.case_no}",
        "case_no": case.case_no,
        "facts": [(name, one_line(said)) for name, said in facts],
        "time": _strip(of),
        "lines": [
            {
                "when": _when(line.at),
                "tone": _tone(line.step),
                "who": one_line(line.actor),
                "what": one_line(line.text),
            }
            for line in of.lines
        ],
        "tables": [
            _table(
                "文书 · Notices",
                (("文书 · notice", 3), ("类型 · kind", 3), ("送达 · served", 3), ("凭据 · receipt", 5)),
                ((n.notice_no, n.kind, _when(n.served_at), n.receipt or "") for n in of.notices),
            ),
            _table(
                "缴款 · Payments",
                (
                    ("流水号 · reference", 4),
                    ("金额 · yuan", 2),
                    ("收到 · received", 3),
                    ("退款 · refunded", 3),
                ),
                ((paid.reference, f"{paid.amount:,.2f}", *_came_and_went(paid)) for paid in of.payments),
            ),
            _table(
                "举报 · Reports",
                (("编号 · report", 3), ("事实 · facts", 7), ("SHA-256", 4)),
                ((r["key"], r["facts"], r["sha256"]) for r in reports),
            ),
            _table(
                "证据文件 · Evidence",
                (("文件 · file", 4), ("提交 · added", 3), ("SHA-256", 6)),
                (
                    (kept.name, f"{_when(kept.added_at)}，{kept.added_by}", kept.sha256)
                    for kept in _evidence(of)
                ),
            ),
        ],
    }


def _table(title: str, columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[str]]) -> dict[str, Any]:
    return {
        "title": title,
        "columns": [name for name, _ in columns],
        "widths": [width for _, width in columns],
        "rows": [[one_line(cell) for cell in row] for row in rows],
    }


_TONES = {
    "notice": ("notice-", "deadline", "clock-", "extend-", "hold-", "resume-"),
    "money": ("payment", "refund", "returned"),
    "penalty": ("fine", "freeze", "suspend", "shut-down", "reclaim", "take-back", "close-account", "filings"),
    "undone": ("undo", "appeal", "decide", "reopen", "unfreeze", "dismiss", "reinstate"),
}


def _tone(step: str) -> str:
    return next((tone for tone, steps in _TONES.items() if step.startswith(steps)), "other")


def _strip(of: Record) -> dict[str, Any]:
    """The case on a line: each thing done at its share of the whole time, and the limits that ran."""
    begins, ends = of.case.opened_at, _made_at(of)
    limits = [notice for notice in of.notices if notice.last_day and notice.counted_from]
    ends = max([ends, *(_end(notice) for notice in limits)])
    whole = max((ends - begins).total_seconds(), 1.0)

    def share(moment: datetime) -> float:
        return round(min(max((moment - begins).total_seconds() / whole, 0.0), 1.0), 6)

    return {
        "begins": _when(begins),
        "ends": _when(ends),
        "points": [{"at": share(line.at), "tone": _tone(line.step)} for line in of.lines],
        "limits": [
            {
                "from": share(notice.counted_from or begins),
                "to": share(_end(notice)),
                "label": f"{notice.notice_no} → {notice.last_day} 24:00",
            }
            for notice in limits
        ],
    }


def _end(notice: Notice) -> datetime:
    assert notice.last_day
    return Deadline(last_day=notice.last_day).at
