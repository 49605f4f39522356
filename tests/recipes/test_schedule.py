"""Learning rates over a run, and what the published recipes say of each method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from bench import registry
from bench.defense import Defense
from bench.errors import BenchError
from bench.recipes import hyperparameters, recipe
from bench.recipes.recipe import Resolved
from bench.recipes.schedule import Schedule
from bench.training.step import TrainingStep


def rates(schedule: Schedule, epochs: int, base: float = 0.1) -> list[float]:
    """The rate of epoch 1, 2, ..., with a None in front so that the index is the epoch."""
    return [math.nan, *(schedule.lr(base, epoch, epochs) for epoch in range(1, epochs + 1))]


def test_constant() -> None:
    assert set(rates(Schedule(kind="constant"), 7)[1:]) == {0.1}


def test_multistep_drops_after_each_milestone() -> None:
    lr = rates(Schedule(kind="multistep", milestones=(215, 260, 285)), 300)
    for first, last, expected in ((1, 215, 0.1), (216, 260, 0.01), (261, 285, 1e-3), (286, 300, 1e-4)):
        assert lr[first : last + 1] == pytest.approx([expected] * (last - first + 1))


def test_multistep_scales_with_the_length_of_the_run() -> None:
    lr = rates(Schedule(kind="multistep", milestones=(215, 260, 285), horizon=300), 60)
    for first, last, expected in ((1, 43, 0.1), (44, 52, 0.01), (53, 57, 1e-3), (58, 60, 1e-4)):
        assert lr[first : last + 1] == pytest.approx([expected] * (last - first + 1))


def test_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=300, eta_min=1e-5)
    lr = rates(Schedule(kind="cosine", lr_min=1e-5), 300)
    assert lr[1] == 0.1
    for epoch in range(1, 301):
        assert lr[epoch] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert 1e-5 < lr[300] < 2e-5


def test_one_cycle_moves_with_every_step() -> None:
    schedule = Schedule(kind="one-cycle")

    def at(share: float) -> float:
        """The rate when a share of twenty epochs has passed."""
        epoch = min(int(share * 20), 19)
        return schedule.lr(0.4, epoch + 1, 20, share * 20 - epoch)

    assert [at(share) for share in (0, 0.0625, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 0.1, 0.2, 0.4, 0.2, 0])


@pytest.mark.parametrize("kind", ["constant", "multistep", "cosine", "one-cycle", "ciard"])
def test_a_warm_up_goes_before_any_schedule(kind: str) -> None:
    """Four epochs of forty, hence two of twenty: linearly from 0 to what the schedule has, step by step."""
    plain = Schedule.model_validate({"kind": kind, "milestones": (20, 30), "horizon": 40})
    warm = plain.model_copy(update={"warmup": 4})
    for epoch, fraction, share in ((1, 0.0, 0.0), (1, 0.5, 0.25), (2, 0.0, 0.5), (2, 0.5, 0.75), (3, 0.0, 1.0)):
        assert warm.lr(0.4, epoch, 20, fraction) == pytest.approx(share * plain.lr(0.4, epoch, 20, fraction))
    assert warm.lr(0.4, 19, 20, 0.3) == plain.lr(0.4, 19, 20, 0.3)


@pytest.mark.parametrize("epochs", [300, 60])
def test_ciards_own_decay(epochs: int) -> None:
    lr = rates(Schedule(kind="ciard", milestones=(150,), horizon=300), epochs)
    half = epochs // 2
    assert lr[1 : half + 1] == [0.1] * half
    for epoch in range(half + 1, epochs + 1):
        u = (epoch - half) / half
        expected = 0.1 * (0.5 + 0.5 * math.cos(math.pi * u)) * math.exp(-0.01 * u**2)
        assert lr[epoch] == pytest.approx(expected, abs=1e-16)
    assert lr[epochs] == pytest.approx(0, abs=1e-16)


METHODS = [
    *("natural", "sat", "trades", "score"),
    *("ard", "rslad", "fair-ard", "absld", "mtard", "b-mtard", "dard", "pgdard", "ciard"),
    *("lbgat", "peeraid", "adr"),
]
SINCE = ("lbgat", "peeraid", "adr")
"""Defenses that the CIARD paper does not know; the paper recipe has their own papers' schedules."""


def test_every_method_is_looked_at() -> None:
    built_in = [name for name in registry.names("methods") if registry.find("methods", name).module[:8] == "methods."]
    assert sorted(METHODS) == sorted(built_in)


def resolved(name: str, method: str, dataset: str = "cifar10") -> Resolved:
    return recipe.load(name).resolve(method, dataset, "resnet18")


@pytest.mark.parametrize("method", [method for method in METHODS if method not in SINCE])
def test_the_paper_recipe_is_section_4_1(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    assert (variant, training.epochs, training.batch_size) == ("paper", 300, 64)
    assert training.optimizer.model_dump() == {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": False}
    assert (training.schedule.kind, training.schedule.lr_min) == ("cosine", 1e-5)
    assert training.selection.split == "test"
    assert training.selection.step_size == pytest.approx(2 / 255)


@dataclass(frozen=True)
class Official:
    """What the released code of a method says; by default RSLAD's and its descendants'."""

    milestones: tuple[int, ...] = (215, 260, 285)
    epochs: int = 300
    lr: float = 0.1
    weight_decay: float = 2e-4
    nesterov: bool = False
    variant: str = "official"
    kind: str = "multistep"
    first: float = 1.0
    keep: str = "best"
    look: tuple[int, float] = (20, 0.003)
    average: str | None = None


PGD_10 = (10, 0.00784313725490196)
OFFICIAL = {
    "sat": Official(),
    "trades": Official((74, 89), epochs=100),  # its code lowers the rate in epochs 75 and 90
    "score": Official((100, 105), epochs=110, lr=0.05, weight_decay=5e-4),
    "ard": Official((100, 150), epochs=200),
    "rslad": Official(),
    "fair-ard": Official((100, 150), epochs=200, nesterov=True),
    "absld": Official(),
    "mtard": Official(),
    "b-mtard": Official(),
    "dard": Official((30, 40), epochs=50, weight_decay=5e-4, variant="released"),
    "pgdard": Official((30, 40), epochs=50, weight_decay=5e-4, variant="released"),
    "ciard": Official((150,), kind="ciard"),
    "lbgat": Official((75, 90), epochs=100, first=0.2, keep="last"),  # 0.02 in epoch 1
    "peeraid": Official((214, 259, 284), look=PGD_10, average="swa, from epoch 215"),
    "adr": Official((100, 150), epochs=200, weight_decay=5e-4, nesterov=True, look=PGD_10),
}


@pytest.mark.parametrize("method", OFFICIAL)
def test_the_official_recipe_is_the_released_codes(method: str) -> None:
    variant, training, _ = resolved("official", method)
    expected = OFFICIAL[method]
    assert (variant, training.epochs, training.batch_size) == (expected.variant, expected.epochs, 128)
    assert training.optimizer.model_dump() == {
        "lr": expected.lr,
        "momentum": 0.9,
        "weight_decay": expected.weight_decay,
        "nesterov": expected.nesterov,
    }
    assert (training.schedule.kind, training.schedule.milestones) == (expected.kind, expected.milestones)
    selection = training.selection
    assert (selection.split, selection.keep) == ("test", expected.keep)
    assert (selection.steps, selection.step_size) == expected.look
    assert training.schedule.first == expected.first
    assert (training.average and str(training.average)) == expected.average


@pytest.mark.parametrize("method", [method for method in OFFICIAL if method != "ciard"])
def test_official_rates_drop_to_a_tenth_after_each_milestone(method: str) -> None:
    training, expected = resolved("official", method)[1], OFFICIAL[method]
    lr = rates(training.schedule, training.epochs, training.optimizer.lr)
    assert (lr[1], lr[2], len(lr)) == (expected.lr * expected.first, expected.lr, expected.epochs + 1)
    for number, milestone in enumerate(expected.milestones):
        assert lr[milestone] == pytest.approx(expected.lr * 0.1**number)
        assert lr[milestone + 1] == pytest.approx(expected.lr * 0.1 ** (number + 1))
    assert lr[-1] == pytest.approx(expected.lr * 0.1 ** len(expected.milestones))


def test_ciards_student_and_teacher_at_chosen_epochs() -> None:
    """u = (e - 150) / 150 for the student, (e - 50) / 250 for the teacher; by hand where the cosine is known."""
    training = resolved("official", "ciard")[1]
    student = rates(training.schedule, training.epochs, training.optimizer.lr)
    assert student[1] == student[150] == 0.1
    for epoch, expected in ((200, 0.075 * math.exp(-1 / 900)), (225, 0.05 * math.exp(-0.0025)), (300, 0.0)):
        assert student[epoch] == pytest.approx(expected, abs=1e-16)

    for recipe_name, lr in (("official", {51: 1e-4, 175: 5e-5, 300: 0.0}), ("paper", {51: 1e-5, 175: 1e-5, 300: 1e-5})):
        networks = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10)) for _ in range(3)]
        step = TrainingStep.from_recipe(
            "ciard", networks[0], {"robust": networks[1], "clean": networks[2]}, recipe_name=recipe_name
        )
        for epoch, expected in lr.items():
            step(torch.rand(4, 3, 2, 2), torch.arange(4), epoch=epoch)
            decay = math.exp(-0.01 * ((epoch - 50) / 250) ** 2) if recipe_name == "official" else 1
            (group,) = step.defense.state_dict()["teacher_optimizer"]["param_groups"]
            # In epoch 51 the cosine is 4e-5 below its start.
            assert group["lr"] == pytest.approx(expected * decay, rel=1e-4, abs=1e-19)


@pytest.mark.parametrize("method", SINCE)
def test_later_defenses_have_their_own_papers_schedules_in_the_paper_recipe(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    official = resolved("official", method).training
    assert (variant, training.batch_size, training.epochs) == ("paper", 128, official.epochs)
    assert (training.schedule.milestones, training.schedule.first) == (official.schedule.milestones, 1)
    assert training.optimizer.weight_decay == official.optimizer.weight_decay
    assert not training.optimizer.nesterov
    assert (training.average, training.selection.keep) == (official.average, official.selection.keep)
    assert method == "lbgat" or training.selection.steps == 10


@pytest.mark.parametrize("name", ["paper", "official"])
def test_what_later_defenses_have_by_data_set(name: str) -> None:
    assert resolved(name, "peeraid")[2] == resolved(name, "adr")[2] == resolved(name, "lbgat")[2] == {}
    assert resolved(name, "peeraid", "cifar100")[2] == {"gamma2": 1.0}
    assert resolved(name, "adr", "cifar100")[2] == {"temperatures": [1.5, 1.0]}
    _, training, settings = resolved(name, "peeraid", "tiny-imagenet")
    weights = {"gamma2": 100.0, "lambda1": 0.035, "lambda2": 35.0, "lambda3": 20.0}
    assert settings == {"temperature": 1.0, **weights}
    assert (training.epochs, training.schedule.milestones, str(training.average)) == (
        *(200, (99, 149)),
        "swa, from epoch 100",
    )
    _, training, settings = resolved(name, "adr", "tiny-imagenet")
    assert settings == {"temperatures": [2.0, 1.5], "interpolations": [0.5, 0.9]}
    assert (training.epochs, training.schedule.milestones) == (80, (40, 60))
    assert resolved(name, "lbgat", "digits")[2] == {"guide": "digits-cnn"}


@pytest.mark.parametrize("epochs", [4, 100])
def test_the_first_epoch_s_rate_is_a_share_of_what_follows_in_a_run_of_any_length(epochs: int) -> None:
    plain, first = (Schedule(kind="multistep", milestones=(50,), horizon=100, first=share) for share in (1, 0.2))
    before, now = rates(plain, epochs), rates(first, epochs)
    assert now[1] == pytest.approx(0.2 * before[1])
    assert now[2:] == before[2:]


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize("method", ["dard", "pgdard"])
def test_dards_temperature_is_that_of_the_dataset(name: str, method: str) -> None:
    assert resolved(name, method, "cifar10")[2] == {}
    assert resolved(name, method, "cifar100")[2] == {"temperature": 1.0}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eps", [8 / 255, 2 / 16])
def test_lengths_scale_with_the_datasets_radius(method: str, eps: float) -> None:
    kind: type[Defense] = registry.load("methods", method)
    for variant, changes in kind.variants.items():
        stated = {**hyperparameters.defaults(kind), **changes}
        values = hyperparameters.resolve(method, variant, {}, {}, eps)
        for key, value in stated.items():
            scale = eps / (8 / 255) if key in ("eps", "step_size") else 1
            assert values[key] == (pytest.approx(value * scale) if scale != 1 else value)


def test_training_attacks_are_those_of_the_definitions() -> None:
    starts = {
        "sat": "uniform",
        "adr": "uniform",
        "ard": "uniform",
        "fair-ard": "uniform",
        "dard": "none",
        "pgdard": "none",
    }
    for method in METHODS[1:]:
        for variant in registry.load("methods", method).variants:
            values = hyperparameters.resolve(method, variant, {}, {}, 8 / 255)
            small = method == "lbgat" or (method, variant) == ("trades", "official")
            exact = (0.031, 0.007) if small else (8 / 255, 2 / 255)
            assert (values["eps"], values["step_size"], values["steps"]) == (*exact, 10)
            assert values["start"] == starts.get(method, "gaussian")
            trains = {"ard": "official", "fair-ard": "official", "dard": "released", "pgdard": "released"}
            assert values["attack_in_train_mode"] == (method == "adr" or trains.get(method) == variant)


def test_a_recipe_that_extends_another_has_its_rules_first_and_its_own_teachers_last() -> None:
    short, larger, rehearsal = (recipe.load(name) for name in ("short", "short-cifar10", "rehearsal"))
    selection = {**short.training["selection"], "limit": None}
    assert larger.training == {**short.training, "selection": selection} != short.training
    assert larger.rules == [*short.rules, recipe.Rule(training={"selection": {"limit": None}})]
    assert rehearsal.rules[:-1] == larger.rules
    assert larger.teachers[: len(short.teachers)] == short.teachers
    assert [larger.teacher(role, "ciard", "any").model for role in ("clean", "robust")] == ["resnet56", "wrn-22-6"]
    assert rehearsal.teachers == larger.teachers
    assert (rehearsal.training["epochs"], rehearsal.teacher_limit) == (1, 4)
    assert rehearsal.training["optimizer"] == short.training["optimizer"]
    with pytest.raises(BenchError, match="Did you mean 'short'"):
        recipe.parse("own", "extends: shor")
