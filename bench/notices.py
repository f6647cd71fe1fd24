"""How many notices one core writes and puts on record in a minute, PDF included, and what that consists of.

Run by hand: `.venv/bin/python bench/notices.py [N]`. PostgreSQL runs in a temporary folder, the letters go to
an outbox there. One notice after the other, so that one core's work is what is measured. Read the ratios.
"""

import sys
import tempfile
import time
from datetime import datetime
from itertools import islice
from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.cases import Cases, OpenCase
from activities.channels import Outbox
from activities.letters import Letters
from activities.notices import Notices, ServeNotice
from registry.importer import decode, load, read
from registry.migrations import migrate
from registry.session import Sessions, connect, sessions
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, Kind, NoticeKind, workflow_id
from starter import local, specimens
from starter.settings import Settings

AT = datetime(2026, 11, 24, 10, tzinfo=SHANGHAI)


def _cases(on_record: Sessions, wanted: int) -> list[str]:
    rows = read(decode(Path("samples/registry.csv").read_bytes()))
    with on_record.begin() as session:
        load(session, rows, AT, "bench")
    cases, opened = Cases(on_record), []
    for row in islice(rows.values(), wanted):
        report = Report(
            source="bench",
            report_id=row.number,
            kind=Kind.SECONDARY_SALE,
            number=row.number,
            facts="登记客户称号码已转让他人",
        )
        case_id = workflow_id(report.kind, report.number)
        opened.append(cases.open_case(OpenCase(workflow_id=case_id, run_id="1", at=AT, report=report)))
    return [opening.opened.case_no for opening in opened if opening.opened]


def _serve(on_record: Sessions, folder: Path, case_nos: list[str], wanted: int) -> float:
    notices = Notices(on_record, Outbox(folder), "compliance@platform.example", 5)
    environment = ActivityEnvironment()
    begun = time.perf_counter()
    for serial in range(wanted):
        order = ServeNotice(
            case_no=case_nos[serial % len(case_nos)],
            step=f"notice-{serial}",
            at=AT,
            kind=NoticeKind.RECTIFICATION_ORDER,
            working_days=3,
        )
        environment.run(notices.serve_notice, order)
    return time.perf_counter() - begun


def _write(wanted: int) -> float:
    """Writing alone, in all three forms."""
    letters = Letters()
    specimen = next(specimens.specimens(Kind.SECONDARY_SALE, NoticeKind.RECTIFICATION_ORDER))
    begun = time.perf_counter()
    for serial in range(wanted):
        specimen.facts["case"].agent.contact = f"王芳{serial}"
        specimens.preview(letters, specimen)
    return time.perf_counter() - begun


def main(wanted: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="b4") as folder:
        settings = Settings(home=Path(folder))
        with local.postgres(settings) as url:
            engine = connect(url, pool_size=2)
            migrate(engine)
            on_record = sessions(engine)
            case_nos = _cases(on_record, 300)
            _serve(on_record, Path(folder) / "outbox", case_nos, 20)
            taken = _serve(on_record, Path(folder) / "outbox", case_nos, wanted + 20)
            engine.dispose()
    writing = _write(wanted)
    print(f"{wanted} notices: {wanted / taken * 60:,.0f} a minute, {taken / wanted * 1000:.1f} ms each")
    print(f"writing alone, in all three forms: {writing / taken:.0%} of that")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
