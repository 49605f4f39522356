"""The records of one network, brought together, and all of its attacks as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.records.networks import networks_of, worst_over
from bench.records.outcomes import unpack
from bench.stats import wilson_interval

from ..helpers.records import RecordMaker

N = 4


def test_a_sample_survives_only_if_no_attack_fools_it(make_record: RecordMaker) -> None:
    outcomes = {
        "clean": np.array([True, True, True, False]),
        "fgsm": np.array([True, False, True, True]),
        "bim": np.array([True, True, False, True]),
    }
    (network,) = networks_of([make_record(outcomes, n=N)])
    (condition,) = network.conditions
    worst = worst_over(list(network.under(condition).values()))
    assert unpack(worst.final, N).tolist() == [True, False, False, False]
    assert (worst.correct, worst.accuracy, worst.interval) == (1, 0.25, wilson_interval(1, N))
    assert list(worst.parameters["over"]) == ["bim", "clean", "fgsm"]


def test_suites_of_one_run_come_together_the_newest_of_each_attack(make_record: RecordMaker) -> None:
    right, wrong = np.ones(N, bool), np.zeros(N, bool)
    old = make_record({"clean": right, "fgsm": wrong}, n=N, run="a", minute=0).model_copy(
        update={"created": "2026-01-01T00:00:00Z"}
    )
    new = make_record({"clean": right, "fgsm": right}, n=N, run="a", minute=2).model_copy(
        update={"created": "2026-01-02T00:00:00Z"}
    )
    other = make_record({"clean": right, "bim": wrong}, n=N, run="a", minute=1).model_copy(
        update={"created": "2026-01-01T12:00:00Z"}
    )
    rival = make_record({"clean": right, "bim": right}, n=N, run="b", minute=0).model_copy(
        update={"created": "2026-01-01T00:00:00Z"}
    )
    first, second = networks_of([old, new, other, rival])
    assert (first.name, second.name) == ("a", "b")
    (condition,) = first.conditions
    measured = first.under(condition)
    assert {attack: each.value("robust") for attack, each in measured.items()} == {"clean": 1, "fgsm": 1, "bim": 0}


@pytest.mark.parametrize("change", [{"checkpoint": "b" * 64}, {"model": "vgg16"}])
def test_files_from_elsewhere_are_networks_by_weights_name_and_architecture(
    make_record: RecordMaker, change: dict[str, str]
) -> None:
    outcomes = {"clean": np.ones(N, bool), "fgsm": np.ones(N, bool)}
    file: dict[str, Any] = {"kind": "checkpoint", "run": None, "seed": None, "checkpoint": "a" * 64, "n": N}
    same, other = make_record(outcomes, **file), make_record(outcomes, **(file | change))
    assert len(networks_of([same, same, other])) == 2


def test_networks_that_were_trained_otherwise_are_no_seeds_of_one_defense(make_record: RecordMaker) -> None:
    same, other = ({"epochs": epochs} for epochs in (3, 4))
    made = [make_record({"clean": 80}, seed=seed, procedure=how) for seed, how in enumerate((same, same, other, None))]
    first, second, *others = (network.identity for network in networks_of(made))
    assert first == second
    assert len({first, *others}) == 3
