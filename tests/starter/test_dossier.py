"""Rulebook 5.6: a case's dossier holds all that is on record, can be checked, and is the same each time."""

import csv
import hashlib
import io
import json
import subprocess
import zipfile
from decimal import Decimal
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.models import AuditLine, Notice
from rulebook.vocabulary import Kind, Stage
from starter.dossier import Dossier, make
from starter.settings import Refused
from tests.starter.conftest import Enforce
from tests.world import CaseInTime, World, a_report, an_agent

HOSTILE = '=HYPERLINK("http://x.example","点击")\r\n<script>alert(1)</script>\x1b[31m\u202e"; #panic("x") $x$'


async def _told(world: World) -> str:
    """A fined case with an appeal, its evidence, a payment, and hostile text wherever somebody may write."""
    [number] = an_agent(world.on_record, name=HOSTILE, contact=HOSTILE)
    case = await world.open(a_report(number, facts=HOSTILE), on="2038-03-01")
    await case.appeal(HOSTILE, (world.evidence(b"contract"),))
    await case.decide(upheld=True, reason=HOSTILE)
    await case.until("2038-03-06", "00:11")
    await case.paid("1000", "=ICBC-1")
    await case.ended()
    return await case.case_no()


def _files(dossier: Dossier) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(dossier.content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


async def test_a_dossier_holds_all_that_is_on_record(world: World) -> None:
    case_no = await _told(world)
    dossier = make(world.on_record, case_no)
    files = _files(dossier)
    assert dossier.faults == ()
    for notice in world.rows(Notice):
        assert files[f"notices/{notice.notice_no}.eml"] == notice.content
        letter = message_from_bytes(notice.content, policy=policy.default)
        [attached] = letter.iter_attachments()
        assert files[f"notices/{notice.notice_no}.pdf"] == attached.get_content()
    [evidence] = [content for name, content in files.items() if name.startswith("evidence/")]
    assert evidence == b"contract"
    assert json.loads(files["reports/001.json"])["facts"].startswith("=HYPERLINK")
    assert b"fine_per_number" in files["policy.toml"]
    assert json.loads(files["case.json"])["outcome"] == Stage.SETTLED
    assert json.loads(files["case.json"])["appeals"][0]["case_stands"] is True
    assert files["dossier.pdf"].startswith(b"%PDF-")
    assert files["timeline.svg"].startswith(b"<svg")
    assert files["timeline.svg"].count(b"<use") > 500  # its glyphs: it needs no font


async def test_a_dossier_tells_what_was_paid_and_what_was_returned_of_it(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    await case.paid("300", "ICBC-1")
    await case.rectified()
    await case.verify(True)
    case_no = (await case.ended()).case_no
    await world.act(case_no, "refunded", "2038-03-20", "-1+1")
    files = _files(make(world.on_record, case_no))
    paid = csv.DictReader(io.StringIO(files["payments.csv"].decode("utf-8-sig")))
    came, went = sorted(paid, key=lambda row: Decimal(row["amount"]), reverse=True)
    assert (came["reference"], came["amount"], came["refunded"]) == ("ICBC-1", "300.00", "")
    assert came["received"].startswith("2038-03-01")
    assert (went["reference"], went["amount"], went["received"]) == ("'-1+1", "-300.00", "")
    assert (went["refunded"], went["recorded by"]) == ("2038-03-20 10:00", "李敏")
    assert json.loads(files["case.json"])["balance"] == {"fine": "0.00", "paid": "0.00"}


def _agrees(folder: Path) -> bool:
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    return subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0


async def test_the_manifest_is_checked_with_standard_tools(world: World, tmp_path: Path) -> None:
    case_no = await _told(world)
    (tmp_path / "dossier.zip").write_bytes(make(world.on_record, case_no).content)
    with zipfile.ZipFile(tmp_path / "dossier.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / case_no
    assert _agrees(folder)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert there == listed | {"SHA256SUMS"}
    (folder / "case.json").write_text("{}")
    assert not _agrees(folder)


async def test_each_line_of_the_audit_trail_is_what_its_hash_was_made_of(world: World) -> None:
    files = _files(make(world.on_record, await _told(world)))
    lines, hashes = files["audit.jsonl"].splitlines(), files["audit.sha256"].decode().split()
    assert [hashlib.sha256(line).hexdigest() for line in lines] == hashes
    assert [json.loads(line)["previous"] for line in lines] == ["", *hashes[:-1]]
    assert [json.loads(line)["text"] for line in lines] == [row.text for row in world.rows(AuditLine)]


async def test_a_dossier_is_the_same_byte_for_byte_each_time_and_in_each_process(
    world: World, tmp_path: Path, enforce: Enforce
) -> None:
    case_no = await _told(world)
    once = make(world.on_record, case_no)
    ran = await enforce("dossier", case_no, "--json", TZ="America/Lima", LC_ALL="C")
    assert ran.json["sha256"] == hashlib.sha256(once.content).hexdigest()
    assert (tmp_path / ran.json["file"]).read_bytes() == once.content


async def test_a_file_that_is_there_is_not_replaced_unasked(
    world: World, tmp_path: Path, enforce: Enforce
) -> None:
    case_no = await _told(world)
    (tmp_path / "mine.zip").write_text("mine")
    refused = await enforce("dossier", case_no, "-o", "mine.zip")
    assert (refused.code, (tmp_path / "mine.zip").read_text()) == (1, "mine")
    assert "is there already" in refused.err
    assert (await enforce("dossier", case_no, "-o", "mine.zip", "--force")).code == 0
    assert zipfile.is_zipfile(tmp_path / "mine.zip")
    assert (await enforce("dossier", case_no, "-o", "no/such/folder.zip")).code == 1


async def test_no_cell_of_a_table_acts_as_a_formula(world: World) -> None:
    files = _files(make(world.on_record, await _told(world)))
    for name in ("timeline.csv", "payments.csv"):
        rows = list(csv.reader(io.StringIO(files[name].decode("utf-8-sig"))))
        assert len(rows) > 1
        assert [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))] == []
    assert b"'=ICBC-1" in files["payments.csv"]


async def test_no_name_from_outside_leads_out_of_the_dossier(world: World) -> None:
    [number] = an_agent(world.on_record)
    case = await world.open(a_report(number), on="2038-03-01")
    sha256 = world.evidence(b"contract")
    with world.on_record.begin() as session:
        session.execute(
            text("update evidence set name = '../../etc/\\cron.d/x:*?\"<>|证据.pdf' where sha256 = :of"),
            {"of": sha256},
        )
    await case.appeal(evidence=(sha256,))
    with zipfile.ZipFile(io.BytesIO(make(world.on_record, await case.case_no()).content)) as archive:
        [name] = [name for name in archive.namelist() if "/evidence/" in name]
    assert name.count("/") == 2
    assert name.endswith("证据.pdf")
    assert not set(name.rpartition("/")[2]) & set('\\:*?"<>|')


async def test_a_record_that_was_altered_says_so_in_its_dossier(world: World) -> None:
    case_no = await _told(world)
    with world.on_record.begin() as session:
        session.execute(
            text("update notices set content = 'forged' where notice_no like :no"), {"no": f"{case_no}-N1"}
        )
    dossier = make(world.on_record, case_no)
    assert any(f"{case_no}-N1" in fault for fault in dossier.faults)
    assert json.loads(_files(dossier)["proof.json"])["faults"] == list(dossier.faults)


@pytest.mark.parametrize("kind", Kind)
async def test_a_case_of_each_kind_that_has_just_begun_has_a_dossier(world: World, kind: Kind) -> None:
    [number] = an_agent(world.on_record)
    case: CaseInTime = await world.open(a_report(number, kind=kind), on="2038-03-01")
    assert make(world.on_record, case.id).files > 10


async def test_a_case_that_is_not_on_record_has_no_dossier(world: World) -> None:
    with pytest.raises(Refused, match="no case SS-1999-00001"):
        make(world.on_record, "SS-1999-00001")
