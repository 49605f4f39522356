"""The first three commands of a newcomer, for a student that no table of the paper has."""

from __future__ import annotations

from pathlib import Path

from bench.records.files import read_record

from ..helpers.commands import DIGITS, Bench


def test_run_eval_and_tables_end_with_the_numbers_of_any_student(bench: Bench, tmp_path: Path) -> None:
    ran = bench("run", "--method", "natural", "--student", "resnet20", *DIGITS, home=tmp_path)
    assert ran.code == 0, ran
    measured = bench("eval", "--suite", "whitebox", "--limit", 16, home=tmp_path)
    assert measured.code == 0, measured
    (path,) = (tmp_path / "results" / "records").glob("*_natural_*official-n16.json")
    accuracies = {name: 100 * result.accuracy for name, result in read_record(path).results.items()}
    (row,) = (line for line in measured.out.splitlines() if " Natural" in line)
    for accuracy in accuracies.values():
        assert f"{accuracy:.1f} ±" in row
    tables = bench("tables", home=tmp_path)
    assert tables.code == 0, tables
    shown = tables.out.partition("Files:")[0]
    (row,) = (line for line in shown.splitlines() if line.startswith("Natural"))
    for accuracy in accuracies.values():
        assert f"{accuracy:.2f}" in row
    written = [path.read_text(encoding="utf-8") for path in (tmp_path / "results" / "tables").glob("*.md")]
    titles = [line for text in written for line in text.splitlines() if line.startswith("## ")]
    assert any("resnet20" in title for title in titles)
    assert not any("ResNet-18" in title for title in titles)
    assert "No evaluation record fits" not in shown
    assert "resnet20" in bench("status", home=tmp_path).out
