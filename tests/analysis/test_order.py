"""Whether measured rows come in the paper's order is said pair by pair, and only beyond noise."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.order import ColumnOrder, compare_order, to_text
from bench.errors import BenchError
from bench.records.record import Record
from bench.stats import holm, two_proportions
from bench.tables import load_specs
from bench.tables.spec import table_files

from ..helpers.commands import Bench
from ..helpers.records import RecordMaker

OURS = "parquet:mine"
METHODS = {row.label: row.method for row in load_specs()[3].rows if row.method is not None}


def _published() -> dict[str, tuple[float, float]]:
    """Table 3 under PGD-SAT on CIFAR-10 as its CSV has it: clean and robust accuracy of each defense."""
    with (table_files("paper") / "robustness.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    return {
        line["defense"]: (float(line["clean"]), float(line["robust"]))
        for line in lines
        if (line["table"], line["dataset"], line["attack"]) == ("3", "cifar10", "pgd-sat")
        and line["defense"] in METHODS
    }


def _records(make_record: RecordMaker, robust: dict[str, int], **changes: Any) -> list[Record]:
    return [
        make_record({"clean": 950, "pgd-sat": right}, method=METHODS[name], n=1000, **{"dataset": OURS, **changes})
        for name, right in robust.items()
    ]


def _column(orders: list[ColumnOrder], quantity: str) -> ColumnOrder:
    (found,) = (each for each in orders if each.quantity == quantity)
    return found


def test_the_papers_own_numbers_are_in_the_papers_order(make_record: RecordMaker) -> None:
    published = {name: robust for name, (_, robust) in _published().items()}
    right = {name: round(10 * robust) for name, robust in published.items()}
    column = _column(compare_order(_records(make_record, right), "cifar10", [3]), "robust")

    pairs = list(combinations(published, 2))
    p_values = [
        two_proportions(*(part for name in pair for part in (round(100 * published[name]), 10_000))) for pair in pairs
    ]
    apart = {frozenset(pair) for pair, p in zip(pairs, holm(p_values), strict=True) if p <= 0.05}
    assert 0 < len(apart) < len(pairs)
    assert {frozenset((pair.upper, pair.lower)) for pair in column.pairs} == apart
    assert (column.attack, column.rows, column.group.dataset) == ("PGD-SAT", 10, OURS)
    assert column.count("reversed") == 0
    # The first so many samples are right: McNemar's test counts the difference alone, all on one side.
    for pair in column.pairs:
        assert pair.published == pytest.approx(published[pair.upper] - published[pair.lower])
        assert pair.measured == pytest.approx((right[pair.upper] - right[pair.lower]) / 10)
        assert pair.verdict == ("same" if pair.p is not None and pair.p <= 0.05 else "open")
    assert column.count("same") > 0


def test_the_other_way_round_is_named_with_both_differences(make_record: RecordMaker) -> None:
    published = _published()
    ranks = sorted(published, key=lambda name: published[name][1])
    column = _column(
        orders := compare_order(
            _records(make_record, {name: 900 - 50 * rank for rank, name in enumerate(ranks)}), "cifar10", [3]
        ),
        "robust",
    )
    assert column.count("reversed") == len(column.pairs)
    first = column.pairs[0]
    line = next(line for line in to_text(orders, "cifar10").splitlines() if line.startswith("- "))
    assert line.startswith(
        f"- Table 3, robust under PGD-SAT: {first.lower} over {first.upper} by {-first.measured:.2f}"
    )
    assert line.endswith(f"in the paper {first.upper} leads by {first.published:.2f}")


def test_equal_rows_and_small_differences_stay_open(make_record: RecordMaker) -> None:
    rng = np.random.default_rng(0)
    records = [
        make_record({"clean": 950, "pgd-sat": rng.random(1000) < 0.5}, method=method, n=1000, dataset=OURS)
        for method in METHODS.values()
    ]
    orders = compare_order(records, "cifar10", [3])
    for quantity in ("robust", "clean", "weighted"):
        column = _column(orders, quantity)
        assert column.pairs
        assert column.count("open") == len(column.pairs)
    assert "Reversed here:" not in to_text(orders, "cifar10")


def test_clean_accuracies_are_said_once_and_conditions_stay_apart(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 950, "fgsm": 500, "pgd-sat": 400}, method=method, n=n, dataset=OURS)
        for method in ("sat", "ard")
        for n in (1000, 2000)
    ]
    orders = compare_order(records, "cifar10", [3])
    assert len([each for each in orders if each.quantity == "clean"]) == 2
    assert {each.group.n for each in orders} == {1000, 2000}


def test_one_row_or_none_makes_no_pair(make_record: RecordMaker) -> None:
    assert compare_order(_records(make_record, {"SAT": 500}), "cifar10", [3]) == []
    nothing, then = to_text([], "cifar10").splitlines()
    assert nothing == "No column here has two rows that the paper has too."
    assert "--student NAME" in then


def test_an_unknown_dataset_is_a_mistake() -> None:
    with pytest.raises(BenchError, match="dataset of the paper") as caught:
        compare_order([], "cifar11")
    assert "cifar10" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--order", "cifar10", "--audit"), "two texts"),
        (("--order", "cifar10", "--values", "paper"), "--values"),
        (("--order", "cifar10", "--format", "csv"), "--format"),
        (("--order", "cifar10", "--out", "here"), "--order prints"),
        (("--order", "nowhere"), "Unknown dataset of the paper"),
    ],
)
def test_options_that_do_not_go_together(bench: Bench, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = bench("tables", *options, home=tmp_path)
    assert result.code == 2
    assert said in result.err
    assert not list(tmp_path.rglob("*.md"))


def test_the_command_prints_it(bench: Bench, tmp_path: Path) -> None:
    result = bench("tables", "--order", "cifar10", home=tmp_path)
    assert (result.code, result.out) == (0, to_text([], "cifar10"))
