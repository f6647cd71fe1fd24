"""`enforce detect`, and the import of what it looks at, as officers type them."""

from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from registry.models import AuditLine, Base, Complaint, Incoming, OperatorAlert
from rulebook.vocabulary import SHANGHAI, ComplaintKind, written
from tests.starter.conftest import Enforce
from tests.world import World, an_agent, shanghai

SHIPPED = (resources.files("rulebook") / "2017-02-16.toml").read_text("utf-8")
COMPLAINTS = "channel,complaint_id,number,kind,received_at,text,answered_at\n"


def _put(world: World, *rows: Base) -> None:
    with world.on_record.begin() as session:
        session.add_all(rows)


def _frauds(number: str, at: datetime) -> list[Base]:
    return [
        Complaint(
            channel="热线",
            complaint_id=f"C{serial}",
            number=number,
            kind=ComplaintKind.FRAUD,
            received_at=at,
            text="索要验证码",
        )
        for serial in range(3)
    ]


def _an_alert(number: str, at: datetime) -> OperatorAlert:
    return OperatorAlert(operator="中国电信", alert_id="YJ-1", number=number, raised_at=at, text="冒充客服")


@pytest.fixture
def yesterday() -> datetime:
    return datetime.now(SHANGHAI) - timedelta(days=1)


async def test_a_dry_run_shows_what_would_be_reported_and_reports_nothing(
    world: World, enforce: Enforce, yesterday: datetime
) -> None:
    [number] = an_agent(world.on_record)
    _put(world, _an_alert(number, yesterday))

    shown = await enforce("detect", "--dry-run")

    assert (shown.code, shown.err) == (0, "")
    at = f"{yesterday:%Y-%m-%d %H:%M}"
    assert shown.out == (
        f"{written(number)}   诈骗 · fraud (1)\n"
        f"  30日内收到运营商涉诈预警1件：{at} 中国电信预警 YJ-1：冒充客服\n"
        "  evidence: alert 中国电信/YJ-1\n"
        "1 violations would be reported\n"
    )
    assert (world.rows(Incoming), world.rows(AuditLine)) == ([], [])
    assert [row.reported_in for row in world.rows(OperatorAlert)] == [None]


async def test_it_is_reported_once_by_the_officer_who_asks(
    world: World, enforce: Enforce, yesterday: datetime
) -> None:
    [number] = an_agent(world.on_record)
    _put(world, _an_alert(number, yesterday))
    told = (await enforce("detect", "--json")).json
    [found] = told["found"]
    assert (told["dry_run"], told["policy"]) == (False, "2017-02-16")
    assert (found["kind"], found["number"], found["held_back"]) == ("fraud", number, None)
    assert found["evidence"] == ["alert 中国电信/YJ-1"]
    [row] = world.rows(Incoming)
    assert (row.report_id, row.payload["facts"]) == (found["report_id"], found["facts"])
    assert [line.actor for line in world.rows(AuditLine)] == ["李敏"]
    assert (await enforce("detect")).out == "nothing to report\n"
    assert len(world.rows(Incoming)) == 1


async def test_officers_see_how_a_day_looked_and_what_a_draft_would_make_of_it(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    [number] = an_agent(world.on_record)
    _put(world, *_frauds(number, shanghai("2026-03-10")))
    (tmp_path / "draft.toml").write_text(SHIPPED.replace("fraud_complaints = 3", "fraud_complaints = 4"))

    async def found(*words: str) -> list[str]:
        return [
            one["number"] for one in (await enforce("detect", "--dry-run", "--json", *words)).json["found"]
        ]

    assert await found("--as-of", "2026-03-09") == []
    assert await found("--as-of", "2026-03-10") == [number]
    assert await found("--as-of", "2026-04-10") == []
    assert await found("--as-of", "2026-03-10", "--policy", "draft.toml") == []


async def test_another_day_or_policy_is_only_shown(world: World, enforce: Enforce) -> None:
    for words in (("--as-of", "2026-03-10"), ("--policy", "2020-01-01")):
        refused = await enforce("detect", *words)
        assert (refused.code, refused.err) == (
            1,
            "error: --as-of and --policy only show what would be: they need --dry-run\n",
        )
    early = await enforce("detect", "--dry-run", "--as-of", "2017-02-15")
    assert (early.code, early.err) == (1, "error: no policy was in force on 2017-02-15\n")


async def test_a_draft_without_thresholds_is_no_policy_and_other_thresholds_are_told(
    enforce: Enforce, tmp_path: Path
) -> None:
    later = SHIPPED.replace("2017-02-16\n", "2027-01-01\n")
    (tmp_path / "without.toml").write_text(later.partition("[detection]")[0])
    (tmp_path / "other.toml").write_text(later.replace("observed_within = 30", "observed_within = 60"))
    refused = await enforce("policy", "check", "without.toml")
    assert (refused.code, "detection: is missing" in refused.err) == (1, True)
    differences = (await enforce("policy", "diff", "2026-01-01", "other.toml", "--json")).json
    assert {"key": "detection.observed_within", "old": 30, "new": 60} in differences


async def test_a_file_of_complaints_is_told_by_its_columns_and_loaded_once(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    line = "热线,C1,400-800-1234,service,2026-03-10 09:20,申请变更绑定电话两周未办,"
    (tmp_path / "投诉.csv").write_bytes((COMPLAINTS + line).encode("gb18030"))
    tried = await enforce("registry", "import", "投诉.csv", "--dry-run")
    assert tried.out == (
        "would load 投诉.csv: 1 complaints added, 0 brought up to date, 0 on record already\n"
    ), tried.err
    assert world.rows(Complaint) == []
    assert (await enforce("registry", "import", "投诉.csv")).out == tried.out.replace("would load", "loaded")

    (tmp_path / "投诉.csv").write_bytes((COMPLAINTS + line + "2026-03-11").encode())
    again = await enforce("registry", "import", "投诉.csv", "--json")
    assert again.json == {"what": "complaints", "added": 0, "updated": 1, "unchanged": 0, "dry_run": False}
    [row] = world.rows(Complaint)
    assert (row.text, row.answered_at) == ("申请变更绑定电话两周未办", shanghai("2026-03-11", "00:00"))


async def test_a_file_with_problems_is_refused_as_a_whole(
    world: World, enforce: Enforce, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(
        COMPLAINTS + "热线,C1,4008001234,service,2026-03-10,x,\n热线,C2,95588,service,2026-03-10,x,\n"
    )
    refused = await enforce("registry", "import", "bad.csv")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: bad.csv: nothing was loaded\n  line 3, column number:")
    assert world.rows(Complaint) == []


async def test_what_a_file_holds_can_be_said(world: World, enforce: Enforce, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(COMPLAINTS)
    refused = await enforce("registry", "import", "x.csv", "--what", "alerts")
    assert "line 1, column operator: column is missing" in refused.err
    assert (await enforce("registry", "import", "x.csv", "--what", "letters")).code == 2
