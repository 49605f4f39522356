"""Comparisons of records: what is compared with what, by which test, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.answer import answer
from bench.analysis.compare import Comparison, Contrast, compare_networks, find_networks
from bench.errors import BenchError
from bench.records.files import write_record
from bench.records.record import Record
from bench.stats import detectable, mcnemar, paired_scores, two_level_interval, weighted_scores, welch, wilson_interval
from bench.system.home import Home
from bench.vocabulary import Norm

from ..helpers.records import RecordMaker

N = 300


def _outcomes(share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < share


def _compare(
    folder: Path, records: list[Record], *names: str, attacks: tuple[str, ...] = (), **options: Any
) -> Comparison:
    home = Home(folder)
    for record in records:
        write_record(record, home.records)
    runs = names or tuple(dict.fromkeys(str(record.subject.run) for record in records))
    return compare_networks(find_networks(runs, home, **options), attacks)


def _of(found: Comparison, attack: str, quantity: str) -> Contrast:
    (contrast,) = [each for each in found.contrasts if (each.attack, each.quantity) == (attack, quantity)]
    return contrast


def _seeds(make_record: RecordMaker, method: str, shares: list[float], **changes: Any) -> list[Record]:
    return [
        make_record(
            {"clean": _outcomes(0.9, seed), "fgsm": _outcomes(share, 100 + seed)},
            method=method,
            run=f"{method}-s{seed}",
            seed=seed,
            checkpoint=f"{seed:064d}",
            n=N,
            **changes,
        )
        for seed, share in enumerate(shares)
    ]


def test_two_networks_are_compared_sample_by_sample(make_record: RecordMaker, tmp_path: Path) -> None:
    a = {"clean": _outcomes(0.9, 1), "fgsm": _outcomes(0.7, 2)}
    b = {"clean": _outcomes(0.88, 3), "fgsm": _outcomes(0.5, 4)}
    found = _compare(tmp_path, [make_record(a, n=N), make_record(b, method="ard", n=N)])
    assert [(each.attack, each.quantity) for each in found.contrasts] == [
        ("clean", "clean"),
        ("fgsm", "robust"),
        ("fgsm", "weighted"),
    ]
    robust, weighted = _of(found, "fgsm", "robust"), _of(found, "fgsm", "weighted")
    assert (robust.difference, robust.test) == (mcnemar(a["fgsm"], b["fgsm"]), "mcnemar")
    assert robust.accuracies[0].interval == wilson_interval(int(a["fgsm"].sum()), N)
    scores = [weighted_scores(each["clean"], each["fgsm"]) for each in (a, b)]
    assert (weighted.difference, weighted.test) == (paired_scores(*scores), "score")
    assert [each.p_holm for each in found.contrasts] == [each.difference.p for each in found.contrasts]
    assert _of(found, "clean", "clean").detectable == pytest.approx(detectable([a["clean"]], [b["clean"]]))
    assert robust.detectable is None
    assert robust.verdict == "SAT is better"
    assert _of(found, "clean", "clean").verdict == "not significant (p > 0.05)"


def _answer(found: Comparison) -> str:
    return answer(found.contrasts)


def test_the_answer_is_one_sentence(make_record: RecordMaker, tmp_path: Path) -> None:
    """Ten samples ahead of clean ones; two ahead under PGD, of which no test could tell anything."""
    a = {"clean": 90, "pgd-sat": 52, "transfer:cw-inf": 60}
    b = {"clean": 80, "pgd-sat": 50, "transfer:cw-inf": 60}
    text = _answer(_compare(tmp_path, [make_record(a), make_record(b, method="ciard", label="CIARD")]))
    assert re.fullmatch(
        r"SAT is better in clean accuracy by 10\.0 points \(\d+\.\d to \d+\.\d\); under PGD-SAT, under transferred CW∞ "
        r"and under all attacks at once no difference was found; with these 100 images 7\.\d points could have been\.",
        text,
    ), text


@pytest.mark.parametrize(("norm", "said"), [("linf", "under CW∞"), ("l2", "under CW")])
def test_the_answer_names_no_norm_but_the_attack_s_own(
    make_record: RecordMaker, tmp_path: Path, norm: Norm, said: str
) -> None:
    pair = [make_record({"clean": 90, "cw-inf": 50}, method=name, norm=norm, eps=0.5) for name in ("sat", "ard")]
    assert f"{said} no difference" in _answer(_compare(tmp_path, pair))


def test_the_answer_over_seeds_names_the_one_that_is_better_and_what_could_have_been_found(
    make_record: RecordMaker, tmp_path: Path
) -> None:
    found = _compare(tmp_path, _seeds(make_record, "sat", [0.3] * 3) + _seeds(make_record, "ard", [0.7] * 3))
    text = _answer(found)
    least = 100 * (_of(found, "clean", "clean").detectable or 0)
    assert text.startswith("ARD is better under FGSM by ")
    assert f"in clean accuracy no difference was found; with 3 seeds {least:.1f} points could have been." in text


def test_the_better_one_is_named_whichever_comes_first(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [make_record({"fgsm": right}, method=name) for name, right in (("sat", 20), ("ard", 60))]
    assert _of(_compare(tmp_path, records), "fgsm", "robust").verdict == "ARD is better"


def test_holms_correction_is_over_the_pairs_of_one_number_as_in_a_column_of_a_table(
    make_record: RecordMaker, tmp_path: Path
) -> None:
    """Seven samples ahead has p = 2 / 2^7 = 0.0156: significant of two sides, whatever else they were measured with."""
    more = dict.fromkeys(("pgd-sat", "pgd-trades", "cw-inf", "square"), 50)
    records = [make_record({"fgsm": right, **more}, method=name) for name, right in (("sat", 57), ("ard", 50))]
    found = _compare(tmp_path, records)
    assert (_of(found, "fgsm", "robust").verdict, _of(found, "fgsm", "robust").family) == ("SAT is better", 1)
    records += [make_record({"fgsm": right, **more}, method=name) for name, right in (("trades", 50), ("mtard", 50))]
    found = _compare(tmp_path / "more", records)
    first = [
        each for each in found.contrasts if (each.sides[0], each.attack, each.quantity) == ("SAT", "fgsm", "robust")
    ]
    for robust in first:
        assert (robust.p_holm, robust.family) == (pytest.approx(6 * 2 / 2**7), 6)
        assert robust.verdict == "SAT is better taken alone, not significant as one of 6"
        assert robust.difference.low > 0  # which "not significant" alone would seem to deny


def test_all_attacks_at_once_are_compared_where_they_are_the_same_ones(
    make_record: RecordMaker, tmp_path: Path
) -> None:
    both = [make_record({"clean": 90, "fgsm": right, "bim": 40}, method=name) for name, right in (("a", 60), ("b", 30))]
    worst = _of(_compare(tmp_path, both), "worst", "robust")
    assert [each.value for each in worst.accuracies] == [0.4, 0.3]
    other = make_record({"clean": 90, "fgsm": 10, "square": 40}, method="c")
    found = _compare(tmp_path / "more", [both[0], other])
    assert {each.attack for each in found.contrasts} == {"clean", "fgsm"}
    assert "worst: not all were under the same attacks" in found.left_out[0]


def test_runs_that_differ_in_the_seed_alone_are_one_side(make_record: RecordMaker, tmp_path: Path) -> None:
    records = _seeds(make_record, "sat", [0.7, 0.72, 0.74]) + _seeds(make_record, "ard", [0.3, 0.32, 0.34])
    found = _compare(tmp_path, records)
    assert [(side.name, len(side.networks)) for side in found.sides] == [("SAT", 3), ("ARD", 3)]
    contrast = _of(found, "fgsm", "robust")
    means = [
        [_outcomes(share, 100 + i).mean() for i, share in enumerate(shares)]
        for shares in ((0.7, 0.72, 0.74), (0.3, 0.32, 0.34))
    ]
    assert (contrast.difference, contrast.test) == (welch(*means), "welch")
    first = contrast.accuracies[0]
    assert (first.value, first.std, first.seeds) == (np.mean(means[0]), np.std(means[0], ddof=1), 3)
    assert first.interval is None
    assert contrast.verdict == "SAT is better"


def test_fewer_than_three_seeds_are_compared_over_samples(make_record: RecordMaker, tmp_path: Path) -> None:
    found = _compare(tmp_path, _seeds(make_record, "sat", [0.7, 0.7, 0.7]) + _seeds(make_record, "ard", [0.5, 0.5]))
    assert {contrast.test for contrast in found.contrasts} == {"score"}
    assert {contrast.two_level for contrast in found.contrasts} == {None}


def _alike(make_record: RecordMaker, method: str, right: list[int]) -> list[Record]:
    """Seeds that are right on the same images, but for one or two."""
    return [
        make_record({"fgsm": np.arange(N) < count}, method=method, run=f"{method}-s{seed}", seed=seed, n=N)
        for seed, count in enumerate(right)
    ]


def test_seeds_agree_on_a_difference_that_other_images_could_change(make_record: RecordMaker, tmp_path: Path) -> None:
    """Two images ahead of 300, whichever seed: Welch's test is sure, and right, of these images."""
    found = _compare(
        tmp_path, _alike(make_record, "sat", [152, 153, 153]) + _alike(make_record, "ard", [150, 150, 151])
    )
    (contrast,) = (each for each in found.contrasts if (each.attack, each.quantity) == ("fgsm", "robust"))
    sides = [[np.arange(N) < count for count in right] for right in ([152, 153, 153], [150, 150, 151])]
    assert contrast.two_level == two_level_interval(*sides)
    assert contrast.two_level[0] < 0 < contrast.difference.low
    assert contrast.verdict == "SAT is better"
    assert re.search(
        r"SAT is better under FGSM by 0\.8 points \(0\.\d to 1\.\d; on these images, others could change it\)",
        answer(found.contrasts),
    )
    assert re.search(
        r"\+0\.78 \[\+0\.\d\d, \+1\.\d\d\] \(\[-\d\.\d\d, \+\d\.\d\d\] on other images too\), SAT is better",
        str(contrast),
    )


def test_a_difference_on_any_images_is_told_without_reserve(make_record: RecordMaker, tmp_path: Path) -> None:
    found = _compare(
        tmp_path, _alike(make_record, "sat", [200, 203, 204]) + _alike(make_record, "ard", [150, 150, 153])
    )
    assert found.contrasts[0].two_level is not None
    assert found.contrasts[0].two_level[0] > 0
    assert "could change it" not in answer(found.contrasts)


def test_all_seeds_finds_the_other_seeds_and_nothing_else(make_record: RecordMaker, tmp_path: Path) -> None:
    records = _seeds(make_record, "sat", [0.7] * 3) + _seeds(make_record, "ard", [0.5] * 3)
    records.append(make_record({"fgsm": 1}, method="sat", run="sat-other", setting="short, 20 epochs", n=N))
    records.append(make_record({"fgsm": 1}, method="sat", run="sat-weight", overrides={"weight": 2}, n=N))
    found = _compare(tmp_path, records, "sat-s0", "ard-s1", all_seeds=True)
    assert [{network.name for network in side.networks} for side in found.sides] == [
        {"sat-s0", "sat-s1", "sat-s2"},
        {"ard-s0", "ard-s1", "ard-s2"},
    ]


def test_seeds_of_one_defense_alone_are_compared_with_each_other(make_record: RecordMaker, tmp_path: Path) -> None:
    found = _compare(tmp_path, _seeds(make_record, "sat", [0.7, 0.5]))
    assert [side.name for side in found.sides] == ["sat-s0", "sat-s1"]
    assert _of(found, "fgsm", "robust").test == "mcnemar"


def test_sides_of_one_label_are_told_apart(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [
        make_record(method="sat", run="one"),
        make_record(method="sat", run="two", setting="short, 20 epochs"),
        make_record(method="sat", run="three", overrides={"weight": 2}),
    ]
    assert [side.name for side in _compare(tmp_path, records).sides] == ["one", "two", "SAT (weight=2)"]


def test_a_record_file_stands_for_its_network(make_record: RecordMaker, tmp_path: Path) -> None:
    theirs = make_record({"clean": 80, "fgsm": 30}, kind="checkpoint", method="theirs", label="theirs", seed=None)
    path = write_record(theirs, tmp_path)
    ours = make_record({"clean": 80, "fgsm": 60}, run="ours")
    found = _compare(tmp_path / "records", [ours], "ours", str(path))
    assert _of(found, "fgsm", "robust").verdict == "SAT is better"


def test_each_condition_is_compared_by_itself_and_the_newest_record_counts(
    make_record: RecordMaker, tmp_path: Path
) -> None:
    records = [
        make_record({"clean": 90, "fgsm": 60}, run="a", minute=1),
        make_record({"clean": 80, "fgsm": 70}, run="a", minute=2),
        make_record({"clean": 40, "fgsm": 30}, run="a", n=50, fingerprint="0" * 64),
        make_record({"clean": 80, "fgsm": 20}, run="b", method="ard"),
        make_record({"clean": 40, "fgsm": 30}, run="b", method="ard", n=50, fingerprint="0" * 64),
    ]
    found = _compare(tmp_path, records)
    assert [(each.condition.n, each.difference.value) for each in found.contrasts if each.quantity == "robust"] == [
        (50, pytest.approx(0)),
        (100, pytest.approx(0.5)),
    ]


def test_what_only_one_was_measured_with_is_left_out_and_said(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [
        make_record({"clean": 80, "fgsm": 60}, run="a"),
        make_record({"clean": 40, "autoattack": 20}, run="a", n=50, fingerprint="0" * 64),
        make_record({"clean": 80, "fgsm": 50, "autoattack": 40}, run="b", method="ard"),
    ]
    found = _compare(tmp_path, records)
    assert {each.attack for each in found.contrasts} == {"clean", "fgsm"}
    assert found.left_out == (
        "autoattack: SAT on the first 50 of cifar10 (00000000), official protocol, eps = 8/255, but "
        "ARD on the first 100 of cifar10 (ffffffff), official protocol, eps = 8/255",
        "worst: not all were under the same attacks on the first 100 of cifar10 (ffffffff), official protocol, "
        "eps = 8/255",
    )


def test_an_attack_that_a_seed_lacks_is_left_out(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [*_seeds(make_record, "sat", [0.7] * 3), *_seeds(make_record, "ard", [0.5] * 3)]
    records += [
        make_record({"square": 90}, run=f"{name}-s{seed}", method=name, seed=seed, n=N)
        for name, seed in (("sat", 0), ("sat", 1), ("ard", 0))
    ]
    found = _compare(tmp_path, records, *(f"{name}-s{seed}" for name in ("sat", "ard") for seed in range(3)))
    assert "square: SAT (2 of 3 seeds)" in found.left_out[0]
    assert {each.attack for each in found.contrasts} == {"clean", "fgsm"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 50}, "the first 100 of cifar10"),
        ({"fingerprint": "0" * 64}, "(00000000)"),
        ({"protocol": "paper"}, "paper protocol"),
        ({"eps": 4 / 255}, "eps = 4/255"),
    ],
)
def test_nothing_in_common_is_refused_with_what_differs(
    make_record: RecordMaker, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    counts = {"clean": 40, "fgsm": 30}
    with pytest.raises(BenchError, match="no attack in common on the same samples") as caught:
        _compare(tmp_path, [make_record(counts), make_record(counts, method="ard", **change)])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [({"parameters": {"steps": 40}}, '{"steps": 40}'), ({"surrogate": "cd" * 32}, "other surrogate")],
)
def test_another_attack_of_the_same_name_is_refused(
    make_record: RecordMaker, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    counts = {"clean": 80, "transfer:cw-inf": 60}
    with pytest.raises(BenchError, match="transfer:cw-inf on the first 100") as caught:
        _compare(
            tmp_path, [make_record(counts), make_record(counts, method="ard", **change)], attacks=("transfer:cw-inf",)
        )
    assert said in str(caught.value)


def test_only_the_attacks_asked_for_are_compared(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [make_record(run="a"), make_record(run="b", method="ard")]
    assert {each.attack for each in _compare(tmp_path, records, attacks=("cw-inf",)).contrasts} == {"cw-inf"}
    networks = find_networks(["a", "b"], Home(tmp_path))
    assert {each.quantity for each in compare_networks(networks, ["clean"]).contrasts} == {"clean"}
    with pytest.raises(BenchError, match="Did you mean 'pgd-sat'"):
        compare_networks(networks, ["pgd-sad"])


def test_names_that_lead_nowhere_are_refused(make_record: RecordMaker, tmp_path: Path) -> None:
    for record in (make_record(run="run-a"), make_record(run="run-b", method="ard")):
        write_record(record, Home(tmp_path).records)
    with pytest.raises(BenchError, match="Did you mean 'run-b'"):
        find_networks(["run-a", "run-bb"], Home(tmp_path))
    with pytest.raises(BenchError, match="named twice"):
        find_networks(["run-a", "run-a"], Home(tmp_path))
    with pytest.raises(BenchError, match="cannot be read"):
        find_networks(["run-a", "none.json"], Home(tmp_path))
    with pytest.raises(BenchError, match="only one network"):
        compare_networks(find_networks(["run-a"], Home(tmp_path)))


def test_two_runs_of_the_same_seed_are_no_seeds(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [make_record(run="a"), make_record(run="b"), make_record(run="c", method="ard")]
    with pytest.raises(BenchError, match="a, b: the same defense and seed"):
        _compare(tmp_path, records)
