"""What a duel's verdict and page say of records: order, limits, costs, and names that are no markup."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare import Comparison, compare_networks
from bench.analysis.compare_text import notes
from bench.records.files import write_record
from bench.records.networks import networks_of
from bench.records.record import Checks, Record
from bench.report.duel import write_duel
from bench.report.duel_cost import Costs, Found, cost_table, costs_of
from bench.report.duel_text import about, limits, said, title, verdict
from bench.system.home import Home
from bench.vocabulary import Selected

from ..helpers.records import RecordMaker

Make = Callable[..., list[Record]]
NOTHING = Costs({}, {})


@pytest.fixture
def seeds(make_record: RecordMaker) -> Make:
    """seeds("sat", 40, 42, 41): a record a seed, of so many samples right under AutoAttack; further words as its."""

    def make(method: str, *right: int, attack: str = "autoattack", **words: Any) -> list[Record]:
        return [
            make_record({"clean": 80 + seed, attack: count}, method=method, seed=seed, run=f"{method}-{seed}", **words)
            for seed, count in enumerate(right)
        ]

    return make


def compared(*sides: Sequence[Record]) -> Comparison:
    return compare_networks(networks_of([record for side in sides for record in side]))


def test_the_order_of_three_says_which_were_told_apart(seeds: Make) -> None:
    found = compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41), seeds("rslad", 40, 41, 43))
    first, *answers = said(found)
    assert first == (
        "In order under AutoAttack: RSLAD 41.33 %, CIARD 41.00 %, SAT 21.00 %; not told apart: CIARD and RSLAD."
    )
    assert [text.split(":")[0] for text in answers] == [
        *("SAT against CIARD", "SAT against RSLAD", "CIARD against RSLAD"),
    ]
    assert title(found.sides) == "SAT, CIARD and RSLAD"
    apart = compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41), seeds("rslad", 60, 61, 62))
    assert said(apart)[0].endswith("; all of them told apart.")
    noise = compared(seeds("sat", 20, 41, 62), seeds("ciard", 21, 40, 63), seeds("rslad", 19, 43, 61))
    assert said(noise)[0].endswith("; no two of them told apart.")


def test_two_sides_have_no_order_but_an_answer(seeds: Make) -> None:
    found = compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41))
    (answer,) = said(found)
    assert answer.startswith("CIARD is better under AutoAttack by 20.0 points (")
    assert title(found.sides) == "SAT against CIARD"


def test_what_was_measured_on_other_images_is_answered_apart(seeds: Make) -> None:
    """A white-box suite on all images, say, and AutoAttack on the first of them."""
    found = compared(
        *(
            [
                record.model_copy(update={"subject": record.subject.model_copy(update={"run": f"{method}-{seed % 3}"})})
                for seed, record in enumerate(seeds(method, *right) + seeds(method, *right, n=90, fingerprint="e" * 64))
            ]
            for method, right in (("sat", (20, 21, 22)), ("ciard", (40, 42, 41)))
        )
    )
    few, many = said(found)
    assert few.startswith("on the first 90 of cifar10 (eeeeeeee), official protocol, eps = 8/255: CIARD is better")
    assert many.startswith("on the first 100 of cifar10 (ffffffff), official protocol, eps = 8/255: CIARD is better")
    assert "90 of 10,000 test images of cifar10 within eps = 8/255 and 100 of 10,000" in limits(found)[0]


def test_three_seeds_speak_of_the_defenses_and_fewer_of_the_networks(seeds: Make) -> None:
    setting = "short recipe, 10 epochs, first 5000 training images"
    three = compared(seeds("sat", 20, 21, 22, setting=setting), seeds("ciard", 40, 42, 41, setting=setting))
    (limit,) = limits(three)
    assert limit == (
        f"It is a claim about the defenses as they are here: trained by the {setting}, on 100 of 10,000 test images of "
        "cifar10 within eps = 8/255."
    )
    two = compared(seeds("sat", 20, 21), seeds("ciard", 40, 42))
    assert limits(two)[0].startswith("It is a claim about these networks alone (trained by the official, 300 epochs, ")


def test_without_autoattack_the_verdict_is_said_to_rest_on_less(seeds: Make) -> None:
    with_it = compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41))
    assert not any("hidden gradients" in text for text in limits(with_it))
    without = compared(seeds("sat", 20, 21, 22, attack="pgd-sat"), seeds("ciard", 40, 42, 41, attack="pgd-sat"))
    assert any("AutoAttack is not among the attacks" in text for text in limits(without))


def test_whose_teachers_a_side_s_seeds_had_is_said(seeds: Make) -> None:
    shared = seeds("ard", 40, 42, 41, teachers={"robust": "aa" * 32})
    own = [
        record.model_copy(
            update={
                "subject": record.subject.model_copy(
                    update={"teacher_seeds": True, "teachers": {"robust": f"{record.subject.seed}b" * 32}}
                )
            }
        )
        for record in seeds("rslad", 20, 21, 22)
    ]
    found = compared(shared, own, seeds("sat", 10, 11, 12))
    assert limits(found)[1:] == [
        "All 3 seeds of ARD learned from one robust teacher: what others would change is not in their spread.",
        "Each seed of RSLAD learned from teachers of its own: what others change is in its spread.",
    ]


def test_costs_are_means_over_a_side_s_networks_and_the_best_that_is_the_last_counts_once(
    make_record: RecordMaker, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    records = []
    for method, hours in (("sat", 1.0), ("ciard", 3.0)):
        for seed in range(2):
            weights = f"{seed}{method[0]}" * 32
            for which in ("best", "last"):
                made = make_record(
                    {"clean": 80, "autoattack": 40 + seed},
                    method=method,
                    seed=seed,
                    run=f"{method}-{seed}",
                    hours=hours + seed,
                    checkpoint=weights,
                    checkpoint_of=which,
                    teachers={"robust": "aa" * 32} if method == "ciard" else {},
                )
                checks = Checks(passes=1, attack_passes=1000 * (1 + seed), seconds=1.0)
                records.append(made.model_copy(update={"checks": checks}))
    home.records.mkdir(parents=True)
    teacher = make_record(kind="teacher", role="robust", model="wrn-34-10", hours=10, checkpoint="aa" * 32)
    write_record(teacher, home.records)
    kept: tuple[Selected, ...] = ("best", "last")
    found: Found = {
        which: compare_networks(networks_of([each for each in records if each.subject.checkpoint_of == which]))
        for which in kept
    }
    costs = costs_of(home, found)
    assert {name: dict(cost.training) for name, cost in costs.sides.items()} == {
        "SAT": {"GPU A": 1.5 * 3600},
        "CIARD": {"GPU A": 3.5 * 3600},
    }
    assert {name: (cost.passes, *cost.attacks.values()) for name, cost in costs.sides.items()} == {
        "SAT": (1500.0, 5.0),
        "CIARD": (1500.0, 5.0),
    }
    assert costs.teachers == {"SAT wrn-34-10, robust teacher, seed 0": 36000}
    last = list(verdict(found, costs))[-1]
    assert "A network took: SAT 1.5 h to train and 5 s to attack, CIARD 3.5 h to train and 5 s to attack." in last
    assert last.endswith("The training of 1 teacher took 10.0 h.")
    table = cost_table(costs)
    assert table.rows[0] == ("SAT", "1.5 h", "5 s", "1,500", "GPU A and a device of no name")
    assert "selected weights and last weights" in about(found)


def test_a_record_that_does_not_say_what_it_took_costs_nothing_known(seeds: Make, tmp_path: Path) -> None:
    found: Found = {"best": compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41))}
    costs = costs_of(Home(tmp_path), found)
    assert [row[1:4] for row in cost_table(costs).rows] == [("–", "5 s", "–")] * 2
    assert "A network took" not in list(verdict(found, costs))[-1]


def test_failed_checks_stand_in_the_verdict_and_are_explained_on_the_page(seeds: Make, tmp_path: Path) -> None:
    flag = "pgd-sat breaks more than AutoAttack (12.0% against 14.0%)"
    found: Found = {"best": compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41, flags=[flag]))}
    assert "Checks of 3 evaluations failed" in list(verdict(found, NOTHING))[-2]
    page = tmp_path / "page.html"
    write_duel(page, found, NOTHING, "bench duel sat ciard")
    text = page.read_text(encoding="utf-8")
    assert flag in text
    assert "CIARD, seed 2, best" in text
    assert "AutoAttack failed on this model" in text


def test_names_are_no_markup_and_what_compare_notes_is_noted(seeds: Make, tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    found: Found = {"best": compared(seeds("sat", 20, 21, 22), seeds("ciard", 40, 42, 41, label=odd))}
    page = tmp_path / "page.html"
    write_duel(page, found, NOTHING, f"bench duel sat '{odd}'")
    text = page.read_text(encoding="utf-8")
    assert odd not in text
    assert text.count("&lt;script&gt;alert(1)") > 5
    for note in notes(found["best"]):
        assert note in html.unescape(text)


def test_an_interval_that_says_nothing_does_not_set_the_scale(seeds: Make, tmp_path: Path) -> None:
    """Seeds without any spread: Welch's interval is from -100 to 100, and all that is drawn stays in the drawing."""
    found: Found = {"best": compared(seeds("sat", 20, 20, 20), seeds("ciard", 40, 42, 41))}
    same = compared(
        *([record.model_copy() for record in seeds(name, 20, 20, 20)] for name in ("sat", "ciard")),
    )
    alike: Found = {"best": same}
    for each in (found, alike):
        page = tmp_path / "page.html"
        write_duel(page, each, NOTHING, "bench duel sat ciard")
        ends = re.findall(r'(?:x1|x2|cx)="(-?[\d.]+)"', page.read_text(encoding="utf-8"))
        assert ends
        assert all(abs(float(end)) <= 100 for end in ends)
