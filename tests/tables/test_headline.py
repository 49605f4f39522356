"""Table 0: the worst class with its interval, and the cost of training, which only one device can rank."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.records.record import Record
from bench.stats import two_proportions
from bench.tables import Table, build_table, load_specs, render_tables
from bench.tables.cell import Cell

from ..helpers.latex import set_by_latex
from ..helpers.records import RecordMaker

SPECS = load_specs()
LABELS = np.arange(1000) % 10
WORST, COST = 3, 4


def _right(by_class: list[int]) -> np.ndarray:
    """Outcomes with so many right of the hundred samples of each class."""
    return np.arange(1000) // 10 < np.array(by_class)[LABELS]


def _headline(make_record: RecordMaker, method: str, by_class: list[int], **changes: Any) -> Record:
    outcomes = {"clean": _right([90] * 10), "autoattack": _right(by_class)}
    return make_record(outcomes, method=method, n=1000, **{"labels": LABELS, "hours": 1.0, **changes})


def _row(table: Table, label: str) -> tuple[Cell, ...]:
    return next(row for row in table.sections[0].rows if row.label == label).cells


def test_it_is_a_row_a_defense_with_five_columns_a_dataset() -> None:
    table = build_table(SPECS[0], [])
    assert [column.label for column in table.columns] == ["Clean", "Robust", "W-R", "Worst class", "Cost (h)"] * 2
    assert [row.label for row in table.sections[0].rows] == [row.label for row in SPECS[3].rows]
    assert SPECS[0].models == SPECS[3].models


def test_the_worst_class_has_the_interval_of_the_lowest_of_all_classes(make_record: RecordMaker) -> None:
    table = build_table(SPECS[0], [_headline(make_record, "sat", [50, 40, 23, *[60] * 7])])
    cell = _row(table, "SAT")[WORST]
    assert cell.text == "23.00"
    exact = stats.beta.ppf(0.025, 23, 78), stats.beta.ppf(0.975 ** (1 / 10), 24, 77)  # none of ten bounds too low
    assert cell.interval == pytest.approx([100 * bound for bound in exact])
    assert "Worst class: the lowest robust accuracy of a class, biased downward." in table.notes[0]
    assert any("its interval allows for that" in line for line in table.provenance)


def test_worst_classes_are_tested_as_independent_samples(make_record: RecordMaker) -> None:
    records = [
        _headline(make_record, "sat", [60, 30, *[60] * 8]),
        _headline(make_record, "ard", [20, 70, *[60] * 8]),
    ]
    lead = _row(build_table(SPECS[0], records), "SAT")[WORST].lead
    assert lead is not None
    assert (lead.p, lead.test) == (pytest.approx(two_proportions(30, 100, 20, 100)), "proportions")


def test_a_class_without_samples_is_not_the_worst(make_record: RecordMaker) -> None:
    labels = np.where(LABELS == 3, 4, LABELS)
    table = build_table(SPECS[0], [_headline(make_record, "sat", [60] * 10, labels=labels)])
    assert _row(table, "SAT")[WORST].text == "60.00"


def test_older_records_show_no_interval_and_no_cost(make_record: RecordMaker) -> None:
    record = _headline(make_record, "sat", [23] * 10, hours=None)
    older = record.model_copy(update={"data": record.data.model_copy(update={"class_counts": None})})
    cells = _row(build_table(SPECS[0], [older]), "SAT")
    assert (cells[WORST].text, cells[WORST].interval) == ("23.00", None)
    assert cells[COST].text == "–"


def test_the_lowest_cost_is_best_and_the_device_is_named(make_record: RecordMaker) -> None:
    records = [
        _headline(make_record, method, [60] * 10, hours=hours)
        for method, hours in (("sat", 12.345), ("trades", 0.01234), ("ard", 1234.5))
    ]
    table = build_table(SPECS[0], records)
    cells = {label: _row(table, label)[COST] for label in ("SAT", "TRADES", "ARD")}
    assert {label: cell.text for label, cell in cells.items()} == {"SAT": "12.3", "TRADES": "0.0123", "ARD": "1230"}
    assert {label: cell.mark for label, cell in cells.items()} == {"SAT": "second", "TRADES": "best", "ARD": ""}
    assert not any(cell.signs for cell in cells.values())
    assert table.notes[0].endswith("Cost: training, without the teachers', on GPU A; the lowest is best.")


def test_costs_of_different_devices_are_not_ranked(make_record: RecordMaker) -> None:
    records = [
        _headline(make_record, "sat", [60] * 10, hours=1.0),
        _headline(make_record, "ard", [60] * 10, hours=2.0, device="GPU B"),
    ]
    table = build_table(SPECS[0], records)
    assert {_row(table, label)[COST].mark for label in ("SAT", "ARD")} == {""}
    assert _row(table, "SAT")[0].mark == "best"
    assert "on GPU A; GPU B; ranked only in columns with one device." in table.notes[0]


def test_seeds_are_averaged_in_every_column(make_record: RecordMaker) -> None:
    records = [
        _headline(make_record, "sat", [lowest, *[60] * 9], seed=seed, hours=1.0 + seed)
        for seed, lowest in enumerate((20, 22, 24))
    ]
    cells = _row(build_table(SPECS[0], records), "SAT")
    assert cells[WORST].text == "22.00 ± 2.00 (3)"
    assert cells[COST].text == "2.00 ± 1.00 (3)"


def test_a_checkpoint_chosen_on_the_test_set_does_not_flatter_its_cost(make_record: RecordMaker) -> None:
    cells = _row(build_table(SPECS[0], [_headline(make_record, "sat", [60] * 10, selection="test")]), "SAT")
    assert [cell.text for cell in cells[WORST : COST + 1]] == ["60.00†", "60.0"]


@pytest.mark.parametrize(
    ("hours", "label", "texts"),
    [
        ([0.00238, 0.000441], "Cost (s)", ["8.57", "1.59"]),
        ([0.0514, 0.75], "Cost (min)", ["3.08", "45.0"]),
        ([0.75, 31.26], "Cost (h)", ["0.750", "31.3"]),
    ],
)
def test_costs_are_shown_in_a_unit_that_fits_and_stay_hours_in_the_csv(
    make_record: RecordMaker, tmp_path: Path, hours: list[float], label: str, texts: list[str]
) -> None:
    records = [
        _headline(make_record, method, [60] * 10, hours=each)
        for method, each in zip(("sat", "ard"), hours, strict=True)
    ]
    table = build_table(SPECS[0], records)
    assert table.columns[COST].label == label
    assert [_row(table, row)[COST].text for row in ("SAT", "ARD")] == texts
    (path,) = render_tables(records, [0], formats=["csv"], out=tmp_path)
    with path.open(encoding="utf-8", newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["quantity"] == "cost"]
    assert [(line["value"], line["unit"]) for line in lines] == [(f"{each:.4f}", "h") for each in hours]


def test_it_renders_in_every_format(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [
        _headline(make_record, method, [lowest, *[60] * 9], hours=hours, seed=seed)
        for method, lowest, hours in (("sat", 20, 1.5), ("ard", 30, 2.5), ("ciard", 25, 7.0))
        for seed in range(3)
    ]
    markdown, latex, table, _, document = render_tables(
        records, [0], formats=["markdown", "latex", "csv"], datasets=["cifar10"], out=tmp_path
    )
    assert markdown.read_text(encoding="utf-8").startswith("## Table 0. Headline")
    assert r"Cost (h)" in latex.read_text()
    with table.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    costs = [line for line in lines if line["quantity"] == "cost" and line["value"]]
    assert [(line["row"], line["value"], line["unit"], line["mark"]) for line in costs] == [
        ("SAT", "1.5000", "h", "best"),
        ("ARD", "2.5000", "h", "second"),
        ("CIARD", "7.0000", "h", ""),
    ]
    said = set_by_latex(document)
    assert "Overfull" not in said
