"""The audit finds what is wrong or fragile, and nothing that is not."""

from __future__ import annotations

import csv
import json
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.audit import KINDS, Audit, audit_tables
from bench.analysis.audit_text import to_json, to_text
from bench.analysis.wins import Win, Wins
from bench.errors import BenchError
from bench.stats import holm, two_proportions, two_weighted
from bench.tables import load_specs
from bench.tables.spec import table_files

from ..helpers.places import DOCS
from ..helpers.records import RecordMaker


@pytest.fixture(scope="module")
def paper() -> Audit:
    return audit_tables([], values="paper")


def _texts(audit: Audit, kind: str) -> list[str]:
    return [finding.text for table in audit.tables for finding in table.findings if finding.kind == kind]


def _wins(audit: Audit, number: int) -> Wins:
    wins = next(table.wins for table in audit.tables if table.number == number)
    assert wins is not None
    return wins


def test_the_papers_five_contradictions_are_found_and_no_other(paper: Audit) -> None:
    found = [
        (table.number, finding.text)
        for table in paper.tables
        for finding in table.findings
        if finding.kind == "contradiction"
    ]
    assert [(number, text.split(" (")[0]) for number, text in found] == [
        (3, "PGD-SAT SAT on CIFAR-10"),
        (3, "PGD-SAT MTARD on CIFAR-10"),
        (5, "PGD-TRADES SAT on CIFAR-10"),
        (6, "Square TRADES on CIFAR-10"),
        (7, "PGD-TRADES with ITT, without push loss on CIFAR-10"),
    ]


def test_all_tables_with_published_numbers_are_audited(paper: Audit) -> None:
    assert [table.number for table in paper.tables] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {table.number for table in paper.tables if table.wins is None} == {2, 8}


def _published(number: int) -> list[dict[str, str]]:
    with (table_files("paper") / "robustness.csv").open() as stream:
        return [line for line in csv.DictReader(stream) if line["table"] == str(number)]


@pytest.mark.parametrize("number", [3, 4, 5, 6])
def test_the_wins_are_those_a_plain_count_of_the_csv_finds(paper: Audit, number: int) -> None:
    """Every cell of CIARD that is above all others of its column, with its p-value worked out from the CSV."""
    lines = _published(number)
    best, expected = 0, {}
    for own in (line for line in lines if line["defense"] == "CIARD"):
        rivals = [
            line
            for line in lines
            if (line["dataset"], line["attack"]) == (own["dataset"], own["attack"]) and line is not own
        ]
        for quantity in ("clean", "robust", "weighted"):
            _, second = max(((float(line[quantity]), line) for line in rivals), key=itemgetter(0))
            if float(own[quantity]) < float(second[quantity]):
                continue
            best += 1
            if quantity == "weighted":
                pair = [(float(each["clean"]) / 100, float(each["robust"]) / 100) for each in (own, second)]
                p = two_weighted(pair[0], 10_000, pair[1], 10_000)
            else:
                p = two_proportions(
                    round(100 * float(own[quantity])), 10_000, round(100 * float(second[quantity])), 10_000
                )
            attack = "" if quantity == "clean" else own["attack"]
            expected[own["dataset"], attack, quantity] = p
    wins = _wins(paper, number)
    assert wins.best == best
    assert wins.cells == 3 * sum(line["defense"] == "CIARD" for line in lines)
    found: dict[tuple[str, str, str], Win] = {
        (win.dataset, win.attack.removeprefix("transfer:"), win.quantity): win for win in wins.wins
    }
    assert {place: win.p for place, win in found.items()} == pytest.approx(expected)
    assert [found[place].p_holm for place in expected] == pytest.approx(holm(list(expected.values())))
    assert sum(win.cells for win in wins.wins) == best


def test_no_win_of_the_paper_exceeds_sampling_noise_as_independent_samples(paper: Audit) -> None:
    """The nearest is W-R of ResNet-18 under a transferred PGD-TRADES: 77.58 against 76.75."""
    wins = [win for table in paper.tables if table.wins for win in table.wins.wins]
    assert len(wins) == 37
    assert not any(win.significant for win in wins)
    assert min(wins, key=lambda win: win.p).value == 77.58
    assert min(win.p for win in wins) == pytest.approx(0.089, abs=0.001)


def test_a_large_win_of_a_users_own_table_exceeds_it(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("defense,clean,robust\nSAT,80.00,50.00\nARD,81.00,55.00\n")
    (tmp_path / "own.yaml").write_text(
        "number: 9\ntitle: Own\naccess: white-box\nmodels: {default: resnet18}\n"
        "datasets: {cifar10: CIFAR-10}\ncolumns: [clean, robust]\n"
        "attacks: [{result: fgsm, label: FGSM}]\nrows: [{method: sat, label: SAT}, {method: ard, label: ARD}]\n"
        "paper: {file: mine.csv, citation: Me 2026, n: 10000, where: {}, proposed: ARD,"
        " values: {clean: clean, robust: robust}}\n"
    )
    wins = _wins(audit_tables([], [9], "paper", extra_specs=tmp_path), 9)
    assert {win.quantity: win.significant for win in wins.wins} == {"clean": False, "robust": True}
    assert (wins.best, wins.significant, wins.least) == (2, 1, (6, 7))


def test_the_range_under_all_pairings_encloses_what_pairing_can_do(paper: Audit) -> None:
    for table in paper.tables:
        for win in table.wins.wins if table.wins else ():
            assert (win.p_paired is None) == (win.quantity == "weighted")
            if win.p_paired is not None:
                assert 0 <= win.p_paired[0] <= win.p_holm <= win.p_paired[1] <= 1


def test_clean_accuracies_that_differ_between_tables_are_found(paper: Audit) -> None:
    (finding,) = paper.between
    assert "ciard, resnet18 on cifar10" in finding.text
    assert "88.86 in Table 7" in finding.text
    assert "88.87 in Table 3, 5" in finding.text


def test_the_claims_that_the_tables_contradict_are_found(paper: Audit) -> None:
    failed = {(claim.claim.tables, claim.claim.kind): claim.found for claim in paper.claims if claim.holds is False}
    assert set(failed) == {((6,), "gain"), ((5, 6), "above")}
    assert failed[(6,), "gain"] == "+0.31"  # the text says 0.41
    assert failed[(5, 6), "above"].startswith("so in 81 of 96 comparisons; not in ARD 73.81, SAT 74.52")
    assert sum(claim.holds is None for claim in paper.claims) == 2
    assert sum(claim.holds is True for claim in paper.claims) == 22


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3,here,q,gain,cifar10,fgsm,robust,CIARD,,high", "line 2: claimed"),
        ("3,here,q,guess,cifar10,fgsm,robust,CIARD,,1", "line 2: kind"),
        ("three,here,q,gain,cifar10,fgsm,robust,CIARD,,1", "line 2: tables"),
        ("9,here,q,number,cifar10,fgsm,robust,CIARD,,1", "a number that its table does not have"),
        ("9,here,q,number,mnist,fgsm,robust,SAT,,1", "no such table, dataset or attack"),
    ],
)
def test_a_wrong_claim_of_ones_own_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "claims-own.csv").write_text(
        f"tables,location,quote,kind,dataset,attack,quantity,row,rival,claimed\n{line}\n"
    )
    (tmp_path / "mine.csv").write_text("defense,clean,robust\nSAT,80.00,50.00\n")
    (tmp_path / "own.yaml").write_text(
        "number: 9\ntitle: Own\naccess: white-box\nmodels: {default: resnet18}\n"
        "datasets: {cifar10: CIFAR-10}\ncolumns: [clean, robust]\n"
        "attacks: [{result: fgsm, label: FGSM, paper: fgsm}]\nrows: [{method: sat, label: SAT}]\n"
        "paper: {file: mine.csv, citation: Me 2026, n: 100, where: {}, claims: claims-own.csv,"
        " values: {clean: clean, robust: robust}}\n"
    )
    with pytest.raises(BenchError, match=message) as caught:
        audit_tables([], [9], "paper", extra_specs=tmp_path)
    assert "claims-own.csv" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_clean_records_have_no_findings(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 80 - i, "fgsm": 60 - 10 * i}, method=name) for i, name in enumerate(("sat", "ard"))
    ]
    audit = audit_tables(records, [3])
    assert _texts(audit, "noise") == [
        "CIFAR-10, official, 300 epochs, Clean: SAT 80.00 (p = 1, McNemar's exact test over samples, rivals: 1)"
    ]
    assert {finding.kind for finding in audit.tables[0].findings} == {"noise"}


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("samples", {"n": 200}, "the first 200 of ffffffff: ARD"),
        ("samples", {"fingerprint": "0" * 64}, "the first 100 of 00000000: ARD"),
        ("protocol", {"protocol": "paper"}, "paper: ARD"),
        ("threat", {"eps": 4 / 255}, "ARD"),
        ("setting", {"setting": "short, 20 epochs"}, "short, 20 epochs: ARD"),
        ("parameters", {"parameters": {"steps": 40}}, "FGSM had different parameters"),
        ("teachers", {"teachers": {"robust": "22" * 32}}, "222222222222 taught ARD"),
        ("selection", {"selection": "test"}, "ARD on CIFAR-10"),
        ("selection", {"selection": "test", "looks": 97}, "ARD on CIFAR-10 (the best of 97 looks)"),
        ("sanity", {"flags": ["gradients may be masked"]}, "ARD on CIFAR-10: gradients may be masked"),
    ],
)
def test_what_should_not_differ_between_rows_is_found(
    make_record: RecordMaker, kind: str, change: dict[str, Any], said: str
) -> None:
    counts = {"clean": 80, "fgsm": 60}
    records = [
        make_record(counts, method="sat"),
        make_record(counts, method="ard", **{"teachers": {"robust": "11" * 32}, **change}),
        make_record(counts, method="rslad", teachers={"robust": "11" * 32}),
    ]
    without = audit_tables([records[0], records[2]], [3])
    assert not _texts(without, kind)
    (text,) = _texts(audit_tables(records, [3]), kind)
    assert said in text


def test_other_surrogates_are_found(make_record: RecordMaker) -> None:
    counts = {"clean": 80, "transfer:cw-inf": 60}
    audit = audit_tables([make_record(counts), make_record(counts, method="ard", surrogate="cd" * 32)], [5])
    assert "abababababab, cdcdcdcdcdcd" in _texts(audit, "surrogates")[0]


def test_teachers_of_different_settings_share_a_column_and_are_named(make_record: RecordMaker) -> None:
    shared: dict[str, Any] = {"kind": "teacher", "model": "resnet56"}
    records = [
        make_record(method="natural", role="clean", setting="natural, 20 epochs", **shared),
        make_record(method="trades", role="robust", setting="TRADES, 30 epochs", **shared),
    ]
    audit = audit_tables(records, [2])
    assert audit.tables[0].one_seed is None  # they are no rivals
    (text,) = _texts(audit, "setting")
    assert "one column, though not ranked, of TRADES, 30 epochs; natural, 20 epochs" in text


def test_a_retrained_row_with_another_clean_accuracy_is_found_between_tables(make_record: RecordMaker) -> None:
    white, black = make_record({"clean": 80, "fgsm": 60}), make_record({"clean": 81, "square": 70})
    (finding,) = audit_tables([white, black], [3, 5]).between
    assert "80.00 in Table 3" in finding.text
    assert "81.00 in Table 5" in finding.text
    assert not audit_tables([white, make_record({"clean": 80, "square": 70})], [3, 5]).between


def test_only_the_datasets_asked_for_are_audited(make_record: RecordMaker) -> None:
    audit = audit_tables([], [3], "paper", datasets=["cifar100"])
    assert not _texts(audit, "contradiction")
    assert {win.dataset for win in _wins(audit, 3).wins} == {"cifar100"}
    with pytest.raises(BenchError, match="cifar11"):
        audit_tables([], [3], "paper", datasets=["cifar11"])


def test_the_text_says_the_assumption_and_how_many_of_how_many(paper: Audit) -> None:
    text = to_text(paper)
    assert "CIARD is best in 9 of 12 cells, which are 7 distinct comparisons; 0 of these exceed sampling noise" in text
    assert "z-test of independent samples, n = 10,000 each, 5% after Holm's correction" in text
    assert "does not say how often two defenses are right on the same image" in text
    assert "6 images (0.06 points), after correction 9 (0.09 points)" in text
    assert "- does not hold (Table 6): Section 4.2, black-box" in text
    for kind in ("contradiction", "noise"):
        assert KINDS[kind] in text


def test_which_wins_one_seed_carries_is_said_for_both_ends_of_the_published_spread(paper: Audit) -> None:
    found = {table.number: table.one_seed for table in paper.tables if table.one_seed}
    points = {number: [win.difference for win in _wins(paper, number).wins] for number in found}
    for number, one in found.items():
        assert one.least == pytest.approx((1.96 * 2**0.5 * 0.1, 1.96 * 2**0.5 * 0.6), abs=1e-3)
        assert one.carried == tuple(sum(gap > least for gap in points[number]) for least in one.least)
        assert one.carried_others == tuple(sum(gap > least for gap in points[number]) for least in one.least_others)
        assert (one.gaps, one.median) == (len(points[number]), pytest.approx(np.median(points[number])))
    carried, others = (
        [sum(ends) for ends in zip(*pairs, strict=True)]
        for pairs in ([one.carried for one in found.values()], [one.carried_others for one in found.values()])
    )
    assert (
        f"Of 37 wins, one seed a side carries {carried[0]} and {carried[1]} on the same images, {others[0]} and "
        in to_text(paper)
    )
    page = " ".join((DOCS / "statistics.md").read_text(encoding="utf-8").split())
    assert (carried, others) == ([24, 0], [2, 0])
    assert "One seed a side carries 24 of the 37 wins if seeds spread by 0.1 points, and none if by 0.6" in page
    for number, said in (
        (5, "The median win of Table 5, 0.41 points, takes 3 and 35"),
        (3, "Table 3, 0.46 points, 3 and 28"),
    ):
        one = found[number]
        assert f"{one.median:.2f} points" in said
        assert said.endswith(f"{one.seeds[0]} and {one.seeds[1]}")
        assert said in page


def test_of_measured_rows_the_leads_between_single_seeds_count_once_each(make_record: RecordMaker) -> None:
    counts = {"clean": 80, "fgsm": 60, "pgd-sat": 50}
    records = [
        make_record(counts, method="sat"),
        make_record({"clean": 70, "fgsm": 20, "pgd-sat": 50}, method="ard"),
        make_record({"clean": 10, "fgsm": 10, "pgd-sat": 5}, method="rslad"),
    ]
    (table,) = audit_tables(records, [3]).tables
    assert table.one_seed is not None
    # Clean 10, FGSM 40 and 25 (W-R), PGD-SAT 0 and 5 points; on 100 images chance alone is large.
    assert (table.one_seed.gaps, table.one_seed.median) == (5, 10)
    assert table.one_seed.carried == (4, 3)
    more = [make_record(counts, method="sat", seed=1), make_record(counts, method="ard", seed=1)]
    (table,) = audit_tables([*records, *more], [3]).tables
    assert table.one_seed is None


def test_a_table_without_numbers_is_not_called_sound() -> None:
    assert "No numbers." in to_text(audit_tables([], [3]))


def test_json_holds_what_the_text_does(paper: Audit) -> None:
    content = json.loads(json.dumps(to_json(paper)))
    assert content["values"] == "paper"
    assert [table["number"] for table in content["tables"]] == list(load_specs())[1:]
    assert content["tables"][2]["wins"]["significant"] == 0
    assert content["tables"][2]["one_seed"]["carried"] == [6, 0]
    assert content["tables"][1]["one_seed"] is None
    assert content["tables"][2]["wins"]["wins"][0]["p"] == pytest.approx(0.137, abs=0.001)
    assert {claim["holds"] for claim in content["claims"]} == {True, False, None}


def test_seeds_are_audited_as_one_row(make_record: RecordMaker) -> None:
    rng = np.random.default_rng(0)
    records = [
        make_record({"clean": 80, "fgsm": int(rng.integers(50, 60)) - shift}, method=name, seed=seed)
        for name, shift in (("sat", 0), ("ard", 30))
        for seed in range(3)
    ]
    audit = audit_tables(records, [3])
    assert not [text for text in _texts(audit, "noise") if "FGSM" in text and "W-R" not in text]
    assert not audit.between
