"""What `bench tables` shows of a home: first what was measured there, whatever it is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.records.files import write_record
from bench.system.home import Home

from ..helpers.commands import Bench
from ..helpers.records import BLACKBOX, WHITEBOX, RecordMaker

DIGITS: dict[str, Any] = {"dataset": "digits", "model": "resnet20", "total": 360, "setting": "demo recipe, 12 epochs"}


@pytest.fixture
def measured(make_record: RecordMaker, tmp_path: Path) -> Path:
    """A home with a ResNet-20 of one's own and a file from elsewhere, and nothing of the paper's students."""
    for record in (
        make_record({**WHITEBOX, "cw-inf": 30}, method="sat", label="SAT", **DIGITS),
        make_record(WHITEBOX, method="ciard", label="CIARD", **DIGITS),
        make_record(BLACKBOX, kind="checkpoint", method="mine", label="mine", seed=None, **DIGITS | {"model": "vgg16"}),
    ):
        write_record(record, Home.at(tmp_path).records)
    return tmp_path


def test_it_prints_what_was_measured_and_then_the_files(bench: Bench, measured: Path) -> None:
    lines = bench("tables", home=measured).out.splitlines()
    assert lines[0] == "Overview. Defenses x attacks: resnet20, vgg16 (%, measured)"
    assert max(map(len, lines[: lines.index("Files:")])) <= 160  # notes are prose
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("SAT ", "CIARD ", "mine "))}
    assert rows == {
        "SAT": ["80.00≈", "60.00≈", "50.00≈", "50.00≈", "30.00", "30.00"],
        "CIARD": ["80.00≈", "60.00≈", "50.00≈", "50.00≈", "40.00", "40.00"],
        "mine": ["80.00", "75.00", "70.00", "65.00", "65.00"],
    }
    assert all(len(line) <= 80 for line in lines if line.startswith(("SAT ", "CIARD ", "mine ")) or "Clean" in line)
    assert "Not written, as no record fits that no other table shows: 0, 4, 6, 8 (--all-rows: all)." in lines
    files = [Path(line).name for line in lines[lines.index("Files:") + 1 :]]
    assert files[:2] == ["overview.md", "overview.tex"]
    assert {"table3.md", "table5.md", "provenance.md", "tables.tex"} < set(files)
    quiet = bench("tables", "--quiet", home=measured).out.splitlines()
    assert [Path(line).name for line in quiet] == files


def test_a_table_without_its_students_shows_those_there_are(bench: Bench, measured: Path) -> None:
    lines = bench("tables", "--table", "4", "--table", "overview", home=measured).out.splitlines()
    assert lines[0].startswith("Overview. ")
    assert "Table 4. White-box adversarial robustness: resnet20 (%, measured)" in lines
    assert "No record of MobileNet-V2 fits; shown are the students that have some." in lines
    (row,) = [line for line in lines if line.startswith("PGD-SAT") and "CIARD" in line]
    assert row.split()[2:] == ["80.00≈", "50.00≈", "65.00≈"]
    text = (measured / "results" / "tables" / "table4.md").read_text(encoding="utf-8")
    assert "No record of MobileNet-V2 fits" in text
    assert "ResNet-18" not in text


def test_json_is_one_shape_on_the_screen_and_in_files(bench: Bench, measured: Path, tmp_path: Path) -> None:
    shown = json.loads(bench("tables", "--json", home=measured).out)
    assert not (measured / "results" / "tables").exists()
    assert bench("tables", "--format", "json", "--out", tmp_path / "out", home=measured).code == 0
    assert shown == [
        json.loads((tmp_path / "out" / f"{name}.json").read_text())
        for name in ("overview", "table3", "table5", "table7")
    ]
    (worst,) = [each for each in shown[0]["cells"] if (each["row"], each["attack"]) == ("CIARD", "worst")]
    assert (worst["value"], worst["seeds"], worst["student"], worst["dataset"]) == (0.4, 1, "resnet20", "digits")
    assert worst["over"] == ["cw-inf", "fgsm", "pgd-sat", "pgd-trades"]
    assert worst["interval"][0] < 0.4 < worst["interval"][1]
    assert worst["lead"] == {
        "significant": True,
        "p_holm": pytest.approx(0.00195, abs=1e-5),
        "test": "mcnemar",
        "rivals": 1,
    }
    assert worst["records"] == ["record-001"]


def test_a_name_that_is_no_table_is_refused(bench: Bench, measured: Path) -> None:
    assert (
        "no number of a table, and none of `overview`, `unseen`"
        in bench("tables", "--table", "overvew", home=measured).mistake
    )
    assert "no table 99" in bench("tables", "--table", "99", home=measured).mistake
