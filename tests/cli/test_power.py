"""bench power as a user calls it: by published spreads, by one's own, by the networks that are here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records.files import write_record
from bench.stats import detectable
from bench.stats.planning import DISCORDANCE, PUBLISHED_IMAGES, PUBLISHED_SPREAD, Variation, images_needed
from bench.stats.power import smallest
from bench.system.home import Home

from ..helpers.commands import Bench
from ..helpers.places import DEMO, DOCS
from ..helpers.records import RecordMaker

N = 200
RIGHT = {"sat": (100, 104, 110), "ard": (90, 92, 97)}
"""The first images are right, of each seed as many."""


@pytest.fixture
def seeds(make_record: RecordMaker, tmp_path: Path) -> Path:
    """A home with three seeds each of SAT and ARD, and one of TRADES."""
    for method, right in {**RIGHT, "trades": (80,)}.items():
        for seed, count in enumerate(right):
            record = make_record(
                {"clean": 150 + seed, "fgsm": count}, method=method, seed=seed, run=f"{method}-s{seed}", n=N
            )
            write_record(record, Home(tmp_path).records)
    return tmp_path


def _asked(bench: Bench, *words: object, home: Path) -> list[dict[str, Any]]:
    result = bench("power", *words, "--json", home=home)
    assert result.code == 0, result
    plans: list[dict[str, Any]] = json.loads(result.out)["plans"]
    return plans


def test_before_anything_is_trained_it_goes_by_published_spreads(bench: Bench, tmp_path: Path) -> None:
    (found,) = _asked(bench, "--difference", 0.5, home=tmp_path)
    assert found["number"]["sides"] == []
    assert found["number"]["taken"]["spread"] == list(PUBLISHED_SPREAD)
    (needed,) = found["needed"]
    low, high = (Variation(spread, PUBLISHED_IMAGES, *DISCORDANCE) for spread in PUBLISHED_SPREAD)
    assert needed["seeds"] == [each.seeds_needed(0.005, 10_000, False) for each in (low, high)]
    assert needed["seeds_others"] == [None, None]
    assert needed["images_one_network"] == images_needed(DISCORDANCE[0], 0.005)
    assert [(each["seeds"], each["images"]) for each in found["reach"]] == [
        (seeds, images) for seeds in (1, 3, 5, 10, None) for images in (1000, 10_000)
    ]


def test_the_two_questions_are_kept_apart_in_words(bench: Bench, tmp_path: Path) -> None:
    out = bench("power", "--difference", 0.5, home=tmp_path).out
    assert out.startswith("Two-sided tests at 5 %; to be found in 80 % of cases.\n")
    assert (
        "Seeds spread by 0.10 to 0.60 points on 10,000 images: by what is published of ResNet-18 under AutoAttack."
        in out
    )
    (seeds,) = (line for line in out.splitlines() if line.startswith("- for other seeds, on the same 10,000 images"))
    assert seeds.endswith("(Welch's t-test over seeds): 3 to 24 seeds a side")
    assert "- between one network each, on other images (McNemar's exact test): " in out
    assert "- for other seeds and other images (interval over both): at least " in out
    cells = {
        line.split("  ")[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()
    }
    page = " ".join((DOCS / "statistics.md").read_text(encoding="utf-8").split())
    assert "half a point takes 3 to 24 seeds a side on CIFAR-10's 10,000 test images" in page
    assert (
        "about 47,500 images between one network each. On other images no number of seeds shows it with 10,000." in page
    )
    same, other = cells["3"][-2:]
    assert f"What three seeds a side find is {same} points on the same images, and {other} points on others." in page
    assert "(McNemar's exact test): 47,500 images" in out
    rows = list(cells)
    assert rows[rows.index("seeds a side") :][:6] == ["seeds a side", "one network each", "3", "5", "10", "any number"]


def test_without_a_difference_it_says_the_smallest_of_so_many_seeds_and_images(bench: Bench, tmp_path: Path) -> None:
    (found,) = _asked(bench, "--seeds", 4, "--images", 5000, "--spread", 0.5, home=tmp_path)
    assert found["needed"] == []
    (reach,) = (each for each in found["reach"] if each["seeds"] == 4)
    varying = Variation(0.005, 5000, *DISCORDANCE)  # a spread that is given is on the images that are
    assert reach["same"] == [smallest(varying.power(4, 5000, False))]
    assert reach["others"] == [smallest(varying.power(4, 5000, True))]


def test_level_power_rivals_and_discordance_count(bench: Bench, tmp_path: Path) -> None:
    def one_network(*words: object) -> int:
        (found,) = _asked(bench, "--difference", 1, "--seeds", 3, "--images", 100, *words, home=tmp_path)
        number: int = found["needed"][0]["images_one_network"]
        return number

    assert one_network() == images_needed(DISCORDANCE[0], 0.01)
    assert one_network("--discordance", 30) == images_needed(0.3, 0.01)
    assert one_network("--power", 0.9) == images_needed(DISCORDANCE[0], 0.01, wanted=0.9)
    assert one_network("--rivals", 5) == one_network("--level", 0.01) == images_needed(DISCORDANCE[0], 0.01, 0.01)
    assert (
        "at 5 %, shared by 5 differences (Holm's first step); to be found in 90 % of cases"
        in bench("power", "--rivals", 5, "--power", 0.9, home=tmp_path).out
    )


def test_it_goes_by_the_networks_that_are_named(bench: Bench, seeds: Path) -> None:
    clean, found = _asked(bench, "sat", "ard", "--difference", 4, home=seeds)
    assert [each["number"]["attack"] for each in (clean, found)] == ["clean", "fgsm"]
    number, taken = found["number"], found["number"]["taken"]
    assert (number["sides"], number["test"], taken["seeds"]) == (["SAT", "ARD"], "welch", [3, 3])
    shares = [np.array(right) / N for right in RIGHT.values()]
    spread = float(np.sqrt(np.mean([np.var(each, ddof=1) for each in shares])))
    low, likely, high = taken["spread"]
    assert likely == pytest.approx(spread)
    assert (low / likely, high / likely) == pytest.approx(
        (0.599, 2.874), abs=0.001
    )  # chi-squared, 4 degrees of freedom
    assert taken["between"] == pytest.approx(np.mean(np.abs(shares[0][:, None] - shares[1])))
    assert taken["within"] == pytest.approx(np.mean([abs(a - b) for own in shares for a in own for b in own]) * 1.5)
    sides = [[np.arange(N) < right for right in own] for own in RIGHT.values()]
    assert number["detectable"] == detectable(sides[0], sides[1])
    varying = Variation(spread, N, taken["between"], taken["within"])
    assert found["needed"][0]["seeds"][1] == varying.seeds_needed(0.04, N, False)
    assert found["reach"] == []


def test_of_one_attack_there_is_a_table_of_seeds_and_images(bench: Bench, seeds: Path) -> None:
    (found,) = _asked(bench, "sat", "ard", "--attack", "fgsm", home=seeds)
    assert {each["images"] for each in found["reach"]} == {N}
    out = bench("power", "sat", "ard", "--attack", "fgsm", home=seeds).out
    assert "SAT against ARD on the first 200 of cifar10" in out
    assert "3 and 3 seeds here, which leave open what is in brackets" in out
    assert "would be found, by Welch's t-test over seeds." in out
    assert "(by this project's CPU check)" not in out


def test_of_several_attacks_there_is_a_line_each_and_a_spread_that_no_seed_tells_is_marked(
    bench: Bench, seeds: Path
) -> None:
    result = bench("power", "sat-s0", "trades", "--difference", 4, home=seeds)
    assert result.code == 0, result
    (row,) = (line.split("  ") for line in result.out.splitlines() if line.startswith("fgsm"))
    assert [cell.strip() for cell in row if cell.strip()][:3] == ["fgsm", "–", "0.10 to 0.60 *"]
    assert "*: a default that --help names" in result.out


def test_seeds_that_all_have_the_same_number_have_no_spread_to_take(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    files = [
        write_record(make_record({"fgsm": right}, method=method, seed=seed), tmp_path)
        for method, right in (("sat", 60), ("ard", 50))
        for seed in range(3)
    ]
    result = bench("power", *files, "--difference", 5, "--seeds", 3, home=tmp_path)
    assert result.code == 0, result
    assert "all seeds of a side have the same number, of which Welch's t-test over seeds tells nothing" in result.out
    assert "by what is published of ResNet-18 under AutoAttack" in result.out
    assert "two seeds of one on 0 % (as here)" in result.out


def test_seeds_of_one_defense_tell_their_spread_and_what_a_rival_may_differ_on(bench: Bench, seeds: Path) -> None:
    (found,) = _asked(bench, "sat", "--attack", "fgsm", home=seeds)
    taken = found["number"]["taken"]
    assert (found["number"]["sides"], found["number"]["test"]) == (["SAT"], None)
    assert (taken["spread_from"], taken["within_from"], taken["between_from"]) == ("records", "records", "default")
    assert taken["between"] == pytest.approx(taken["within"] * DISCORDANCE[0] / DISCORDANCE[1])


def test_all_pairs_of_sides_share_the_level(bench: Bench, seeds: Path) -> None:
    result = json.loads(bench("power", "sat", "ard", "trades", "--attack", "fgsm", "--json", home=seeds).out)
    assert (result["rivals"], len(result["plans"])) == (3, 3)
    assert json.loads(bench("power", "sat", "ard", "--rivals", 2, "--json", home=seeds).out)["rivals"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trades",), "One network has no spread over seeds"),
        (("sat", "ard", "--attack", "pgd-sad"), "Unknown attack"),
        (("no-such",), "Unknown run"),
        (("--attack", "fgsm"), "choose among records"),
        (("--spread", "0.6-0.1"), "write it as 0.1-0.6"),
        (("--spread", "wide"), "no range of points"),
        (("--spread", "0"), "no range of points"),
        (("--difference", "0"), "--difference"),
        (("--seeds", "2"), "--seeds"),
        (("--power", "1"), "--power"),
    ],
)
def test_mistakes_are_named(bench: Bench, seeds: Path, words: tuple[str, ...], message: str) -> None:
    assert message in bench("power", *words, home=seeds).mistake


def test_networks_without_a_common_sample_are_refused(bench: Bench, make_record: RecordMaker, tmp_path: Path) -> None:
    files = [
        write_record(make_record({"fgsm": 50}, method=method, fingerprint=sign * 64), tmp_path)
        for method, sign in (("sat", "a"), ("ard", "b"))
    ]
    assert "have nothing in common on the same samples" in bench("power", *files, home=tmp_path).mistake


def test_it_reads_the_demo(bench: Bench) -> None:
    """One seed each: how often they differ is measured, how seeds vary is not."""
    result = bench("power", "sat", "trades", "--student", "digits-cnn", "--difference", 5, home=DEMO)
    assert result.code == 0, result
    assert "0.10 to 0.60 *" in result.out
