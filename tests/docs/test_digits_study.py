"""What the page on the study on digits says, held to its records."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, stdev, variance
from typing import Any

import pytest
from scipy.stats import f

from bench.recipes.hyperparameters import method_class
from bench.registry import names
from bench.stats import LEVEL, holm
from bench.stats.differences import welch
from bench.stats.power import POWER, smallest, welch_power

from ..helpers.places import DOCS, RESULTS, prose

PAGE = "digits-study"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("digits_study", DOCS / "digits_study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def study(script: Any, campaign: Callable[[str], Path]) -> Any:
    return script.Campaign(campaign("digits-study"))


@pytest.fixture(scope="module")
def one_teacher(script: Any, campaign: Callable[[str], Path]) -> Any:
    return script.Campaign(campaign("digits-one-teacher"))


def test_every_defense_is_in_it_with_five_seeds_and_every_part_of_it(script: Any, study: Any) -> None:
    assert set(study.defenses) == set(names("methods")) - {"natural"}
    for student in script.STUDENTS:
        for name in ("natural", *study.defenses):
            for attack, which in (("clean", "best"), *script.ORDERS.values()):
                assert len(study.accuracies(script.Defense(name), student, attack, which)) == 5


def test_the_files_say_what_the_records_say(script: Any, study: Any, one_teacher: Any) -> None:
    for name, text in script.findings(study, one_teacher).items():
        assert (RESULTS / "digits-study" / name).read_text(encoding="utf-8") == text


def _rank(means: dict[str, float], name: str) -> int:
    return sorted(means, key=means.__getitem__, reverse=True).index(name) + 1


def test_what_it_says_of_the_best(script: Any, study: Any) -> None:
    ahead = []
    taught = {name for name in study.defenses if method_class(name).roles}
    assert not {"trades", "trades-awp", "sat"} & taught
    both = {name for name in taught if set(method_class(name).roles) == {"robust", "clean"}}
    assert both == {"ciard", "b-mtard", "mtard", "akd", "kd-swa"}
    for student in script.STUDENTS:
        means, clean = study.means(student), study.means(student, "clean")
        assert {_rank(means, "trades"), _rank(means, "trades-awp")} == {1, 2}
        assert _rank({name: means[name] + clean[name] for name in means}, "trades") == 1
        assert [_rank(clean, name) for name in ("ciard", "b-mtard", "mtard")] == [1, 2, 3]
        sat, trades = (study.seeds_of(script.Defense(name), student) for name in ("sat", "trades"))
        found = {name: study.seeds_of(script.Defense(name), student) for name in taught}
        assert min(holm([script.contrast(each, sat, script.BASE).difference.p for each in found.values()])) > LEVEL
        for each in found.values():
            beside = script.contrast(each, trades, script.BASE).difference
            assert beside.value <= 0 or beside.p > LEVEL
        ahead.append(sum(means[name] > means["sat"] for name in taught))
    assert (
        f"Of the {len(taught)} defenses with a teacher {ahead[0]} have a higher mean than SAT with `digits-cnn` and "
        f"{ahead[1]} with `digits-mobile`; none of them is told apart from SAT"
    ) in prose(PAGE)


def test_what_it_says_of_five_seeds(script: Any, study: Any) -> None:
    needed, near = [], []
    for student in script.STUDENTS:
        means = study.means(student)
        spread = median(stdev(study.accuracies(script.Defense(name), student, script.BASE)) for name in means) / 100
        powers = {seeds: welch_power([spread**2 / seeds] * 2, [seeds] * 2) for seeds in (5, *range(300, 500))}
        needed.append(next(seeds for seeds in range(300, 500) if powers[seeds](0.005) >= POWER))
        assert powers[needed[-1] - 1](0.005) < POWER
        found = 100 * smallest(powers[5])
        near.append(sum(max(means.values()) - value <= found for value in means.values()))
    assert f"would take {needed[0]} seeds a side with `digits-cnn`, {needed[1]} with `digits-mobile`" in prose(
        "digits-study"
    )
    assert f"lie {near[0]} of the 32 with `digits-cnn` and {near[1]} with `digits-mobile`" in prose(PAGE)


def test_what_it_says_of_additions(script: Any, study: Any) -> None:
    rows = [line.split(" | ") for line in script.additions(study)][2:]
    cells = {(row[0].removeprefix("| "), row[1]): [cell.removesuffix(" |") for cell in row[2:]] for row in rows}
    gains = [cells[student, "IGDM to ARD"][1] for student in script.STUDENTS]
    assert all(gain.endswith("*") for gain in gains)
    robust = {key: cell[1:] for key, cell in cells.items() if key[1] != "IGDM to ARD"}
    assert not [key for key, cell in robust.items() if any(each.endswith("*") for each in cell)]
    assert [key for key, cell in cells.items() if cell[0].endswith("*") and key[1] != "IGDM to ARD"] == [
        ("digits-cnn", "IGDM to SAT")
    ]
    halves = []
    for student in script.STUDENTS:
        for label, (on, off) in script.ADDITIONS.items():
            if label != "IGDM to ARD" and (student, label) in cells:
                sides = (study.seeds_of(each, student) for each in (on, off))
                difference = script.contrast(*sides, script.BASE).difference
                halves.append(50 * (difference.high - difference.low))
    assert f"their intervals reach {min(halves):.1f} to {max(halves):.1f} points to either side" in prose(
        "digits-study"
    )
    points = [gain.split()[0].removeprefix("+") for gain in gains]
    cost = cells["digits-cnn", "IGDM to SAT"][0].split()[0].removeprefix("-")
    assert f"IGDM pays for ARD, by {points[0]} and {points[1]} points" in prose(PAGE)
    assert f"IGDM costs SAT {cost} points of clean accuracy with `digits-cnn`" in prose(PAGE)


def test_what_it_says_of_the_order(script: Any, study: Any) -> None:
    rows = dict(line.removeprefix("| ").split(" | ", 1) for line in list(script.orders(study))[2:])
    taus = {name: [float(each) for each in row.removesuffix(" |").split(" | ")] for name, row in rows.items()}
    split, last = taus["PGD-SAT, two seeds against the other three"], taus["the last weights, not the best"]
    assert all(one < other for one, other in zip(split, last, strict=True))
    for name in ("Square, 100 queries", "PGD-TRADES, transferred", "PGD-SAT, L1 within 2", "no attack"):
        assert all(one < other for one, other in zip(taus[name], split, strict=True))

    def places(attack: str) -> list[int]:
        return [_rank(study.means(student, attack), "ciard") for student in script.STUDENTS]

    assert places("transfer:pgd-trades") == places("transfer:cw-inf") == [1, 1]
    square, pgd, far = places("square"), places(script.BASE), places(f"{script.BASE}@1.5x")
    assert (
        f"CIARD is first of 32 under both transferred attacks, place {square[0]} and {square[1]} under Square, "
        f"place {pgd[0]} and {pgd[1]} under PGD-SAT, and place {far[0]} and {far[1]} half as far again"
    ) in prose(PAGE)


def test_what_it_says_of_the_teacher_s_seed(script: Any, study: Any, one_teacher: Any) -> None:
    assert one_teacher.defenses == ["ard", "ciard", "rslad"]
    shown = []
    for name in one_teacher.defenses:
        sides = [each.seeds_of(script.Defense(name), script.STUDENTS[0]) for each in (study, one_teacher)]
        assert all(each.subject.teacher_seeds for each in sides[0])
        assert not any(each.subject.teacher_seeds for each in sides[1])
        own, shared = ([script.accuracy(each, script.BASE) for each in side] for side in sides)
        ratio = variance(own) / variance(shared)
        p = 2 * min(f.sf(ratio, 4, 4), f.cdf(ratio, 4, 4))
        assert p > LEVEL
        assert welch(own, shared).p > LEVEL
        assert (ratio > 2) == (name != "ard")
        shown.append(f"{p:.2f} for {script.Defense(name).method.upper()}")
    assert f"(F-test, p = {', '.join(shown)})" in prose(PAGE)
