"""Tables of the best or of the last weights of runs, never of both, and what lies between them: robust overfitting."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from bench.records.files import write_record
from bench.records.record import Record
from bench.stats import compare
from bench.tables import Table, build_overview, build_table, build_tables, load_specs, read_spec, render_tables
from bench.tables.cell import Cell
from bench.vocabulary import Selected

from ..helpers.commands import Bench
from ..helpers.records import RecordMaker

HEADLINE = load_specs()[0]
OVERFITTING = "Robust overfitting"
BOTH: tuple[Selected, Selected] = ("best", "last")


def pair(
    make_record: RecordMaker,
    method: str,
    best: int | np.ndarray,
    last: int | np.ndarray,
    seed: int = 0,
    selection: str = "heldout",
) -> list[Record]:
    """A run's two records, with so many of the hundred samples right under AutoAttack."""
    made = []
    for which, right in zip(BOTH, (best, last), strict=True):
        record = make_record(
            {"clean": 90, "autoattack": right},
            method=method,
            seed=seed,
            run=f"{method}-{seed}",
            selection="last" if which == "last" else selection,
            checkpoint=which * 16,
            checkpoint_of=which,
        )
        made.append(record)
    return made


def cell(table: Table, row: str, column: str) -> Cell:
    labels = [each.label for each in table.columns]
    return next(each for each in table.sections[0].rows if each.label == row).cells[labels.index(column)]


def test_it_is_last_minus_best_in_points_with_its_sign(make_record: RecordMaker) -> None:
    records = [
        *pair(make_record, "sat", 60, 48),
        *pair(make_record, "ard", 50, 50),
        *pair(make_record, "trades", 40, 43),
    ]
    for which in BOTH:
        table = build_table(HEADLINE, records, datasets=["cifar10"], checkpoint_of=which)
        shown = [cell(table, row, OVERFITTING).text for row in ("SAT", "ARD", "TRADES")]
        assert shown == ["-12.00", "+0.00", "+3.00"]
        assert {cell(table, row, OVERFITTING).mark for row in ("SAT", "ARD", "TRADES")} == {""}
        assert cell(table, "SAT", OVERFITTING).records == tuple(record.id for record in records[:2])
        assert any("last checkpoint minus that of the best" in note for note in table.notes)


def test_a_row_without_the_other_record_has_a_dash_and_a_table_without_any_no_column(make_record: RecordMaker) -> None:
    records = pair(make_record, "sat", 60, 48)
    alone = make_record({"clean": 90, "autoattack": 50}, method="ard")
    table = build_table(HEADLINE, [*records, alone], datasets=["cifar10"])
    assert cell(table, "ARD", OVERFITTING).text == "–"
    for some in ([records[0], alone], [alone], []):
        table = build_table(HEADLINE, some)
        assert OVERFITTING not in [column.label for column in table.columns]
        assert not any("overfitting" in line for line in (*table.notes, *table.provenance))


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "another"},
        {"n": 50, "correct": {"clean": 45, "autoattack": 30}},
        {"fingerprint": "0" * 64},
        {"parameters": {"steps": 21}},
        {"protocol": "paper"},
        {"correct": {"clean": 90, "fgsm": 10}},
        {"kind": "checkpoint"},
    ],
)
def test_only_the_same_attack_on_the_same_samples_of_the_same_run_is_the_other(
    make_record: RecordMaker, changes: dict[str, object]
) -> None:
    best, _ = pair(make_record, "sat", 60, 48)
    last = {"correct": {"clean": 90, "autoattack": 48}, "method": "sat", "run": "sat-0", "checkpoint_of": "last"}
    other = make_record(**{**last, **changes})  # type: ignore[arg-type]
    table = build_table(HEADLINE, [best, other], datasets=["cifar10"])
    assert OVERFITTING not in [column.label for column in table.columns]
    whole = build_table(HEADLINE, [best, make_record(**last)], datasets=["cifar10"])  # type: ignore[arg-type]
    assert cell(whole, "SAT", OVERFITTING).text == "-12.00"


def test_one_seed_has_the_score_interval_and_several_their_spread(make_record: RecordMaker, tmp_path: Path) -> None:
    right = np.arange(100) < 60
    last = right.copy()
    last[[3, 7, 70]] ^= True
    (one,) = [build_table(HEADLINE, pair(make_record, "sat", right, last), datasets=["cifar10"])]
    expected, _ = compare([last], [right])
    found = cell(one, "SAT", OVERFITTING)
    assert found.value == pytest.approx(100 * expected.value) == pytest.approx(-1)
    assert found.interval == pytest.approx((100 * expected.low, 100 * expected.high))
    records = [each for seed, fall in enumerate((2, 4, 9)) for each in pair(make_record, "ard", 60, 60 - fall, seed)]
    several = cell(build_table(HEADLINE, records, datasets=["cifar10"]), "ARD", OVERFITTING)
    assert several.text == "-5.00 ± 3.61 (3)"
    assert len(several.records) == 6
    two = cell(build_table(HEADLINE, records[:-1], datasets=["cifar10"]), "ARD", OVERFITTING)
    assert (two.text, two.seeds) == ("-3.00 ± 1.41 (2)", 2)  # the third seed's last weights were not attacked
    (path,) = render_tables(pair(make_record, "sat", right, last), [0], formats=["csv"], out=tmp_path)
    with path.open(encoding="utf-8", newline="") as stream:
        (line,) = [line for line in csv.DictReader(stream) if line["quantity"] == "overfitting"]
    assert (line["value"], line["low"], line["attack"]) == ("-1.0000", f"{100 * expected.low:.4f}", "autoattack")


def test_what_was_chosen_on_the_test_set_says_so_here_too(make_record: RecordMaker) -> None:
    table = build_table(HEADLINE, pair(make_record, "sat", 60, 48, selection="test"), datasets=["cifar10"])
    assert cell(table, "SAT", OVERFITTING).text == "-12.00†"


def test_no_cell_has_both_and_the_title_says_which(make_record: RecordMaker) -> None:
    records = [*pair(make_record, "sat", 60, 48), *pair(make_record, "sat", 62, 44, seed=1)]
    foreign = make_record({"clean": 80, "autoattack": 30}, kind="checkpoint", method="theirs")
    for which, title, number in (("best", "measured)", 61), ("last", "measured; last checkpoints)", 46)):
        overview, *tables = build_tables([*records, foreign], [0, "overview"], checkpoint_of=which)  # type: ignore[arg-type]
        assert overview == build_overview([*records, foreign], checkpoint_of=which).filled()  # type: ignore[arg-type]
        for table in (overview, *tables):
            assert table.title.endswith(title)
            label = "SAT"
            robust = "AutoAttack" if table.number == "overview" else "Robust"
            assert cell(table, label, robust).value == number
            assert {record.rpartition("-")[2] for record in cell(table, label, robust).records} == {
                record.id.rpartition("-")[2] for record in records if record.subject.checkpoint_of == which
            }
            assert cell(table, "THEIRS", robust).value == 30  # which has one checkpoint, and is in either


def test_the_command_writes_the_last_beside_the_best(bench: Bench, make_record: RecordMaker, tmp_path: Path) -> None:
    for record in (*pair(make_record, "sat", 60, 48), *pair(make_record, "ard", 50, 49)):
        write_record(record, tmp_path / "results" / "records")
    out = tmp_path / "results" / "tables"
    assert bench("tables", "--table", 0, home=tmp_path).code == 0
    best = {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}
    last = bench("tables", "--table", 0, "--checkpoint-of", "last", home=tmp_path)
    assert "Table 0. Headline" in last.out
    assert "; last checkpoints" in last.out
    assert {path.name for path in out.iterdir()} - best.keys() == {
        *("table0-last.md", "table0-last.tex", "provenance-last.md", "tables-last.tex"),
    }
    assert {name: (out / name).read_text(encoding="utf-8") for name in best} == best
    assert "ard-bench-0-last}" in (out / "table0-last.tex").read_text()
    assert "provenance-last.md" in (out / "table0-last.md").read_text(encoding="utf-8")
    assert "last checkpoints" in (out / "provenance-last.md").read_text(encoding="utf-8")
    for which in BOTH:
        (content,) = json.loads(bench("tables", "--table", 0, "--checkpoint-of", which, "--json", home=tmp_path).out)
        assert content["checkpoint_of"] == which
        found = [each["value"] for each in content["cells"] if each["quantity"] == "overfitting"]
        assert found == pytest.approx([-0.12, -0.01])
    audit = bench("tables", "--table", 0, "--audit", "--checkpoint-of", "last", home=tmp_path)
    assert "last checkpoints" in audit.out.splitlines()[0]
    paper = bench("tables", "--table", 3, "--values", "paper", "--checkpoint-of", "last", home=tmp_path)
    assert "The paper's numbers are of one checkpoint each." in paper.mistake


def test_a_table_of_ones_own_may_have_the_column_by_data_sets(make_record: RecordMaker, tmp_path: Path) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text(
        "{number: 30, title: Mine, access: any, models: {default: '*'}, datasets: {cifar10: CIFAR-10}, rows: [],\n"
        "sections: datasets, columns: [robust, overfitting], attacks: [{result: autoattack, label: AA}]}\n"
    )
    table = build_table(read_spec(spec), pair(make_record, "sat", 60, 48))
    assert [column.label for column in table.columns] == ["AA", "Robust overfitting AA"]
    assert [each.text for each in table.sections[0].rows[0].cells] == ["60.00", "-12.00"]
