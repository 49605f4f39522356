"""The index of checked records: it gives what reading gives, and never hides what was changed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from bench.errors import BenchError
from bench.records import index
from bench.records.files import checked_record, read_bytes, read_record, read_records, write_record
from bench.records.index import home_records, records_of
from bench.records.record import Record, content_digest
from bench.system.home import Home

from ..helpers.records import RecordMaker


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
    monkeypatch.setattr(index, "_SETTLED_NS", 0)
    monkeypatch.setattr(index, "_WORTH_KEEPING", 1)


def read_in_full(home: Home) -> list[str]:
    """The names of the records that are read and checked anew."""
    checked: list[str] = []

    def noting(path: Path, content: bytes) -> Record:
        checked.append(path.name)
        return real(path, content)

    real = checked_record
    with patch.object(index, "checked_record", noting):
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
    content["digest"] = content_digest(json.dumps(content))
    path.write_text(json.dumps(content))
    expected = list(read_records(home.records))
    assert [home_records(home), home_records(home)] == [expected, expected]


def test_a_new_record_is_read_and_a_removed_one_is_gone(home: Home, make_record: RecordMaker) -> None:
    home_records(home)
    sorted(home.records.iterdir())[0].unlink()
    new = write_record(make_record(seed=99), home.records)
    assert read_in_full(home) == [new.name]
    assert {record.subject.seed for record in home_records(home)} == {*range(1, 10), 99}


@pytest.mark.parametrize("damage", [(b'"correct": 80', b'"correct": 81'), (b'"seed": 0', b'"seed": 4'), (b"{", b"z")])
def test_bytes_that_changed_below_an_unchanged_stamp_are_noticed(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, damage: tuple[bytes, bytes]
) -> None:
    """As by a disk that returns other bytes than were written to it: size, times and inode are what they were."""
    home_records(home)
    path = sorted(home.records.iterdir())[0]
    stamps = index._stamps(home.records)
    path.write_bytes(path.read_bytes().replace(*damage, 1))
    monkeypatch.setattr(index, "_stamps", lambda folder: stamps)
    assert len(home_records(home)) == 9
    assert path.name in capsys.readouterr().err


def test_an_index_whose_bytes_changed_is_not_believed(home: Home) -> None:
    home_records(home)
    index = home.kept / "checked-records.json"
    index.write_bytes(index.read_bytes().replace(b'"run-3"', b'"run-4"', 1))
    assert len(read_in_full(home)) == 10


def test_what_is_wrong_is_named_once_and_left_out(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [record.id for record in home_records(home)]
    paths = sorted(home.records.iterdir())
    text = paths[0].read_text()
    paths[0].write_text(text[: len(text) // 2])
    paths[1].write_bytes(b"\xff\xfe")
    paths[2].write_text("{}")
    paths[3].unlink()
    paths[3].mkdir()
    paths[4].unlink()
    os.mkfifo(paths[4])
    paths[5].unlink()
    paths[5].symlink_to("nowhere")
    paths[6].write_text(paths[6].read_text().replace('"schema_version": 1', '"schema_version": 2'))
    (home.records / "a\x1b[31m\n.json").write_text("[" * 5000)
    (home.records / ".hidden.json").write_text("")
    assert [record.id for record in home_records(home)] == whole[7:]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert all(line.startswith("Left out: ") and line.isprintable() for line in said)
    assert said[-1] == "Left out: 3 more records. `bench results validate` lists all."
    assert sum(path.name in line for path in paths[:7] for line in said) == 4


def test_the_records_of_two_runs_are_found_without_reading_the_others(
    home: Home, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = make_record(run="run-3", n=50)
    write_record(again, home.records)
    everything = home_records(home)
    read: list[str] = []

    def reading(path: Path) -> bytes:
        read.append(path.stem)
        return read_bytes(path)

    monkeypatch.setattr(index, "read_bytes", reading)
    found, runs = records_of(home, {"run-3", "run-5"}.__contains__)
    assert [record.id for record in found] == read == ["record-003", "record-005", again.id]
    assert runs == {record.subject.run for record in everything}


def test_a_second_process_checks_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes over the last files; what is wrong among them is named all the same."""
    bad = sorted(home.records.iterdir())[-2]
    bad.write_bytes(bad.read_bytes().replace(b'"correct": 80', b'"correct": 81', 1))
    monkeypatch.setattr(index, "share", lambda items: 4)
    with patch.object(index, "checked_record", wraps=checked_record) as here:
        records = home_records(home)
    assert [call.args[0].name for call in here.call_args_list] == [
        *(f"record-{number:03d}.json" for number in range(6)),
        bad.name,
    ]
    assert bad.name in capsys.readouterr().err
    assert records == [record for record in _read_one_by_one(home) if record.id != bad.stem]
    assert read_in_full(home) == [bad.name]


def test_a_second_process_that_dies_is_not_missed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "share", lambda items: 4)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert len(read_in_full(home)) == 10


def _read_one_by_one(home: Home) -> Iterator[Record]:
    for path in sorted(home.records.iterdir()):
        with suppress(BenchError):
            yield read_record(path)


def test_a_file_that_changed_just_now_is_not_indexed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED_NS", 10**12)
    home_records(home)
    assert len(read_in_full(home)) == 10


def test_a_small_home_gets_no_index(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_WORTH_KEEPING", 11)
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
    with patch.object(index, "_VERSION", index._VERSION + 1):
        assert len(read_in_full(home)) == 10


def test_a_home_that_cannot_be_written_is_read_all_the_same(home: Home) -> None:
    home.kept.parent.joinpath("kept").write_text("a file in the folder's place")
    assert len(home_records(home)) == 10


def test_a_home_without_records_has_none(tmp_path: Path) -> None:
    assert home_records(Home(tmp_path)) == []
    assert not list(tmp_path.iterdir())
