"""Sanity of an evaluation: masked gradients are flagged, honest networks are not."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from bench.attack import Attack, Outcome
from bench.data import load_dataset
from bench.data.dataset import Dataset, to_float
from bench.evaluation import sanity
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.probes import ENOUGH, PROBED, SHARE, Probes
from bench.evaluation.suites import suite_named
from bench.evaluation.transfers import Surrogate
from bench.records.outcomes import pack
from bench.records.record import AttackResult, Record
from bench.records.subjects import foreign_subject
from bench.registry import attack_class
from bench.stats import wilson_interval
from bench.system.console import Reporter
from bench.system.signals import StopRequest
from bench.threat import Threat

from ..helpers.networks import DigitsModel
from ..helpers.records import RecordMaker


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", Path("data"))


def evaluate(
    model: nn.Module, dataset: Dataset, suite: str, limit: int = 80, surrogate: Surrogate | None = None, **options: Any
) -> Record:
    reporter = Reporter(Console(file=io.StringIO()))
    evaluator = Evaluator(torch.device("cpu"), "official", reporter, StopRequest(), **options)
    subject = foreign_subject("checkpoint", "model", "model", "ab" * 32)
    return evaluator.evaluate(model, dataset, subject, suite_named(suite), limit, "record", surrogate)


class Saturated(nn.Module):
    """The same predictions; logits so large that the cross-entropy has no gradient left."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.network(x)


class Wavy(Saturated):
    """A ripple in front, smaller than the ball: its gradient points anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.02 * torch.sin(400 * x))


class Drawing(Saturated):
    """Noise in front, drawn anew at every pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.3 * torch.randn_like(x))


class Rounded(Saturated):
    """A quantiser in front, whose gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network((16 * x).round() / 16)


class Cut(Saturated):
    """A quantiser in front that leaves autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return self.network((16 * x.detach()).to(torch.uint8).to(x.dtype) / 16)


class Misleading(Saturated):
    """The gradient is right on images as they are stored and points backwards everywhere else."""

    def forward(self, x: Tensor) -> Tensor:
        on_grid = ((x * 255 - (x * 255).round()).abs() < 1e-3).flatten(1).all(1)
        return self.network(torch.where(on_grid[:, None, None, None], x, 2 * x.detach() - x))


@pytest.mark.parametrize("method", ["natural", "sat"])
@pytest.mark.parametrize("suite", ["whitebox", "bim", "square"])
def test_an_honest_model_has_no_flags(digits: Dataset, digits_model: DigitsModel, method: str, suite: str) -> None:
    record = evaluate(digits_model(method), digits, suite, 100)
    assert record.results["clean"].accuracy > 0.85
    assert record.flags == []


@pytest.mark.parametrize("masked", [Saturated, Rounded, Cut])
@pytest.mark.parametrize("suite", ["whitebox", "t-pgd", "cw-inf"])
def test_masked_gradients_are_flagged_under_every_suite(
    digits: Dataset, digits_model: DigitsModel, masked: type[Saturated], suite: str
) -> None:
    network = masked(digits_model("natural"))
    flags = evaluate(network, digits, suite).flags
    (vanished,) = (match for flag in flags if (match := re.match(r"the gradient vanishes on (\d+) of 64 ", flag)))
    first = digits.test.first(64)
    with torch.no_grad():
        right = int((network(to_float(first.images)).argmax(1) == first.labels).sum())
    assert int(vanished[1]) >= right  # a saturated loss has a gradient left where the prediction is wrong
    assert any("with eps = 1 leaves" in flag for flag in flags)


def test_queries_alone_tell_that_gradients_are_masked(digits: Dataset, digits_model: DigitsModel) -> None:
    (flag,) = evaluate(Rounded(digits_model("natural")), digits, "square").flags
    assert flag.startswith("Square breaks more than PGD-SAT")


@pytest.mark.usefixtures("quick_autoattack")
def test_what_square_finds_after_the_white_box_attacks_is_flagged(digits: Dataset, digits_model: DigitsModel) -> None:
    record = evaluate(Rounded(digits_model("natural")), digits, "autoattack", 16)
    (flag,) = (flag for flag in record.flags if flag.startswith("AutoAttack's Square"))
    shares = record.results["autoattack"].components
    assert f"breaks {round(16 * (shares['fab-t'] - shares['square']))} of 16 samples" in flag
    assert any(flag.startswith("the gradient vanishes") for flag in record.flags)


def test_misleading_gradients_are_flagged(digits: Dataset, digits_model: DigitsModel) -> None:
    flags = evaluate(Misleading(digits_model("natural")), digits, "whitebox").flags
    assert any(flag.startswith("FGSM breaks more than PGD-SAT") for flag in flags)
    assert any("with eps = 1 leaves" in flag for flag in flags)
    assert not any("vanishes" in flag for flag in flags)


def test_a_transferred_attack_that_breaks_more_is_flagged(digits: Dataset, digits_model: DigitsModel) -> None:
    """Without a white-box attack in the suite the probe's stands in."""
    surrogate = Surrogate(digits_model("natural"), "cd" * 32, "small")
    assert evaluate(digits_model("natural"), digits, "blackbox", surrogate=surrogate).flags == []
    flags = evaluate(Rounded(digits_model("natural")), digits, "blackbox", surrogate=surrogate).flags
    assert any(flag.startswith("a transferred PGD-TRADES breaks more than PGD-SAT") for flag in flags)


@dataclass(frozen=True, kw_only=True)
class Bounded(Attack):
    """Inverts the first `wins` images, `longer_wins` with more than 20 steps; at other radii those of `by_eps`."""

    steps: int = 20
    wins: int = 10
    longer_wins: int = 10
    by_eps: tuple[tuple[float, int], ...] = ()
    label: ClassVar[str] = "Bounded"
    source: ClassVar[str] = "none"

    def run(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        wins = dict(self.by_eps).get(self.eps, 30 if self.eps == 1 else self.wins)
        n = self.longer_wins if self.steps > 20 else wins
        return Outcome(torch.cat([1 - x[:n], x[n:]]))


class Mean(nn.Module):
    """Two classes: dark and light images."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


@pytest.mark.parametrize(
    ("attack", "noise", "expected"),
    [
        (Bounded(eps=0.1), 0.0, []),
        (Bounded(eps=0.1, longer_wins=20), 0.0, []),
        (Bounded(eps=0.1, longer_wins=3), 0.0, []),  # seven fewer: not yet significant at 1 %
        (
            Bounded(eps=0.1, longer_wins=2),
            0.0,
            ["PGD-SAT breaks less with twice the steps (8 against 0 of 30 samples)"],
        ),
        (Bounded(eps=0.4), 1.0, ["random noise breaks more than PGD-SAT (20 against 0 of 30 samples)"]),
        (Bounded(wins=30, longer_wins=30, eps=0.4), 1.0, []),
        (Bounded(eps=0.1, by_eps=((0.2, 3),)), 0.0, []),
        (
            Bounded(eps=0.1, by_eps=((0.2, 2),)),
            0.0,
            ["PGD-SAT breaks less with eps = 0.2 than with 0.1 (8 against 0 of 30 samples)"],
        ),
        (
            Bounded(eps=0.1, by_eps=((0.05, 30),)),
            0.0,
            ["PGD-SAT breaks less with eps = 0.1 than with 0.05 (20 against 0 of 30 samples)"],
        ),
        (Bounded(eps=0.1, by_eps=((1.0, 29),)), 0.0, ["PGD-SAT with eps = 1 leaves 1 of 30 samples standing"]),
    ],
)
def test_probes(attack: Attack, noise: float, expected: list[str]) -> None:
    x, y = torch.full((30, 1, 2, 2), 0.2), torch.zeros(30, dtype=torch.int64)
    measured = Probes(Mean(), x, y, attack, torch.full_like(x, noise)).look(None).outcomes
    assert sanity.flags({}, 30, {name: value.numpy() for name, value in measured.items()}) == expected


@pytest.mark.parametrize("n", [ENOUGH - 1, ENOUGH])
def test_two_attacks_are_not_compared_on_so_few_images(n: int) -> None:
    x, y = torch.full((n, 1, 2, 2), 0.2), torch.zeros(n, dtype=torch.int64)
    probed = Probes(Mean(), x, y, Bounded(eps=0.1, wins=n, longer_wins=0), torch.zeros_like(x)).look(None)
    flags = sanity.flags({}, n, {name: value.numpy() for name, value in probed.outcomes.items()})
    assert any("twice the steps" in flag for flag in flags) == ("longer" in probed.outcomes) == (n == ENOUGH)
    assert ("Bounded with twice the steps: 15 images are too few" in probed.left_out) == (n < ENOUGH)
    assert {"clean", "again", "vanished", "probabilities", "eps=1.0", "everywhere"} <= probed.outcomes.keys()


@pytest.mark.parametrize("classes", [2, 10])
def test_a_network_that_is_right_halfway_from_chance_to_always_is_never_called_a_guesser(classes: int) -> None:
    for n in range(1, 40):
        right = np.arange(n) < round((1 + 1 / classes) / 2 * n)
        clean = {"clean": result(right).model_copy(update={"class_accuracy": [None] * classes})}
        assert sanity.flags(clean, n, {}) == []
        guessing = {"clean": result(np.zeros(n, dtype=bool)).model_copy(update={"class_accuracy": [None] * classes})}
        assert bool(sanity.flags(guessing, n, {})) == sanity.tells_chance(n, classes)
        assert sanity.tells_chance(n, classes) or n < 16


class Counted(nn.Module):
    """Counts the images that go through it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.network(x)


@pytest.mark.parametrize("limit", [1, 8, 40])
@pytest.mark.parametrize("suite", ["fgsm", "whitebox", "square"])
def test_checks_pass_at_most_half_as_many_images_as_the_attacks(
    digits: Dataset, digits_model: DigitsModel, suite: str, limit: int
) -> None:
    """Eight images under FGSM are 24 passes, and 12 for the checks; once these were 1,445."""
    model = Counted(digits_model("sat")).eval()
    checks = evaluate(model, digits, suite, limit).checks
    assert checks is not None
    assert checks.attack_passes is not None
    assert checks.passes + checks.attack_passes == model.images
    assert checks.passes <= SHARE * checks.attack_passes
    if suite == "fgsm":
        assert checks.attack_passes == 3 * limit
    assert all(": " in text for text in checks.left_out)
    too_few = limit < ENOUGH or suite == "fgsm"
    assert any(text.startswith("random noise: ") for text in checks.left_out) == (too_few and suite != "square")


def test_a_whole_evaluation_has_room_for_all_checks(digits: Dataset) -> None:
    """Also where nothing ends early: a network that no query fools costs the most."""
    x, y = to_float(digits.test.images[:PROBED]), digits.test.labels[:PROBED]
    attack = attack_class("pgd-sat").for_protocol("official", digits.eps)
    price = Probes(nn.Identity(), x, y, attack, None, known={"reference": y == y}).price
    whitebox = 1 + 2 + 21 + 21 + 31  # clean, fgsm, pgd-sat, pgd-trades, cw-inf, each with its last look
    assert price <= SHARE * whitebox * 400


def test_without_checks_the_record_says_so(digits: Dataset, digits_model: DigitsModel) -> None:
    model = Counted(Saturated(digits_model("natural"))).eval()
    record = evaluate(model, digits, "fgsm", 20, checks=False)
    assert record.flags == [sanity.UNCHECKED]
    assert record.checks is not None
    assert (record.checks.made, record.checks.passes) == (False, 0)
    assert model.images == record.checks.attack_passes == 3 * 20
    assert evaluate(model, digits, "fgsm", 20).flags != []


@pytest.mark.parametrize(("n", "vanished", "flagged"), [(30, 1, 0), (30, 2, 1), (8, 1, 0), (8, 2, 1)])
def test_one_vanished_gradient_is_no_flag(n: int, vanished: int, flagged: int) -> None:
    names = ("reference", "longer", "noise", "queries", "clean", "again", "eps=1.0", "vanished")
    probes = {name: np.zeros(n, dtype=bool) for name in names}
    probes["vanished"][:vanished] = True
    assert len(sanity.flags({}, n, probes)) == flagged


def result(right: np.ndarray, **facts: Any) -> AttackResult:
    correct, n = int(right.sum()), len(right)
    return AttackResult(
        parameters={},
        surrogate="ab" * 32,
        final=pack(right),
        worst=None,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None,
        class_accuracy=[None],
        batch_size=1,
        seconds=0,
        **facts,
    )


@pytest.mark.parametrize(
    ("weak_only", "strong_only", "flagged"), [(7, 0, 0), (8, 0, 1), (0, 8, 0), (20, 12, 0), (40, 12, 1)]
)
@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        ("pgd-sat", "fgsm"),
        ("pgd-20", "fgsm"),
        ("bim", "fgsm"),
        ("pgd-trades", "transfer:pgd-trades"),
        ("cw-inf", "transfer:cw-inf"),
        ("pgd-sat", "transfer:cw-inf"),
        ("pgd-sat", "square"),
        ("autoattack", "pgd-sat"),
        ("autoattack", "pgd-20"),
    ],
)
def test_a_weaker_attack_must_not_break_significantly_more(
    stronger: str, weaker: str, weak_only: int, strong_only: int, flagged: int
) -> None:
    n = 100
    under_strong, under_weak = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    under_weak[:weak_only] = False
    under_strong[weak_only : weak_only + strong_only] = False
    results = {stronger: result(under_strong), weaker: result(under_weak)}
    assert len(sanity.flags(results, n, {})) == flagged
    assert sanity.flags({weaker: results[weaker]}, n, {}) == []


def test_a_flag_names_no_norm_but_the_attack_s_own() -> None:
    under_strong, under_weak = np.ones(100, dtype=bool), np.arange(100) > 50
    results = {"cw-inf": result(under_strong), "transfer:cw-inf": result(under_weak)}
    (flag,) = sanity.flags(results, 100, {})
    assert flag.startswith("a transferred CW-inf breaks more than CW-inf on the model itself")
    (flag,) = sanity.flags(results, 100, {}, Threat("l2", 0.5))
    assert flag.startswith("a transferred CW breaks more than CW on the model itself")


@pytest.mark.parametrize(
    ("n", "found", "flagged"), [(50, 7, False), (50, 8, True), (10_000, 20, False), (10_000, 21, True)]
)
def test_square_may_find_little_after_the_white_box_attacks(n: int, found: int, flagged: bool) -> None:
    shares = {"clean": 0.9, "apgd-ce": 0.6, "fab-t": 0.5, "square": 0.5 - found / n}
    results = {"autoattack": result(np.arange(n) < n // 2 - found, components=shares)}
    assert bool(sanity.flags(results, n, {})) == flagged


def test_a_ripple_that_hides_the_gradient_is_flagged(digits_model: DigitsModel, digits: Dataset) -> None:
    record = evaluate(Wavy(digits_model("natural")).eval(), digits, "whitebox", limit=200)
    assert any("Square breaks more than PGD" in flag or "the step's length decides" in flag for flag in record.flags)


def test_a_model_that_draws_is_flagged_and_its_record_repeats(digits_model: DigitsModel, digits: Dataset) -> None:
    first, second = (evaluate(Drawing(digits_model("natural")).eval(), digits, "whitebox") for _ in range(2))
    assert any("predictions change from one pass to the next" in flag for flag in first.flags)
    assert first.flags == second.flags
    assert {name: each.final for name, each in first.results.items()} == {
        name: each.final for name, each in second.results.items()
    }


EPS = 8 / 255


def disagreeing(make_record: RecordMaker, minimal: np.ndarray, checking: np.ndarray) -> list[str]:
    """The flags of two attacks' radii, in shares of eps."""
    record = make_record(radii={"fmn": minimal * EPS, "pgd-curve": checking * EPS}, n=len(minimal), eps=EPS)
    return sanity.flags(record.results, len(minimal), {})


def test_two_ways_to_the_curve_that_disagree_at_a_radius_are_flagged(make_record: RecordMaker) -> None:
    spread = np.linspace(0.01, 1.99, 100)
    on_grid = np.ceil(4 * spread) / 4  # the first of the eight radii that reaches as far
    assert disagreeing(make_record, spread, on_grid) == []
    missed = spread.copy()
    missed[40:60] = np.inf  # which PGD finds at one eps and a little more
    (flag,) = disagreeing(make_record, missed, on_grid)
    assert flag == "FMN is too weak at radius 0.0392: PGD curve breaks more (20 against 0 of 100 samples)"
    late = on_grid.copy()
    late[10:30] = 2.0
    (flag,) = disagreeing(make_record, spread, late)
    assert re.match(r"PGD curve is too weak at radius 0\.0\d+: FMN breaks more \(20 against 0 of 100 samples\)", flag)
    few = spread.copy()
    few[40:46] = np.inf  # six against none: chance at 1 %
    assert disagreeing(make_record, few, on_grid) == []


def test_a_radius_of_the_grid_counts_as_reached_although_it_was_rounded(make_record: RecordMaker) -> None:
    on_grid = np.repeat(np.arange(1, 9) / 4, 12)
    assert disagreeing(make_record, on_grid, on_grid) == []
    assert disagreeing(make_record, on_grid * (1 + 1e-7), on_grid) == []
