"""`bench results` as a user meets it: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench.records.record import content_digest

from ..helpers.commands import Bench
from ..helpers.places import DEMO_RECORDS

WHITEBOX = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*whitebox*.json"))


def damaged(folder: Path, **changes: Any) -> Path:
    """A record with top-level changes, sealed anew."""
    content = {**json.loads(WHITEBOX.read_text(encoding="utf-8")), **changes}
    content["digest"] = content_digest(json.dumps(content))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHITEBOX.name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_validate_this_homes_records(bench: Bench, tmp_path: Path) -> None:
    assert "make some: bench eval" in bench("results", "validate", home=tmp_path).mistake
    result = bench("results", "validate", home=DEMO_RECORDS.parent)
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(f"{len(list(DEMO_RECORDS.iterdir()))} records: 0 errors, 0 warnings.\n")


def test_every_problem_has_a_line_and_an_error_gives_exit_code_2(bench: Bench, tmp_path: Path) -> None:
    path = damaged(tmp_path / "in", created="2999-01-01T00:00:00+00:00", environment={"packages": {}})
    result = bench("results", "validate", path)
    assert result.code == 2
    assert [line.split(": ", 2)[2] for line in result.out.splitlines()[:-1]] == [
        "it was created in the future: 2999-01-01T00:00:00+00:00",
        "its environment names no version of torch",
        "its environment names no device",
        "its environment names no commit and no release of the harness",
    ]
    assert result.out.endswith("1 records: 3 errors, 1 warnings.\n")
    as_json = bench("results", "validate", path, "--format", "json")
    assert as_json.code == 2
    assert [problem["kind"] for problem in json.loads(as_json.out)] == ["error"] * 3 + ["warning"]
    assert {problem["file"] for problem in json.loads(as_json.out)} == {f"in/{path.name}"}


def test_warnings_alone_give_exit_code_0(bench: Bench, tmp_path: Path) -> None:
    environment = {"packages": {"torch": "2"}, "device": "cpu"}
    result = bench("results", "validate", damaged(tmp_path, environment=environment))
    assert (result.code, len(result.out.splitlines())) == (0, 2)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_merge_an_archive(bench: Bench, tmp_path: Path, options: tuple[str, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.write(WHITEBOX, f"results/records/{WHITEBOX.name}")
    first = bench("results", "merge", tmp_path / "sent.zip", *options, home=tmp_path)
    assert (first.code, first.out) == (0, f"{WHITEBOX.name}\n")
    here = tmp_path / "results" / "records" / WHITEBOX.name
    assert here.exists() == (not options)
    if not options:
        again = bench("results", "merge", tmp_path / "sent.zip", home=tmp_path)
        assert (again.code, again.out) == (0, "")
        assert f"Here already, skipped: {WHITEBOX.name}" in again.err
        assert here.read_bytes() == WHITEBOX.read_bytes()


def test_what_merge_refuses_is_said_in_two_lines(bench: Bench, tmp_path: Path) -> None:
    assert "Name the records to take in" in bench("results", "merge", home=tmp_path).mistake
    assert "There is nothing at" in bench("results", "merge", tmp_path / "none", home=tmp_path).mistake
    newer = damaged(tmp_path / "in", schema_version=2)
    assert "written by a newer version" in bench("results", "merge", newer, home=tmp_path).mistake
    (tmp_path / "bad.zip").write_bytes(b"")
    assert "it is damaged" in bench("results", "merge", tmp_path / "bad.zip", home=tmp_path).mistake
    assert not (tmp_path / "results").exists()
    assert "Did you mean 'merge'?" in bench("results", "merg", home=tmp_path).mistake


def test_validate_undoes_a_merge_that_was_stopped(bench: Bench, tmp_path: Path) -> None:
    here = tmp_path / "results" / "records"
    (here / ".incoming").mkdir(parents=True)
    (here / WHITEBOX.name).write_bytes(WHITEBOX.read_bytes())
    (here / ".incoming" / "other.json").write_bytes(WHITEBOX.read_bytes())
    assert "1 records: 0 errors" in bench("results", "validate", home=tmp_path).out
    assert [path.name for path in here.iterdir()] == [WHITEBOX.name]


@pytest.mark.parametrize("damage", ["{x", "7", "[1]"])
def test_a_damaged_list_of_what_was_being_merged_is_named_and_all_else_goes_on(
    bench: Bench, tmp_path: Path, damage: str
) -> None:
    here = tmp_path / "results" / "records"
    (here / ".incoming").mkdir(parents=True)
    (here / WHITEBOX.name).write_bytes(WHITEBOX.read_bytes())
    (here / ".incoming" / "decided").write_text(damage)
    for command in (("status",), ("results", "validate"), ("tables", "--table", "3")):
        result = bench(*command, home=tmp_path)
        assert result.code == 0, result
        assert f"{here / '.incoming' / 'decided'}, a list of records to take in, is damaged" in result.err
    assert "delete the folder .incoming" in bench("results", "merge", DEMO_RECORDS, home=tmp_path).mistake
    assert (here / ".incoming" / "decided").read_text() == damage


def test_a_merge_that_is_finished_later_changes_no_record_that_was_written_meanwhile(
    bench: Bench, tmp_path: Path
) -> None:
    here = tmp_path / "results" / "records"
    (here / ".incoming").mkdir(parents=True)
    (here / WHITEBOX.name).write_bytes(WHITEBOX.read_bytes())
    (here / ".incoming" / WHITEBOX.name).write_text("of another time")
    (here / ".incoming" / "decided").write_text(json.dumps([WHITEBOX.name]))
    assert bench("status", home=tmp_path).code == 0
    assert (here / WHITEBOX.name).read_bytes() == WHITEBOX.read_bytes()
    assert [path.name for path in here.iterdir()] == [WHITEBOX.name]
