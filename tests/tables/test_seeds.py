"""Which networks are seeds of one row: their mean, its spread, and what keeps them apart."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from bench.stats import wilson_interval
from bench.tables import Table, build_table, load_specs

from ..helpers.records import RecordMaker

SPECS = load_specs()
DIGITS: dict[str, Any] = {"dataset": "digits", "model": "digits-cnn", "eps": 2 / 16, "total": 360}
DIGITS |= {"setting": "demo, 12 epochs"}

NOW: dict[str, Any] = {"epochs": 300, "hyperparameters": {"log_offset": 1e-5, "eps": 0.03}}


def _texts(table: Table, row: str, section: str | None = None) -> list[str]:
    """A row's cells as text; of the first section unless one is named."""
    chosen = next(each for each in table.sections if section in (None, each.label))
    return [cell.text for cell in next(each for each in chosen.rows if each.label == row).cells]


def _rows(table: Table, section: int = 0) -> list[str]:
    return [row.label for row in table.sections[section].rows]


def test_seeds_are_averaged_with_their_spread(make_record: RecordMaker) -> None:
    right = [60, 63, 66]
    records = [make_record({"clean": 80, "fgsm": count}, seed=seed) for seed, count in enumerate(right)]
    table = build_table(SPECS[3], records)
    clean, robust, weighted, *_ = _texts(table, "SAT", "FGSM")
    assert clean == "80.00 ± 0.00 (3)"
    assert robust == f"63.00 ± {statistics.stdev(right):.2f} (3)"
    assert weighted == "71.50 ± 1.50 (3)"
    cell = table.sections[0].rows[0].cells[1]
    assert cell.interval is None
    assert len(cell.records) == 3
    assert "a ± b (k): mean and standard deviation over k of the training seeds 0–2." in table.notes


def test_a_single_seed_has_wilsons_interval(make_record: RecordMaker) -> None:
    cell = build_table(SPECS[3], [make_record()]).sections[0].rows[0].cells[1]
    assert cell.interval == pytest.approx([100 * bound for bound in wilson_interval(60, 100)])


@pytest.mark.parametrize(
    ("before", "row"),
    [
        (None, "RSLAD [earlier version]"),
        ({"epochs": 300, "hyperparameters": {"log_offset": 0.0, "eps": 0.03}}, "RSLAD [log_offset=0.0]"),
        ({"epochs": 200, "hyperparameters": {"log_offset": 0.0, "eps": 0.03}}, "RSLAD [epochs=200, log_offset=0.0]"),
    ],
)
def test_seeds_that_were_trained_otherwise_are_not_averaged(
    make_record: RecordMaker, before: dict[str, Any] | None, row: str
) -> None:
    counts = {"clean": 80, "fgsm": 60}
    old = [make_record({**counts, "fgsm": 40}, method="rslad", seed=seed, procedure=before) for seed in (0, 1)]
    new = [make_record(counts, method="rslad", seed=seed, procedure=NOW) for seed in (1, 2)]
    alone = build_table(SPECS[3], old)
    assert _texts(alone, "RSLAD", "FGSM")[1] == "40.00 ± 0.00 (2)"
    table = build_table(SPECS[3], [*old, *new])
    assert _texts(table, "RSLAD", "FGSM")[1] == "60.00 ± 0.00 (2)"
    assert _texts(table, row, "FGSM")[1] == "40.00 ± 0.00 (2)"
    assert any("Not all rows of a column compare: their trainings differ." in note for note in table.notes)
    assert any(row in line and "not trained as" in line for line in table.provenance)
    assert not [line for line in alone.provenance if "not trained as" in line]


def test_seeds_with_teachers_of_their_own_are_no_seeds_of_one_teacher(make_record: RecordMaker) -> None:
    counts = {"clean": 80, "fgsm": 40}
    own = [
        make_record(counts, method="rslad", seed=k, procedure=NOW, teachers={"robust": f"{k}" * 64}, teacher_seeds=True)
        for k in (0, 1)
    ]
    same = {"robust": "2" * 64}
    one = [make_record({**counts, "fgsm": 60}, method="rslad", seed=k, procedure=NOW, teachers=same) for k in (0, 1)]
    alone = build_table(SPECS[3], own)
    assert _texts(alone, "RSLAD", "FGSM")[1] == "40.00 ± 0.00 (2)"
    assert not any("same robust teacher" in line for line in alone.provenance)
    table = build_table(SPECS[3], [*own, *one])
    assert _texts(table, "RSLAD", "FGSM")[1] == "60.00 ± 0.00 (2)"
    assert _texts(table, "RSLAD [teacher_seeds=true]", "FGSM")[1] == "40.00 ± 0.00 (2)"


def test_seeds_of_different_teachers_are_not_averaged(make_record: RecordMaker) -> None:
    """As `bench compare` keeps them apart: a teacher that was trained anew is another network."""
    first, second = ({"robust": digit * 64} for digit in "12")
    counts = {"clean": 80, "fgsm": 60}
    old = [make_record(counts, method="rslad", seed=k, procedure=NOW, teachers=first) for k in (0, 1)]
    new = make_record({**counts, "fgsm": 40}, method="rslad", seed=2, procedure=NOW, teachers=second)
    table = build_table(SPECS[3], [*old, new])
    assert _texts(table, "RSLAD", "FGSM")[1] == "40.00"
    assert _texts(table, f"RSLAD [robust teacher={'1' * 12}]", "FGSM")[1] == "60.00 ± 0.00 (2)"


def test_what_another_record_of_the_run_says_and_what_is_new_is_no_difference(make_record: RecordMaker) -> None:
    later = {**NOW, "hyperparameters": {**NOW["hyperparameters"], "norm": "linf"}}
    records = [
        make_record({"clean": 80, "fgsm": 40}, method="rslad", run="old"),
        make_record({"clean": 80, "pgd-sat": 40}, method="rslad", run="old", procedure=NOW),
        make_record({"clean": 80, "fgsm": 60}, method="rslad", seed=1, procedure=later),
    ]
    table = build_table(SPECS[3], records)
    assert _texts(table, "RSLAD", "FGSM")[1].startswith("50.00 ±")
    assert not any("RSLAD [" in row for row in _rows(table))


def test_a_setting_that_only_one_of_two_seeds_has_keeps_them_apart(make_record: RecordMaker) -> None:
    """While a field that came later has its default it is in no file, so that its absence says something."""
    inner = NOW["hyperparameters"]
    later = {**NOW, "hyperparameters": {**inner, "adversarial_first": True}}
    one, other = (
        make_record({"clean": 80, "fgsm": fgsm}, method="trades", seed=seed, procedure=procedure)
        for seed, (fgsm, procedure) in enumerate(((40, NOW), (60, later)))
    )
    table = build_table(SPECS[3], [one, other])
    assert _texts(table, "TRADES", "FGSM")[1] == "60.00"
    assert _texts(table, "TRADES [adversarial_first=unset]", "FGSM")[1] == "40.00"
    back = build_table(SPECS[3], [one.model_copy(update={"created": "2099-01-01T00:00:00+00:00"}), other])
    assert _texts(back, "TRADES", "FGSM")[1] == "40.00"
    assert _texts(back, "TRADES [adversarial_first=true]", "FGSM")[1] == "60.00"
