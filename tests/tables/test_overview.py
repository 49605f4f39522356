"""The overview: defenses x attacks for whatever was measured, and all attacks of a network as one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records.networks import WORST
from bench.records.record import Record
from bench.report import leaderboard
from bench.stats import mcnemar_exact, wilson_interval
from bench.tables import Table, build_overview, build_table, load_specs, render_tables
from bench.tables.cell import Cell
from bench.tables.table import Values

from ..helpers.latex import set_by_latex
from ..helpers.records import BLACKBOX, RecordMaker

N = 40


def _cell(table: Table, row: str, column: str, section: int = 0) -> Cell:
    i = [each.label for each in table.columns].index(column)
    return next(each for each in table.sections[section].rows if each.label == row).cells[i]


def _but(*wrong: int) -> np.ndarray:
    return ~np.isin(np.arange(N), wrong)


def test_the_columns_are_the_attacks_that_were_measured_in_one_order(make_record: RecordMaker) -> None:
    counts = {"clean": 80, "autoattack": 30, "mine": 50, "fgsm": 60, **BLACKBOX, "bim": 55, "pgd-sat": 50}
    table = build_overview([make_record(counts)])
    assert [column.label for column in table.columns] == [
        *("Clean", "FGSM", "BIM", "PGD-SAT", "AutoAttack", "Square"),
        *("PGD-TRADES, transferred", "CW∞, transferred", "mine", "Worst"),
    ]


def test_a_label_names_no_norm_but_the_attacks_own(make_record: RecordMaker) -> None:
    """`CW∞` where all of a column is L-infinity's; of what is not, or of both, nothing but the attack."""
    linf = make_record({"clean": 80, "cw-inf": 40, "transfer:cw-inf": 60}, run="a")
    l2 = make_record({"clean": 80, "cw-inf": 30, "cw-inf@1.5x": 20, "cw-inf@linf:8/255": 40}, norm="l2", eps=0.5)
    mixed = make_record({"clean": 80, "cw-inf@l2:0.5": 30}, run="a")

    def columns(*records: Record) -> list[str]:
        return [column.label for column in build_overview(records).columns][1:-1]

    assert columns(linf) == ["CW∞", "CW∞, transferred"]
    assert columns(l2) == ["CW", "CW, 1.5x", "CW∞, linf:8/255"]
    assert columns(linf, l2, mixed) == [
        *("CW", "CW∞, transferred"),
        *("CW, 1.5x", "CW, l2:0.5", "CW∞, linf:8/255"),
    ]
    teacher = make_record({"clean": 80, "cw-inf": 30}, kind="teacher", role="clean", norm="l2", eps=0.5)
    assert columns(linf, teacher) == ["CW", "CW∞, transferred"]

    cases: list[tuple[list[Record], Values, str]]
    cases = [([], "measured", "CW∞"), ([teacher], "measured", "CW"), ([], "paper", "CW∞")]
    for records, values, label in cases:
        assert build_table(load_specs()[2], records, values).columns[-1].label == label
    assert {(entry.group.norm, entry.attack_label) for entry in leaderboard.entries([linf, l2])} == {
        *(("l2", "CW"), ("l2", "CW, 1.5x"), ("l2", "CW∞, linf:8/255")),
        *(("linf", "CW∞"), ("linf", "CW∞, transferred")),
    }


def test_a_sample_counts_in_the_worst_if_it_is_right_without_attack_and_under_each(make_record: RecordMaker) -> None:
    first = make_record({"clean": _but(0), "fgsm": _but(0, 1)}, n=N, run="a")
    second = make_record({"clean": _but(0), "square": _but(2, 3)}, n=N, run="a")
    worst = _cell(build_overview([first, second]), "SAT", "Worst")
    assert worst.value == 100 * (N - 4) / N
    assert worst.interval == pytest.approx([100 * bound for bound in wilson_interval(N - 4, N)])
    assert (worst.text, worst.over) == ("90.00", {"fgsm", "square"})


def test_any_student_teacher_and_file_is_shown_and_only_alike_ones_compare(make_record: RecordMaker) -> None:
    records = [
        make_record(model="resnet20"),
        make_record({"clean": 70, "fgsm": 50}, model="resnet20", method="ciard", label="CIARD"),
        make_record({"clean": 90, "fgsm": 70}, model="vgg16"),
        make_record(kind="checkpoint", method="mine", label="mine", model="vgg16", seed=None, setting="from a file"),
        make_record(kind="teacher", method="trades", role="robust", model="wrn-34-10"),
        make_record(split="train"),
    ]
    table = build_overview(records)
    assert [(section.label, [row.label for row in section.rows]) for section in table.sections] == [
        ("CIFAR-10 — official, 300 epochs, n = 100, student resnet20", ["CIARD", "SAT"]),
        ("CIFAR-10 — from a file, n = 100, student vgg16", ["mine"]),
        ("CIFAR-10 — official, 300 epochs, n = 100, student vgg16", ["SAT"]),
        ("Teachers: CIFAR-10 — n = 100", ["Robust teacher (wrn-34-10)"]),
    ]
    assert "resnet20, vgg16" in table.title
    assert _cell(table, "SAT", "FGSM", 0).mark == "best"
    assert {_cell(table, "SAT", "FGSM", 2).mark, _cell(table, "mine", "FGSM", 1).mark} == {""}
    assert [section.rows[0].label for section in build_overview(records, student="wrn-34-10").sections] == [
        "Robust teacher (wrn-34-10)"
    ]


def test_a_worst_over_fewer_attacks_is_marked_and_no_rival(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 90, "fgsm": 60, "pgd-sat": 50}),
        make_record({"clean": 90, "fgsm": 55, "pgd-sat": 45}, method="trades"),
        make_record({"clean": 90, "fgsm": 80}, method="ard"),
    ]
    table = build_overview(records)
    partial = _cell(table, "ARD", "Worst")
    assert (partial.text, partial.mark, partial.over) == ("80.00*", "", {"fgsm"})
    best = _cell(table, "SAT", "Worst")
    assert best.mark == "best"
    assert best.lead is not None
    assert (best.lead.rivals, best.lead.p) == (1, pytest.approx(mcnemar_exact(5, 0)))
    assert any(note.startswith("*") or " * " in note for note in table.notes)


def test_of_seeds_those_under_all_attacks_make_the_worst(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 90, "fgsm": 60, "pgd-sat": 50}, seed=0),
        make_record({"clean": 90, "fgsm": 80}, seed=1),
    ]
    table = build_overview(records)
    assert _cell(table, "SAT", "FGSM").text == "70.00 ± 14.14 (2)"
    assert _cell(table, "SAT", "Worst").text == "50.00"


def test_a_row_is_of_one_network_a_seed(make_record: RecordMaker) -> None:
    """Both are the same defense and seed, with other teachers: the newest network's numbers alone."""
    old = make_record({"clean": 90, "fgsm": 60, "pgd-sat": 50}, run="old", minute=1)
    new = make_record({"clean": 80, "fgsm": 40}, run="new", minute=2)
    table = build_overview([new, old])
    assert [column.label for column in table.columns] == ["Clean", "FGSM", "Worst"]
    assert [cell.text for cell in table.sections[0].rows[0].cells] == ["80.00", "40.00", "40.00"]


@pytest.mark.parametrize("change", [{"parameters": {"steps": 40}}, {"surrogate": "cd" * 32}])
def test_a_worst_over_attacks_with_other_parameters_is_not_tested(
    make_record: RecordMaker, change: dict[str, Any]
) -> None:
    counts = {"clean": 90, "transfer:cw-inf": 70}
    records = [make_record(counts), make_record({**counts, "transfer:cw-inf": 20}, method="ard", **change)]
    lead = _cell(build_overview(records), "SAT", "Worst").lead
    assert lead is not None
    assert lead.test is None


def test_it_is_written_first_in_every_format(make_record: RecordMaker, tmp_path: Path) -> None:
    records: list[Record] = [
        make_record(dict.fromkeys(("clean", *columns), right), method=method, dataset=dataset)
        for dataset, columns in (("cifar10", ("fgsm", "autoattack")), ("digits", ("square",)))
        for method, right in (("sat", 60), ("ciard", 50))
    ]
    formats = ["markdown", "latex", "csv", "json"]
    paths = render_tables(records, formats=formats, out=tmp_path)
    assert [path.name for path in paths[:4]] == ["overview.md", "overview.tex", "overview.csv", "overview.json"]
    text = paths[0].read_text(encoding="utf-8")
    assert text.startswith("## Overview. Defenses x attacks: resnet18 (%, measured)\n")
    assert "\n| Defense | Clean | FGSM | AutoAttack | Worst |\n" in text
    assert "\n| Defense | Clean | Square | Worst |\n" in text
    with paths[2].open(encoding="utf-8", newline="") as stream:
        worst = [line for line in csv.DictReader(stream) if line["attack"] == WORST and line["value"]]
    assert [(line["dataset"], line["row"], line["value"], line["over"]) for line in worst] == [
        ("cifar10", "CIARD", "50.0000", "autoattack; fgsm"),
        ("cifar10", "SAT", "60.0000", "autoattack; fgsm"),
        ("digits", "CIARD", "50.0000", "square"),
        ("digits", "SAT", "60.0000", "square"),
    ]
    set_by_latex(tmp_path / "tables.tex")
