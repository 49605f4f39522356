"""The index of checked records: it gives what reading gives, and never hides what was changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from bench import known_records
from bench.errors import BenchError
from bench.home import Home
from bench.known_records import home_records
from bench.records import Record, read_records, write_record

RecordMaker = Callable[..., Record]


@pytest.fixture
def home(make_record: RecordMaker, tmp_path: Path) -> Home:
    """A home with ten records."""
    home = Home(tmp_path)
    for seed in range(10):
        write_record(make_record(seed=seed, hours=1.5 if seed % 2 else None, flags=["odd"] * (seed == 3)), home.records)
    return home


@pytest.fixture(autouse=True)
def _small_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records are worth an index, however young they are."""
    monkeypatch.setattr(known_records, "_SETTLED_NS", 0)
    monkeypatch.setattr(known_records, "_WORTH_KEEPING", 1)


def read_in_full(home: Home) -> list[str]:
    """The names of the records that are read and checked anew."""
    checked: list[str] = []

    def noting(path: Path) -> Record:
        checked.append(path.name)
        return real(path)

    real = known_records.read_record
    with patch.object(known_records, "read_record", noting):
        home_records(home)
    return checked


def test_the_same_records_come_back_without_a_second_check(home: Home) -> None:
    expected = list(read_records(home.records))
    assert home_records(home) == expected
    assert read_in_full(home) == []
    again = home_records(home)
    assert again == expected
    assert [repr(record) for record in again] == [repr(record) for record in expected]
    assert [record.model_dump_json() for record in again] == [record.model_dump_json() for record in expected]


def test_records_of_earlier_versions_get_their_defaults(home: Home) -> None:
    path = sorted(home.records.iterdir())[0]
    content = json.loads(path.read_text())
    del content["data"]["class_counts"], content["subject"]["training"], content["subject"]["teachers"]
    content["digest"] = known_records.checks.content_digest(json.dumps(content))
    path.write_text(json.dumps(content))
    expected = list(read_records(home.records))
    assert [home_records(home), home_records(home)] == [expected, expected]


def test_a_new_record_is_read_and_a_removed_one_is_gone(home: Home, make_record: RecordMaker) -> None:
    home_records(home)
    sorted(home.records.iterdir())[0].unlink()
    new = write_record(make_record(seed=99), home.records)
    assert read_in_full(home) == [new.name]
    assert {record.subject.seed for record in home_records(home)} == {*range(1, 10), 99}


def test_a_record_edited_behind_its_times_is_refused(home: Home) -> None:
    """Same size, same time of change: the inode's own time tells."""
    home_records(home)
    path = sorted(home.records.iterdir())[0]
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace('"correct": 80', '"correct": 81', 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    with pytest.raises(BenchError, match=path.name):
        home_records(home)


def test_a_file_that_changed_just_now_is_not_indexed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_records, "_SETTLED_NS", 10**12)
    home_records(home)
    assert len(read_in_full(home)) == 10


def test_a_small_home_gets_no_index(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_records, "_WORTH_KEEPING", 11)
    home_records(home)
    assert not home.kept.exists()


def test_copies_of_a_home_are_checked_anew(home: Home, tmp_path: Path) -> None:
    home_records(home)
    copy = Home(tmp_path / "copy")
    for folder in (home.records, home.kept):
        to = copy.root / folder.relative_to(home.root)
        to.mkdir(parents=True)
        for path in folder.iterdir():
            (to / path.name).write_bytes(path.read_bytes())
            os.utime(to / path.name, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    assert len(read_in_full(copy)) == 10


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "x"', '{"version": 1, "records": {"a": 2}}', "\x00"])
def test_a_damaged_index_is_as_none(home: Home, content: str) -> None:
    expected = home_records(home)
    (home.kept / "checked-records.json").write_text(content)
    assert home_records(home) == expected
    assert read_in_full(home) == []


def test_other_checks_begin_anew(home: Home) -> None:
    home_records(home)
    with patch.object(known_records, "_version", lambda: "another"):
        assert len(read_in_full(home)) == 10


def test_a_home_that_cannot_be_written_is_read_all_the_same(home: Home) -> None:
    home.kept.parent.joinpath("kept").write_text("a file in the folder's place")
    assert len(home_records(home)) == 10


def test_a_home_without_records_has_none(tmp_path: Path) -> None:
    assert home_records(Home(tmp_path)) == []
    assert not list(tmp_path.iterdir())
