"""Entries of a suite with a threat of their own: what they are called, run under, and checked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.evaluation import sanity
from bench.evaluation.suites import SUITES, Entry, Suite, strength, suite_named, suites_named
from bench.records.check_one import attacked_with, foreign
from bench.records.outcomes import unpack
from bench.records.record import Record
from bench.records.wording import attack_text
from bench.registry import attack_class
from bench.report.checks import explained
from bench.threat import Threat

from ..helpers.records import RecordMaker
from .small import N, evaluate, network

OWN = Threat()


@pytest.mark.parametrize(
    ("result", "attack", "transfer", "under"),
    [
        ("pgd-sat", "pgd-sat", False, OWN),
        ("transfer:cw-inf", "cw-inf", True, OWN),
        ("pgd-sat@l2:0.5", "pgd-sat", False, Threat("l2", 0.5)),
        ("transfer:fgsm@l1:12", "fgsm", True, Threat("l1", 12)),
        ("pgd-sat@linf:4/255", "pgd-sat", False, Threat("linf", 4 / 255)),
        ("pgd-sat@1.5x", "pgd-sat", False, Threat("linf", 12 / 255)),
    ],
)
def test_the_name_of_a_result_says_what_it_is_of(result: str, attack: str, transfer: bool, under: Threat) -> None:
    entry = Entry.of(result)
    assert (entry.attack, entry.transfer, entry.under(OWN)) == (attack, transfer, under)
    assert entry.result == entry.on(OWN).result == result
    assert entry.on(under).threat in (None, "1.5x")


@pytest.mark.parametrize(("text", "problem"), [("l3:1", "Unknown norm"), ("0x", "no image"), ("l2:0", "no image")])
def test_a_threat_that_is_none(text: str, problem: str) -> None:
    with pytest.raises(BenchError, match=problem):
        Entry("fgsm", threat=text)


def test_suites_of_a_norm_keep_a_datasets_own_radius() -> None:
    assert [entry.on(OWN).result for entry in SUITES["l2"].entries] == [
        "pgd-sat@l2:0.5",
        "apgd@l2:0.5",
        "square@l2:0.5",
    ]
    assert [entry.on(Threat("l2", 1.0)).result for entry in SUITES["l2"].entries] == ["pgd-sat", "apgd", "square"]
    assert [entry.on(OWN).result for entry in SUITES["l1"].entries] == [
        *("pgd-sat@l1:12", "apgd@l1:12", "square@l1:12")
    ]


def test_an_attack_with_a_threat_is_a_suite() -> None:
    assert suite_named("pgd-sat@l2:1/2") == Suite(
        "pgd-sat@l2:0.5", "pgd-sat@l2:0.5 on the student", (Entry("pgd-sat", threat="l2:0.5"),)
    )
    assert suites_named(["fgsm", "fgsm@1.5x"]).name == "fgsm,fgsm@1.5x"
    for wrong in ("pgd-sta@l2:0.5", "transfer:pgd-sat"):
        with pytest.raises(BenchError, match="suite"):
            suite_named(wrong)


def test_results_of_another_threat_are_sorted_after_the_datasets_own() -> None:
    names = ["pgd-sat@l2:0.5", "square", "clean", "autoattack", "fgsm", "transfer:fgsm"]
    assert sorted(names, key=strength) == ["clean", "fgsm", "autoattack", "square", "transfer:fgsm", "pgd-sat@l2:0.5"]
    assert attack_text("transfer:fgsm@1.5x", {"fgsm": "FGSM"}, Threat()) == "FGSM, 1.5x, transferred"


SEVERAL = Suite("own", "", tuple(Entry("pgd-sat", threat=threat) for threat in (None, "1.5x", "l2:0.5", "l1:3")))


def test_an_entry_is_run_under_its_own_threat(dataset: Dataset) -> None:
    record = evaluate(network(), dataset, SEVERAL)
    names = ["clean", "pgd-sat", "pgd-sat@1.5x", "pgd-sat@l2:0.5", "pgd-sat@l1:3"]
    assert list(record.results) == names
    lengths = {name: [record.results[name].parameters[key] for key in ("eps", "step_size")] for name in names[1:]}
    assert lengths == {
        "pgd-sat": [8 / 255, 2 / 255],
        "pgd-sat@1.5x": pytest.approx([12 / 255, 3 / 255]),
        "pgd-sat@l2:0.5": [0.5, 2.5 * 0.5 / 20],
        "pgd-sat@l1:3": [3, 2 * 3 / 20],
    }
    assert not any("its own eps" in flag for flag in record.flags)
    right = {name: unpack(record.results[name].final, N) for name in names}
    assert not (right["pgd-sat@1.5x"] & ~right["pgd-sat"]).sum() > 2
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert [foreign(what) for _, what in attacked_with(record)] == [()] * 4


def test_the_same_threat_is_the_same_result(dataset: Dataset) -> None:
    """Under a dataset's own threat an entry's name says none; its start noise is the attack's, whatever the threat."""
    stated = evaluate(network(), dataset, Suite("own", "", (Entry("pgd-sat", threat="l2:0.5"),)))
    own = evaluate(
        network(), replace(dataset, norm="l2", eps=0.5), Suite("own", "", (Entry("pgd-sat", threat="l2:0.5"),))
    )
    assert own.results["pgd-sat"].final == stated.results["pgd-sat@l2:0.5"].final
    assert own.results["pgd-sat"].parameters == stated.results["pgd-sat@l2:0.5"].parameters


def test_a_norm_that_an_attack_does_not_know_stops_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_class("square"), "norms", ("linf", "l2"))
    with pytest.raises(BenchError, match=r"Square knows L∞ and L2 alone, and was to be run under l1:12"):
        evaluate(network(), dataset, Suite("own", "", (Entry("square", threat="l1:12"),)), kept=tmp_path)
    assert not list(tmp_path.rglob("square*"))


@pytest.mark.parametrize(
    "name", ["pgd-sat@l2", "pgd-sat@l2:1/2", "pgd-sat@", "pgd-sat@l2:0.5", "transfer:pgd-sat@1.5x"]
)
def test_a_record_with_a_name_that_is_none_or_of_another_threat_is_refused(name: str, dataset: Dataset) -> None:
    record: dict[str, Any] = evaluate(network(), dataset, Suite("own", "", (Entry("fgsm"),))).model_dump(mode="python")
    record["results"] = {name: record["results"]["fgsm"]}
    with pytest.raises(ValueError, match=r"results\.(pgd-sat|transfer)"):
        Record.model_validate(record)


def test_a_larger_ball_that_is_weaker_is_flagged(make_record: RecordMaker) -> None:
    """In L2 every image within eps is within eps in L-infinity, too."""
    few, many = np.arange(100) < 20, np.arange(100) < 60

    def flags(correct: dict[str, Any]) -> list[str]:
        return sanity.flags(make_record(correct).results, 100, {}, Threat("linf", 0.5))

    beaten = flags({"pgd-sat@l2:0.5": few, "pgd-sat": many})
    assert beaten == [
        "PGD-SAT breaks more within l2:0.5 than within linf:0.5, the larger ball (40 against 0 of 100 samples)"
    ]
    assert explained(beaten[0]) is not None
    assert flags({"pgd-sat@1.5x": many, "pgd-sat": few}) == [
        "PGD-SAT breaks more within linf:0.5 than within linf:0.75, the larger ball (40 against 0 of 100 samples)"
    ]
    for fine in (
        {"pgd-sat@l2:0.6": few, "pgd-sat": many},
        {"pgd-sat@1.5x": few, "pgd-sat": many},
        {"fgsm@0.5x": few, "pgd-sat": many},
    ):
        assert flags(fine) == []


def test_attacks_are_ranked_under_one_threat_alone(make_record: RecordMaker) -> None:
    few, many = np.arange(100) < 20, np.arange(100) < 60
    results = make_record({"pgd-sat": many, "fgsm@l2:5": few, "square@l2:5": few}).results
    assert sanity.flags(results, 100, {}) == []
    results = make_record({"pgd-sat@l2:5": many, "square@l2:5": few}).results
    assert sanity.flags(results, 100, {}) == [
        "Square breaks more than PGD-SAT within l2:5: gradients may be masked (40 against 0 of 100 samples)"
    ]
