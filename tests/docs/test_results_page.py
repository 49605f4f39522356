"""What the page of results says is what the records have."""

from __future__ import annotations

import csv
import json

from bench import compare, load_records
from bench.analysis.compare import Contrast

from ..helpers.places import RESULTS, prose


def test_what_the_page_says_of_a_transformer_on_digits() -> None:
    found: dict[str, list[float]] = {}
    for path in (RESULTS / "digits-vit" / "records").glob("*pgd-20*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (record["data"]["n"], record["subject"]["model"]) == (360, "digits-vit")
        found.setdefault(record["subject"]["method"], []).append(100 * record["results"]["pgd-20"]["accuracy"])
    natural, sat = sorted(found.pop("natural")), sorted(found["sat"])
    assert len(natural) == len(sat) == 3
    assert natural[-1] < 20
    assert sat[1] > 60
    lowest = min(value for values in found.values() for value in values)
    assert lowest > 60  # ten classes: chance is 10
    page = prose("results")
    assert f"SAT's median over three seeds is {sat[1]:.1f} %" in page
    assert f"natural training has at most {natural[-1]:.1f} %" in page
    assert f"at least {lowest:.1f} %" in page


def test_what_the_page_says_of_a_quarter_of_an_hour_on_a_gpu() -> None:
    records = load_records(RESULTS / "brief-cifar10", student="resnet20")
    suites = {suite: [record for record in records if record.suite == suite] for suite in ("whitebox", "autoattack")}
    assert {record.data.n for record in suites["whitebox"]} == {10_000}
    assert {record.data.n for record in suites["autoattack"]} == {1_000}
    assert len(suites["whitebox"]) == 9
    found: dict[tuple[str, ...], Contrast] = {
        (each.quantity, each.attack, *each.sides): each
        for contrasts in (
            compare(*suites["whitebox"], attacks=("clean", "pgd-sat", "cw-inf")).contrasts,
            compare(*suites["autoattack"], attacks=("autoattack",)).contrasts,
        )
        for each in contrasts
    }

    def points(quantity: str, attack: str, better: str, other: str) -> tuple[str, str, str]:
        turned = (quantity, attack, better, other) not in found
        contrast = found[(quantity, attack, other, better) if turned else (quantity, attack, better, other)]
        assert contrast.verdict == f"{better} is better"
        sign, difference = -1 if turned else 1, contrast.difference
        low, high = sorted(100 * sign * each for each in (difference.low, difference.high))
        return f"{100 * sign * difference.value:.1f}", f"{low:.1f}", f"{high:.1f}"

    page = prose("results")
    for text, *which in (
        ("above the next, B-MTARD, by {} points ({} to {})", "weighted", "pgd-sat", "CIARD", "B-MTARD"),
        ("RSLAD is above it by {} points ({} to {})", "robust", "pgd-sat", "RSLAD", "CIARD"),
        ("SAT by {} ({} to {}), under AutoAttack", "robust", "pgd-sat", "SAT", "CIARD"),
        ("under AutoAttack, on 1,000 images, RSLAD by {} ({} to {})", "robust", "autoattack", "RSLAD", "CIARD"),
        ("above B-MTARD by {} points under PGD-SAT ({} to {})", "robust", "pgd-sat", "CIARD", "B-MTARD"),
        ("above MTARD by {} ({} to {})", "robust", "pgd-sat", "CIARD", "MTARD"),
    ):
        assert text.format(*points(*which)) in page
    defenses = {record.subject.label for record in suites["whitebox"]} - {"Natural"}
    for other in defenses - {"CIARD"}:
        points("weighted", "pgd-sat", "CIARD", other)
    for other in defenses - {"SAT"}:
        points("robust", "pgd-sat", "SAT", other)
        points("robust", "cw-inf", "SAT", other)
    for one, other in (("TRADES", "SAT"), ("RSLAD", "SAT"), ("TRADES", "RSLAD")):
        assert found["robust", "autoattack", one, other].verdict.startswith("not significant")

    accuracy = {
        name: {record.subject.label: 100 * record.results[name].accuracy for record in suites["whitebox"]}
        for name in ("clean", "pgd-sat")
    }
    two = {"MTARD", "CIARD", "B-MTARD"}
    single = defenses - two
    low, high, most = (
        f(accuracy["clean"][each] for each in some) for f, some in ((min, two), (max, two), (max, single))
    )
    assert (
        f"{low:.1f} to {high:.1f} % of clean images, those of the other five defenses on at most {most:.1f} %" in page
    )
    low, high, least = (
        f(accuracy["pgd-sat"][each] for each in some) for f, some in ((min, two), (max, two), (min, single))
    )
    assert f"{low:.1f} to {high:.1f} %, the others at least {least:.1f} %" in page
    assert sorted(accuracy["clean"][each] for each in defenses)[:2] == sorted(
        accuracy["clean"][each] for each in ("SAT", "SCORE")
    )


def test_what_the_page_says_of_the_same_seed_again() -> None:
    moved: dict[str, list[float]] = {}
    records = load_records(RESULTS / "brief-cifar10", student="resnet20")
    again = {record.subject.run: record for record in records if record.suite == "whitebox"}
    for record in load_records(RESULTS / "brief-cifar10-first", student="resnet20"):
        results = again[record.subject.run].results
        moved[record.subject.label] = [
            100 * abs(results[name].accuracy - result.accuracy) for name, result in record.results.items()
        ]
    score = moved.pop("SCORE")
    assert set(moved) == {"SAT", "TRADES", "Natural"}
    most = max(map(max, moved.values()))
    assert f"moved by at most {most:.1f} points in any column, SCORE by {min(score):.1f} to {max(score):.1f}" in prose(
        "results"
    )


def test_what_the_page_says_of_the_teachers_over_the_epochs() -> None:
    rows = csv.DictReader((RESULTS / "brief-cifar10" / "figures" / "curves.csv").open(encoding="utf-8"))
    robust: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["model"] == "robust teacher":
            robust.setdefault(row["method"], []).append(row)
    ciard, rslad = robust["ciard"], robust["rslad"]
    page = prose("results")
    assert (
        "({:.1f} and {:.1f} %; untouched, as RSLAD's, {:.1f} %)".format(
            *(float(row["clean"]) for row in (ciard[0], ciard[-1], rslad[-1]))
        )
        in page
    )
    last = [float(each[-1]["robust"]) for each in (ciard, rslad)]
    assert (
        "on {:.1f} % of the images crafted on its student, RSLAD's, which does not learn, on {:.1f} %".format(*last)
        in page
    )
