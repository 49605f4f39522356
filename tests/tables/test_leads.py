"""Whether a best number's lead is more than noise: by which test, with which mark, and said where."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records.record import Record
from bench.stats import holm, mcnemar_exact, paired_scores, two_proportions, two_weighted, weighted_scores
from bench.tables import Table, build_table, build_tables, load_specs, render_tables
from bench.tables.cell import Cell

from ..helpers.records import RecordMaker

SPECS = load_specs()
N = 200
CLEAN, ROBUST, WEIGHTED = range(3)


def _outcomes(share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < share


def _cell(table: Table, row: str, column: int) -> Cell:
    return next(each for each in table.sections[0].rows if each.label == row).cells[column]


@pytest.fixture
def three(make_record: RecordMaker) -> list[Record]:
    """SAT, TRADES and ARD with outcomes that overlap in part."""
    return [
        make_record({"clean": _outcomes(0.9, i), "fgsm": _outcomes(share, 10 + i)}, method=method, n=N)
        for i, (method, share) in enumerate((("sat", 0.62), ("trades", 0.58), ("ard", 0.40)))
    ]


def test_accuracies_are_tested_by_mcnemar_with_holm_over_the_rivals(three: list[Record]) -> None:
    table = build_table(SPECS[3], three)
    sat, trades, ard = _outcomes(0.62, 10), _outcomes(0.58, 11), _outcomes(0.40, 12)
    p_values = [mcnemar_exact(int((sat & ~rival).sum()), int((rival & ~sat).sum())) for rival in (trades, ard)]
    best = _cell(table, "SAT", ROBUST)
    assert (best.mark, _cell(table, "TRADES", ROBUST).mark) == ("best", "second")
    assert best.lead is not None
    assert best.lead.p == pytest.approx(holm(p_values)[0])
    assert (best.lead.test, best.lead.rivals) == ("mcnemar", 2)
    assert best.text.endswith("≈")
    assert _cell(table, "TRADES", ROBUST).lead is None


def test_weighted_robustness_is_tested_by_the_paired_score_test(three: list[Record]) -> None:
    table = build_table(SPECS[3], three)
    scores = [
        weighted_scores(_outcomes(0.9, i), _outcomes(share, 10 + i)) for i, share in enumerate((0.62, 0.58, 0.40))
    ]
    order = sorted(range(3), key=lambda i: -scores[i].mean())
    p_values = [paired_scores(scores[order[0]], scores[i]).p for i in order[1:]]
    best = _cell(table, ("SAT", "TRADES", "ARD")[order[0]], WEIGHTED)
    assert best.lead is not None
    assert best.lead.p == pytest.approx(holm(p_values)[0])
    assert best.lead.test == "score"


def test_a_lead_beyond_noise_has_no_sign(make_record: RecordMaker) -> None:
    records = [make_record({"clean": 80, "fgsm": right}, method=name) for name, right in (("sat", 60), ("trades", 50))]
    best = _cell(build_table(SPECS[3], records), "SAT", ROBUST)
    assert best.lead is not None
    assert best.lead.p == pytest.approx(mcnemar_exact(10, 0))
    assert best.text == "60.00"


def test_the_pairing_decides_and_not_the_numbers_alone(make_record: RecordMaker) -> None:
    """The same two accuracies: nested outcomes prove a lead that crossing ones do not."""
    leader, nested, crossing = np.arange(100) < 60, np.arange(100) < 52, np.arange(100) >= 48
    for rival, sign in ((nested, ""), (crossing, "≈")):
        records = [make_record({"clean": 80, "fgsm": leader}), make_record({"clean": 80, "fgsm": rival}, method="ard")]
        assert _cell(build_table(SPECS[3], records), "SAT", ROBUST).text == f"60.00{sign}"


def test_holms_correction_grows_with_the_rivals(make_record: RecordMaker) -> None:
    """Six samples ahead is significant against one rival (2 / 2^6 = 0.031), and not as one of two such tests."""

    def best(*rivals: str) -> Cell:
        records = [make_record({"clean": 80, "fgsm": 56})]
        records += [make_record({"clean": 80, "fgsm": 50}, method=rival) for rival in rivals]
        return _cell(build_table(SPECS[3], records), "SAT", ROBUST)

    assert best("trades").text == "56.00"
    assert best("trades", "ard").text == "56.00≈"


def test_a_shared_best_place_is_no_lead(make_record: RecordMaker) -> None:
    records = [make_record({"clean": 80, "fgsm": 60}, method=name) for name in ("sat", "trades")]
    records.append(make_record({"clean": 80, "fgsm": 10}, method="ard"))
    table = build_table(SPECS[3], records)
    assert _cell(table, "SAT", ROBUST).text == _cell(table, "TRADES", ROBUST).text == "60.00≈"


def _seeds(make_record: RecordMaker, method: str, counts: list[int]) -> list[Record]:
    return [
        make_record({"clean": 80, "fgsm": count}, method=method, seed=seed, checkpoint=f"{seed:064d}")
        for seed, count in enumerate(counts)
    ]


def test_three_seeds_on_both_sides_are_tested_over_seeds(make_record: RecordMaker) -> None:
    apart = build_table(
        SPECS[3], _seeds(make_record, "sat", [60, 61, 62]) + _seeds(make_record, "trades", [40, 41, 42])
    )
    best = _cell(apart, "SAT", ROBUST)
    assert best.text == "61.00 ± 1.00 (3)"
    assert best.lead is not None
    assert best.lead.test == "welch"
    overlapping = [*_seeds(make_record, "sat", [60, 50, 70]), *_seeds(make_record, "trades", [40, 65, 55])]
    table = build_table(SPECS[3], overlapping)
    assert _cell(table, "SAT", ROBUST).text == "60.00 ± 10.00 (3)≈"
    assert any("Welch's t-test over seeds" in line for line in table.provenance)
    assert not any("fewer than 3 seeds" in note for note in (*table.notes, *table.provenance))


def test_fewer_seeds_are_tested_over_samples_and_the_note_says_so(make_record: RecordMaker) -> None:
    table = build_table(SPECS[3], _seeds(make_record, "sat", [60, 61, 62]) + _seeds(make_record, "trades", [40, 41]))
    best = _cell(table, "SAT", ROBUST)
    assert best.lead is not None
    assert best.lead.test == "score"
    assert any("fewer than 3 seeds the test is over samples" in line for line in table.provenance)
    assert table.notes[-1].endswith("With fewer than 3 seeds a lead is one of these networks, not of the defenses.")


@pytest.mark.parametrize("change", [{"surrogate": "cd" * 32}, {"parameters": {"steps": 40}}])
def test_other_attacks_are_not_tested_against_each_other(make_record: RecordMaker, change: dict[str, Any]) -> None:
    attack = "transfer:pgd-trades"
    records = [
        make_record({"clean": 80, attack: 70}),
        make_record({"clean": 50, attack: 10}, method="trades", **change),
    ]
    table = build_table(SPECS[5], records)
    robust = _cell(table, "SAT", ROBUST)
    assert robust.text == "70.00≈"
    assert robust.lead is not None
    assert robust.lead.test is None
    assert _cell(table, "SAT", CLEAN).text == "80.00"  # clean accuracy knows no attack
    assert any("not tested where attacks or surrogates differ" in line for line in table.provenance)


def test_published_leads_are_tested_as_independent_samples() -> None:
    table = build_table(SPECS[3], [], "paper")
    own, rows = _cell(table, "CIARD", ROBUST), table.sections[0].rows
    rivals = [row.cells[ROBUST].shown or 0 for row in rows if row.label != "CIARD"]
    p_values = [two_proportions(6188, 10_000, round(100 * rival), 10_000) for rival in rivals]
    assert own.lead is not None
    assert own.lead.p == pytest.approx(holm(p_values)[rivals.index(61.42)])
    weighted = [
        two_weighted((0.8887, 0.6188), 10_000, ((row.cells[CLEAN].shown or 0) / 100, rival / 100), 10_000)
        for row, rival in zip([row for row in rows if row.label != "CIARD"], rivals, strict=True)
    ]
    lead = _cell(table, "CIARD", WEIGHTED).lead
    assert lead is not None
    assert lead.p == pytest.approx(holm(weighted)[8])
    assert any("as the paper gives no outcomes of single images" in line for line in table.provenance)


def test_the_sign_is_in_every_format_with_its_legend(three: list[Record], tmp_path: Path) -> None:
    markdown, latex, table, *_ = render_tables(
        three, [3], formats=["markdown", "latex", "csv"], datasets=["cifar10"], out=tmp_path
    )
    robust = f"{100 * _outcomes(0.62, 10).mean():.2f}"
    assert f"**{robust}≈**" in markdown.read_text(encoding="utf-8")
    assert "- ≈ Best, but not significantly better" in markdown.read_text(encoding="utf-8")
    assert rf"\textbf{{{robust}$\approx$}}" in latex.read_text()
    assert r"$\approx$ Best, but not significantly better" in latex.read_text()
    with table.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    (best,) = [line for line in lines if (line["attack"], line["quantity"], line["mark"]) == ("fgsm", "robust", "best")]
    assert best["lead"] == "not significant"
    assert 0.05 < float(best["lead_p"]) <= 1
    assert best["lead_test"] == "McNemar's exact test over samples, Holm over 2"
    assert {line["lead"] for line in lines if line["mark"] != "best"} == {""}


def test_a_users_own_table_has_it_all(make_record: RecordMaker, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "number: 9\ntitle: Own\naccess: white-box\nmodels: {default: resnet18}\n"
        "datasets: {cifar10: CIFAR-10}\ncolumns: [robust, worst_class, cost]\n"
        "attacks: [{result: dpgd, label: DPGD}]\nrows: [{method: sat, label: SAT}, {method: ard, label: ARD}]\n"
    )
    labels = np.arange(100) % 10
    records = [
        make_record({"clean": 80, "dpgd": right}, method=name, labels=labels, hours=hours)
        for name, right, hours in (("sat", 52, 2.0), ("ard", 50, 3.0))
    ]
    (table,) = build_tables(records, [9], extra_specs=tmp_path)
    texts = [[cell.text for cell in row.cells] for row in table.sections[0].rows]
    assert texts == [["52.00≈", "50.00≈", "2.00"], ["50.00", "50.00≈", "3.00"]]
    assert [[cell.mark for cell in row.cells] for row in table.sections[0].rows] == [
        ["best", "best", "best"],
        ["second", "best", "second"],
    ]
