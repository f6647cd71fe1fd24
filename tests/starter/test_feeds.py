"""Files that grow, rotate, and are read by several: each line comes in once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.models import Feed, Incoming
from registry.session import Sessions
from starter import feeds
from starter.settings import Refused


def _line(n: int) -> str:
    return f'{{"source": "dial-back", "report_id": "D-{n}", "facts": "号码已转让"}}\n'


def _lines(*numbers: int) -> str:
    return "".join(map(_line, numbers))


def _came(on_record: Sessions) -> list[str]:
    with on_record() as session:
        return list(session.scalars(select(Incoming.report_id).order_by(Incoming.id)))


def _ids(*numbers: int) -> list[str]:
    return [f"D-{n}" for n in numbers]


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return tmp_path / "feed.jsonl"


def test_a_file_is_read_on_from_where_it_was_left(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(1, 2))
    assert feeds.read_on(on_record, feed).new == 2
    with feed.open("a") as more:
        more.write(_lines(3))
    assert feeds.read_on(on_record, feed).new == 1
    assert feeds.read_on(on_record, feed).ids == []
    assert _came(on_record) == _ids(1, 2, 3)


def test_half_a_line_waits_for_its_end(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(1) + _line(2)[:20])
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1)
    with feed.open("a") as more:
        more.write(_line(2)[20:])
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1, 2)


def test_half_a_first_line_is_not_taken_for_a_file_of_its_own(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_line(1)[:20])
    feeds.read_on(on_record, feed)
    feed.write_text(_lines(1, 2))
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1, 2)


def test_a_file_that_is_rotated_away_is_read_to_its_end(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(1))
    feeds.read_on(on_record, feed)
    with feed.open("a") as more:
        more.write(_lines(2))
    feed.rename(feed.with_suffix(".jsonl.1"))
    feed.write_text(_lines(3, 4))
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1, 2, 3, 4)
    feed.with_suffix(".jsonl.1").unlink()
    feeds.read_on(on_record, feed)
    with on_record() as session:
        assert len(session.scalars(select(Feed)).all()) == 1


@pytest.mark.parametrize("renamed", ["feed.jsonl.1", "feed.jsonl-20261124", "old.log"])
def test_a_rotated_file_goes_on_being_written_until_its_writer_sees_it(
    on_record: Sessions, feed: Path, renamed: str
) -> None:
    feed.write_text(_lines(1))
    feeds.read_on(on_record, feed)
    with feed.open("a") as writer:
        feed.rename(feed.with_name(renamed))
        writer.write(_line(2)[:20])
        writer.flush()
        feeds.read_on(on_record, feed)
        feed.write_text(_lines(3))
        writer.write(_line(2)[20:])
    feeds.read_on(on_record, feed)
    assert sorted(_came(on_record)) == _ids(1, 2, 3)


def test_a_file_that_nobody_had_read_before_it_was_rotated_away_is_read(
    on_record: Sessions, feed: Path, tmp_path: Path
) -> None:
    feed.with_suffix(".jsonl.2").write_text(_lines(1))
    feed.with_suffix(".jsonl.1.gz").write_text("packed")
    assert feeds.files(tmp_path) == [feed]
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1)


def test_a_csv_file_that_was_emptied_begins_anew(on_record: Sessions, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    heading = "source,report_id,facts\n"
    feed.write_text(heading + "survey,S-1,a\n")
    feeds.read_on(on_record, feed)
    with feed.open("r+") as same:
        same.truncate()
        same.write(heading + "survey,S-2,b\nsurvey,S-3,c\n")
    feeds.read_on(on_record, feed)
    assert _came(on_record) == ["S-1", "S-2", "S-3"]


def test_a_file_that_was_copied_and_emptied_is_read_from_its_start(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(1, 2, 3))
    feeds.read_on(on_record, feed)
    with feed.open("r+") as same:
        same.truncate()
        same.write(_lines(4))
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1, 2, 3, 4)


def test_a_new_file_in_the_place_of_a_deleted_one_is_read_whole(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(1, 2, 3))
    feeds.read_on(on_record, feed)
    feed.unlink()
    feed.write_text(_lines(4, 5, 6, 7))
    feeds.read_on(on_record, feed)
    assert _came(on_record) == _ids(1, 2, 3, 4, 5, 6, 7)


def test_several_readers_of_one_file_take_each_line_once(on_record: Sessions, feed: Path) -> None:
    feed.write_text(_lines(*range(500)))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: feeds.read_on(on_record, feed), range(4)))
    assert sum(one.new for one in read) == 500
    assert sorted(_came(on_record)) == sorted(_ids(*range(500)))


def test_a_file_that_is_bigger_than_a_transaction_is_read_whole(on_record: Sessions, feed: Path) -> None:
    feed.write_text("".join(_line(n).replace("号码", "号码" * 900) for n in range(1000)))
    assert feed.stat().st_size > 2_000_000
    assert feeds.read_on(on_record, feed).new == 1000


def test_csv_may_have_lines_within_a_cell_and_be_in_gbk(on_record: Sessions, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    rows = 'source,report_id,facts\nsurvey,S-1,"第一行\n第二行, ""引号"""\nsurvey,S-2,完\n'
    feed.write_bytes(rows.encode("gbk"))
    feeds.read_on(on_record, feed)
    with on_record() as session:
        found = session.scalars(select(Incoming).order_by(Incoming.id)).all()
    assert [row.payload["facts"] for row in found] == ['第一行\n第二行, "引号"', "完"]
    with feed.open("ab") as more:
        more.write('survey,S-3,"半\n'.encode("gbk"))
    assert feeds.read_on(on_record, feed).new == 0
    with feed.open("ab") as more:
        more.write('行"\n'.encode("gbk"))
    assert feeds.read_on(on_record, feed).new == 1


@pytest.mark.parametrize("row", ["survey\n", "survey,S-1,a,b,c\n", 'survey,S-1,"x"y\n'])
def test_a_row_that_does_not_fit_its_columns_is_kept_with_the_reason(
    on_record: Sessions, tmp_path: Path, row: str
) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("source,report_id,facts\n" + row)
    feeds.read_on(on_record, feed)
    with on_record() as session:
        [found] = session.scalars(select(Incoming)).all()
    assert str(found.payload["why"]).startswith("line 2 can't be read")


def test_a_folder_is_read_with_every_feed_in_it(on_record: Sessions, tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv", "c.txt", ".hidden"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert [file.name for file in feeds.files(tmp_path)] == ["a.csv", "b.jsonl"]
    with pytest.raises(Refused, match="ends in"):
        feeds.files(tmp_path / "c.txt")
