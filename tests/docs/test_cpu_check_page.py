"""What the page of the CPU check says is what its records and files have."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bench.records.outcomes import unpack

from ..helpers.places import RESULTS, prose


def test_what_the_cpu_check_says_of_autoattack_and_pgd() -> None:
    """Image by image; no table shows it."""
    fewer = {}
    for path in (RESULTS / "cpu-check" / "records").glob("*autoattack*"):
        strong = json.loads(path.read_text(encoding="utf-8"))
        weak = json.loads(Path(str(path).replace("autoattack-official-n100", "whitebox-official-n1000")).read_text())
        stands = unpack(strong["results"]["autoattack"]["final"], 100)
        stood = unpack(weak["results"]["pgd-sat"]["final"], 1000)[:100]
        assert not (stands & ~stood).any(), path
        fewer[strong["subject"]["method"]] = int(stood.sum() - stands.sum())
    assert len(fewer) == 12
    assert fewer.pop("natural") == 0
    assert (min(fewer.values()), max(fewer.values())) == (1, 7)


def test_what_the_cpu_check_says_that_no_table_shows() -> None:
    page = prose("cpu-check")
    folder = RESULTS / "cpu-check"
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "records").glob("*.json")]
    attacks = sum(record["seconds"] for record in records) / 3600
    training = {record["subject"]["run"]: record["subject"]["training"]["seconds"] for record in records}
    assert f"{sum(training.values()) / 3600:.1f} hours of training, {attacks:.1f} of attacks" in page

    white = [record for record in records if record["suite"] == "whitebox" and record["data"]["n"] == 1000]
    first = {
        record["subject"]["method"]: record["results"]
        for record in white
        if record["subject"]["seed"] == 0 and not record["subject"]["overrides"]
    }
    lowest = {name: 100 * results["cw-inf"]["accuracy"] for name, results in first.items()}
    said = "DARD {dard:.1f}, SAT (seed 0) {sat:.1f}, CIARD (seed 0) {ciard:.1f}"
    assert said.format(**{name: lowest[name] for name in ("dard", "sat", "ciard")}) in page
    for record in white:
        robust = {name: result["accuracy"] for name, result in record["results"].items() if name != "clean"}
        assert robust["cw-inf"] == min(robust.values())

    def last(run: str) -> dict[str, float]:
        (path,) = (folder / "metrics").glob(f"resnet20_{run}.jsonl")
        terms: dict[str, float] = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["terms"]
        return terms

    balanced, weighted, pushed = last("b-mtard_*"), last("mtard_*"), last("ciard_short_s0_099*")
    assert (f"{balanced['w_nat']:.2f}", f"{weighted['w_nat']:.2f}", f"{balanced['t_nat']:.2f}") == (
        "0.66",
        "0.66",
        "1.23",
    )
    assert f"{100 * pushed['pushed_share']:.0f} % of them in the last epoch" in page
    assert "0.66 of MTARD's and of B-MTARD's loss" in page


def contrasts(file: str, attack: str, number: str) -> dict[frozenset[str], list[str]]:
    """The cells (difference, p, p after Holm, verdict) of every pair of sides that a text of `bench compare` holds."""
    found = {}
    for section in (RESULTS / "cpu-check" / file).read_text(encoding="utf-8").split("## ")[1:]:
        sides = frozenset(section.splitlines()[0].split(" against "))
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if cells[:2] == [attack, number]:
                found[sides] = cells[-4:]
    return found


def test_what_the_cpu_check_says_of_its_tests() -> None:
    page = prose("cpu-check")
    weighted = contrasts("pairs.txt", "pgd-sat", "W-R")
    assert len(weighted) == 14 * 13 / 2
    significant = [sides for sides, cells in weighted.items() if cells[-1].endswith(" is better")]

    def told_apart(name: str) -> set[str]:
        return {other for sides in significant if name in sides for other in sides - {name}}

    ablations = {"CIARD (push=false)", "CIARD (itt=false, push=false)"}
    assert told_apart("DARD") == set[str]().union(*weighted) - {"DARD"} - ablations
    assert f"above SAT (p = {float(weighted[frozenset({'DARD', 'SAT'})][2]):.3f} after" in page
    assert told_apart("SAT") == {"DARD", "SCORE"}
    robust = contrasts("pairs.txt", "pgd-sat", "robust accuracy")
    open_ = [sides for sides, cells in robust.items() if "SAT" in sides and not cells[-1].endswith(" is better")]
    assert set[str]().union(*open_) == {"SAT", "DARD"}
    assert f"DARD (24.90, p = {float(robust[frozenset({'DARD', 'SAT'})][2]):.3f})" in page
    assert told_apart("CIARD") == {"DARD", "SCORE"}
    assert f"SCORE (27.85, p = {float(weighted[frozenset({'SAT', 'SCORE'})][2]):.2g})" in page

    numbers = (("clean", "clean accuracy"), ("pgd-trades", "robust accuracy"), ("pgd-trades", "W-R"))
    ablation = [
        (number, sides, cells)
        for attack, number in numbers
        for sides, cells in contrasts("ablation.md", attack, number).items()
    ]
    assert len(ablation) == 9
    ((number, sides, ciard),) = [each for each in ablation if each[2][-1].endswith(" is better")]
    assert (number, sides) == ("W-R", {"CIARD", "CIARD (itt=false, push=false)"})
    p = float(ciard[1].split()[0])
    assert f"p = {p:.3f} before the correction and {ciard[2]} after it" in page
    assert p == min(float(cells[1].split()[0]) for _, _, cells in ablation)
    assert f"over all nine it would be {9 * p:.3f}" in page
    assert "-1.43 " in ciard[0]

    (score,) = (
        cells
        for sides, cells in contrasts("score.md", "pgd-sat", "W-R").items()
        if "SAT" in sides and "63c1641c" in str(sides)
    )
    assert score[-1].endswith("_s0_63c1641c is better")
    assert f"2.35 above SAT with 10 (p = {float(score[2]):.3f};" in page


SIX = frozenset({"AdaAD", "CIARD", "DARD", "RSLAD", "SAT", "TRADES-AWP"})


def told_apart(file: str, attack: str, number: str) -> set[tuple[str, str]]:
    """(better, worse) of the pairs of the six that are told apart after the correction over all 15."""
    pairs = contrasts(file, attack, number)
    assert len(pairs) == 15
    better = {sides: cells[-1].removesuffix(" is better") for sides, cells in pairs.items()}
    return {(name, other) for sides, name in better.items() for other in sides - {name} if name in sides}


def test_what_the_cpu_check_says_of_six_defenses_over_seeds() -> None:
    page = prose("cpu-check")

    def above(attack: str, number: str) -> set[tuple[str, str]]:
        return told_apart("over-seeds.md", attack, number)

    def others(name: str) -> frozenset[str]:
        return SIX - {name}

    robust = above("pgd-sat", "robust accuracy")
    assert robust == {("DARD", "AdaAD"), *((name, "CIARD") for name in others("CIARD"))}
    (cells,) = (
        each
        for sides, each in contrasts("over-seeds.md", "pgd-sat", "robust accuracy").items()
        if sides == {"DARD", "AdaAD"}
    )
    assert cells[0].startswith("-2.15 ")
    assert "CIARD is significantly below the other five. Of these only DARD and AdaAD are told apart, by 2.15" in page
    clean, weighted = above("clean", "clean accuracy"), above("pgd-sat", "W-R")
    of_ciard, over_sat = {("CIARD", name) for name in others("CIARD")}, {(name, "SAT") for name in others("SAT")}
    assert of_ciard | over_sat <= clean
    assert over_sat | {("DARD", name) for name in others("DARD")} == weighted
    assert (
        "CIARD is significantly above all others, and SAT below all; so it is in W-R, where DARD is above all" in page
    )

    def checkpoints(campaign: str, pattern: str) -> set[str]:
        paths = (RESULTS / campaign / "records").glob(f"*resnet20_{pattern}_short_s0_*whitebox*")
        return {json.loads(path.read_text(encoding="utf-8"))["subject"]["checkpoint"] for path in paths}

    for pattern in ("clean-teacher", "robust-teacher", "rslad", "dard"):
        assert len(checkpoints("cpu-seeds", pattern) & checkpoints("cpu-check", pattern)) == 1, pattern
    records = [json.loads(path.read_text()) for path in (RESULTS / "cpu-seeds" / "records").glob("*.json")]
    attacks = sum(record["seconds"] for record in records) / 3600
    training = {record["subject"]["run"]: record["subject"]["training"]["seconds"] for record in records}
    assert f"{sum(training.values()) / 3600:.1f} hours of training, {attacks:.1f} of attacks in two seeds" in page


def test_what_the_cpu_check_says_of_seed_2() -> None:
    page = prose("cpu-check")
    robust = told_apart("seed-2.md", "pgd-sat", "robust accuracy")
    assert robust == told_apart("over-seeds.md", "pgd-sat", "robust accuracy")
    cells = contrasts("seed-2.md", "pgd-sat", "robust accuracy")[frozenset({"AdaAD", "DARD"})]
    assert cells[0].startswith("-2.40 ")
    assert len(robust) == 6
    assert (
        "the same six of the 15 pairs are told apart, CIARD below the other five, and AdaAD below DARD, by 2.40" in page
    )
    over_sat = {(name, "SAT") for name in SIX - {"SAT"}}
    clean = told_apart("seed-2.md", "clean", "clean accuracy")
    assert over_sat | {("CIARD", name) for name in SIX - {"CIARD"}} <= clean
    assert told_apart("seed-2.md", "pgd-sat", "W-R") == over_sat | {("DARD", "RSLAD")}
    assert "Not found again: in W-R, DARD is significantly above SAT and RSLAD alone." in page


def test_every_number_of_the_cpu_check_stands_in_one_of_its_files() -> None:
    """Numbers with two decimals, as tables have them; the tests above hold what is said of them."""
    folder = RESULTS / "cpu-check"
    tables = (folder, RESULTS / "cpu-seeds", RESULTS / "cpu-seed-2")
    files = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.*"))
    files += "".join(path.read_text(encoding="utf-8") for home in tables for path in home.glob("tables/*.md"))
    metrics = {"0.66"}  # test_what_the_cpu_check_says_that_no_table_shows
    said = set(re.findall(r"(?<![\d.])\d+\.\d\d(?!\d)", prose("cpu-check")))
    assert len(said) > 40
    assert said - metrics - set(re.findall(r"(?<![\d.])\d+\.\d\d(?!\d)", files)) == set()


def test_what_the_cpu_check_says_of_the_papers_order() -> None:
    page = prose("cpu-check")
    lines = (RESULTS / "cpu-check" / "order.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(("| 3 ", "| 5 "))]

    def pairs(table: str, quantity: str) -> list[int]:
        """Apart in the paper, same here, reversed here, not told apart here."""
        chosen = [row[4:] for row in rows if (row[0], row[2]) == (table, quantity)]
        return [sum(map(int, column)) for column in zip(*chosen, strict=True)]

    apart, same, *_ = pairs("3", "clean")
    assert f"{same} of {apart} pairs are the same way round" in page
    apart, same, reversed_, _ = pairs("3", "robust")
    assert f"{reversed_} of {apart} pairs are reversed, {same} the same" in page
    apart, _, _, open_ = pairs("3", "W-R")
    assert f"{open_} of {apart} pairs are open" in page
    apart, same, *_ = pairs("5", "W-R")
    assert f"{same} of {apart} are the same" in page
