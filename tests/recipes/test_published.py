"""What the published recipes say of each method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from bench import registry
from bench.defense import Defense
from bench.errors import BenchError
from bench.recipes import hyperparameters, recipe
from bench.recipes.recipe import Resolved
from bench.recipes.training import Selection
from bench.training.step import TrainingStep

from .test_schedule import rates

OF_CIARDS_PAPER = [
    *("natural", "sat", "trades", "score"),
    *("ard", "rslad", "fair-ard", "absld", "mtard", "b-mtard", "dard", "pgdard", "ciard"),
]
IGDM = ["igdm-sat", "igdm-trades", "igdm-ard", "igdm-rslad", "igdm-adaad"]
ADAPTIVE = ["adaad", "adaiad", *IGDM, "saad"]
BESIDE = ["lbgat", "peeraid", "adr"]
SINCE = ["akd", "dgad", "hat", "iad", "kd-swa", "mart", "sat-awp", "sat-wa", "trades-awp"]
METHODS = [*OF_CIARDS_PAPER, *ADAPTIVE, *BESIDE, *SINCE]


def test_every_method_is_looked_at() -> None:
    built_in = [name for name in registry.names("methods") if registry.find("methods", name).module[:8] == "methods."]
    assert sorted(METHODS) == sorted(built_in)


def resolved(name: str, method: str, dataset: str = "cifar10") -> Resolved:
    return recipe.load(name).resolve(method, dataset, "resnet18")


@pytest.mark.parametrize("method", OF_CIARDS_PAPER)
def test_the_paper_recipe_is_section_4_1(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    assert (variant, training.epochs, training.batch_size) == ("paper", 300, 64)
    assert training.optimizer.model_dump() == {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": False}
    assert (training.schedule.kind, training.schedule.lr_min) == ("cosine", 1e-5)
    assert training.selection.split == "test"
    assert training.selection.step_size == pytest.approx(2 / 255)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_the_paper_recipe_of_later_defenses_is_their_own(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    long = method == "igdm-rslad"
    assert (variant, training.epochs, training.batch_size) == ("paper", 300 if long else 200, 128)
    assert training.optimizer.model_dump() == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    assert training.schedule.kind == "multistep"
    assert training.schedule.milestones == ((215, 260, 285) if long else (100, 150))
    selection = training.selection
    assert (selection.split, selection.by, selection.every, selection.steps) == ("test", "robust", 1, 10)
    assert selection.step_size == pytest.approx(2 / 255)
    assert selection.keep == ("last" if method == "saad" else "best")


@pytest.mark.parametrize("name", ["paper", "official"])
def test_saad_averages_the_epochs_from_95_on(name: str) -> None:
    average = resolved(name, "saad")[1].average
    assert average is not None
    assert (average.kind, average.from_epoch) == ("swa", 95)
    for method in ("saad", "peeraid"):
        assert resolved("vit", method)[1].average is None  # it has 40 epochs


WEIGHTS = {
    ("igdm-sat", "resnet18"): (60, 100),
    ("igdm-trades", "resnet18"): (20, 5),
    ("igdm-ard", "resnet18"): (5, 50),
    ("igdm-rslad", "resnet18"): (0.9, 3),
    ("igdm-adaad", "resnet18"): (5, 15),
    ("igdm-ard", "mobilenet_v2"): (5, 70),
    ("igdm-rslad", "mobilenet_v2"): (0.9, 3),
    ("igdm-adaad", "mobilenet_v2"): (5, 20),
    ("saad", "resnet18"): (1, 10),
}
"""Of IGDM's term, with the teacher Chen2021LTD_WRN34_10: on CIFAR-10, on CIFAR-100."""


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize(("method", "student"), WEIGHTS)
def test_the_weight_of_gradient_matching_is_that_of_data_set_and_student(method: str, student: str, name: str) -> None:
    found = []
    for dataset in ("cifar10", "cifar100"):
        variant, _, settings = recipe.load(name).resolve(method, dataset, student)
        found.append(hyperparameters.resolve(method, variant, settings, {}, 8 / 255)["igdm_weight"])
    assert tuple(found) == WEIGHTS[method, student]


def test_gradient_matching_is_ramped_by_the_runs_own_length_in_recipes_that_are_not_published() -> None:
    for name in recipe.names():
        for method in IGDM:
            variant, _, settings = resolved(name, method)
            ramp = hyperparameters.resolve(method, variant, settings, {}, 8 / 255)["ramp_epochs"]
            assert ramp == (200 if name == "official" else 0), name


def test_adaad_is_averaged_over_classes_on_cifar10_alone() -> None:
    assert resolved("official", "adaad", "cifar10")[2] == {}
    assert resolved("official", "adaad", "cifar100")[2] == {"reduction": "batch"}


@dataclass(frozen=True)
class Official:
    """What the released code of a method says; by default RSLAD's and its descendants'."""

    milestones: tuple[int, ...] = (215, 260, 285)
    epochs: int = 300
    lr: float = 0.1
    weight_decay: float = 2e-4
    nesterov: bool = False
    decay_norms: bool = True
    early: bool = False
    variant: str = "official"
    kind: str = "multistep"
    split: str = "test"
    steps: int = 20
    step_size: float = 0.003
    first: float = 1.0
    average: str | None = None


PGD_10: dict[str, Any] = {"steps": 10, "step_size": 2 / 255}
MEAN, MOVING = "swa, from epoch 56", "ema, decay 0.9995"
OFFICIAL = {
    "sat": Official((102, 154), epochs=205, decay_norms=False),
    "trades": Official((74, 89, 99), epochs=76),  # its code lowers the rate in epochs 75, 90 and 100
    "score": Official((100, 105), epochs=110, lr=0.05, weight_decay=5e-4, early=True),
    "ard": Official((100,), epochs=200),  # its second milestone begins again at the first rate
    "rslad": Official(),
    "fair-ard": Official((100,), epochs=200, nesterov=True),
    "absld": Official(),
    "mtard": Official(),
    "b-mtard": Official(),
    "dard": Official((30, 40), epochs=50, weight_decay=5e-4, variant="released"),
    "pgdard": Official((30, 40), epochs=50, weight_decay=5e-4, variant="released"),
    "ciard": Official((150,), kind="ciard"),
    **{name: Official((100, 150), 200, weight_decay=5e-4, steps=10, step_size=2 / 255) for name in ("adaad", "adaiad")},
    **{name: Official((100, 150), 200) for name in (*IGDM, "saad")},
    "igdm-rslad": Official((210, 258, 285)),  # whole epochs of 0.7, 0.86 and 0.95 of the run
    "lbgat": Official((75, 90), epochs=100, first=0.2),  # 0.02 in epoch 1
    "peeraid": Official((214, 259, 284), steps=10, step_size=2 / 255, average="swa, from epoch 215"),
    "adr": Official((100, 150), epochs=200, weight_decay=5e-4, nesterov=True, steps=10, step_size=2 / 255),
    # Two scripts start again from the first rate at their second drop, which so is none.
    "akd": Official((100,), epochs=200, **PGD_10),
    "iad": Official((100,), epochs=200, **PGD_10),
    "dgad": Official((100, 150), epochs=200, weight_decay=5e-4, **PGD_10),
    "hat": Official((), 50, 0.21, 5e-4, nesterov=True, kind="one-cycle-cosine", step_size=2 / 255),
    "kd-swa": Official((50, 150), epochs=200, weight_decay=5e-4, split="heldout", step_size=2 / 255, average=MEAN),
    "mart": Official((74, 89, 99), epochs=120, lr=0.01, weight_decay=3.5e-3),  # lowered in epochs 75, 90, 100
    "sat-awp": Official((100, 150), epochs=200, weight_decay=5e-4, early=True, step_size=2 / 255),
    "sat-wa": Official((), 100, weight_decay=5e-4, kind="one-cycle", split="heldout", average=MOVING, **PGD_10),
    "trades-awp": Official((99, 149), epochs=200, weight_decay=5e-4, **PGD_10),
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
    } | ({} if expected.decay_norms else {"decay_norms": False})
    assert training.schedule.early == expected.early
    assert (training.schedule.kind, training.schedule.milestones) == (expected.kind, expected.milestones)
    selection = training.selection
    steps, step_size = (10, 2 / 255) if method == "score" else (expected.steps, expected.step_size)
    assert (selection.split, selection.steps) == (expected.split, steps)
    assert selection.step_size == pytest.approx(step_size)
    assert training.schedule.first == expected.first
    assert method == "saad" or (training.average and str(training.average)) == expected.average


RSLADS = [*range(20, 215, 20), *range(215, 301)]
LOOKS: dict[str, tuple[str, list[int]]] = {
    "rslad": ("robust", RSLADS),
    "mtard": ("weighted", [1, *RSLADS]),
    "b-mtard": ("weighted", [1, *RSLADS]),
    "absld": ("robust", [*range(10, 215, 10), *range(215, 301)]),
    "ciard": ("weighted", [1, *range(10, 250, 10), *range(250, 301)]),
    "score": ("robust", [*range(1, 111)]),
    "adaad": ("robust", [*range(1, 201)]),
    "adaiad": ("robust", [*range(1, 201)]),
    "peeraid": ("robust", [*range(1, 301)]),
    "adr": ("robust", [*range(1, 201)]),
    **dict.fromkeys(("akd", "iad", "dgad", "sat-awp", "kd-swa"), ("robust", [*range(1, 201)])),
    "hat": ("robust", [30, *range(46, 51)]),
    "mart": ("robust", [*range(1, 121)]),
    "sat-wa": ("robust", [*range(1, 101)]),
}
"""By what the released code selects, and after which epochs; what is not here keeps the last."""


@pytest.mark.parametrize("method", METHODS)
def test_the_official_recipe_selects_as_the_released_code_does(method: str) -> None:
    training = resolved("official", method)[1]
    if method not in LOOKS:
        assert training.selection.name == "last"
        return
    by, looks = LOOKS[method]
    assert (training.selection.name, training.selection.by) == (OFFICIAL[method].split, by)
    assert training.selection.looks(training.epochs, training.schedule.horizon) == looks


def test_looks_of_a_shorter_run() -> None:
    """What is stated for 300 epochs is so for 30: in every epoch from the 22nd on."""
    selection = Selection(split="test", every=20, dense_from=215)
    assert selection.looks(30, 300) == [20, *range(22, 31)]
    assert selection.looks(30) == [20, 30]  # the last one always
    assert Selection(split="test", every=20, first=True).looks(50) == [1, 20, 40, 50]


@pytest.mark.parametrize("method", [name for name, each in OFFICIAL.items() if each.kind == "multistep"])
def test_official_rates_drop_to_a_tenth_after_each_milestone(method: str) -> None:
    training, expected = resolved("official", method)[1], OFFICIAL[method]
    lr = rates(training.schedule, training.epochs, training.optimizer.lr)
    assert (lr[1], lr[2], len(lr)) == (expected.lr * expected.first, expected.lr, expected.epochs + 1)
    reached = [milestone for milestone in expected.milestones if milestone < expected.epochs]
    for number, milestone in enumerate(reached):
        assert lr[milestone] == pytest.approx(expected.lr * 0.1**number)
        assert lr[milestone + 1] == pytest.approx(expected.lr * 0.1 ** (number + 1))
    assert lr[-1] == pytest.approx(expected.lr * 0.1 ** len(reached))


def test_the_trades_script_of_2019_had_a_hundred_epochs() -> None:
    settings = {"training.epochs": 100, "training.schedule.horizon": 100}
    training = recipe.load("official").resolve("trades", "cifar10", "resnet18", settings=settings).training
    lr = rates(training.schedule, 100)
    for first, last, expected in ((1, 74, 0.1), (75, 89, 0.01), (90, 99, 1e-3), (100, 100, 1e-4)):
        assert lr[first : last + 1] == pytest.approx([expected] * (last - first + 1))


@pytest.mark.parametrize(("early", "drops"), [(False, (101, 0)), (True, (100, 2))])
def test_a_rate_may_drop_in_the_last_step_already(early: bool, drops: tuple[int, int]) -> None:
    """The first step with the lower rate, of three in an epoch."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
    step = TrainingStep.from_recipe("score", network, settings={"training.schedule.early": early})
    found = {}
    for epoch in (100, 101):
        for number in range(3):
            step(torch.rand(4, 3, 2, 2), torch.arange(4), epoch=epoch, step=number, steps=3)
            found[epoch, number] = step.lr
    assert min(place for place, rate in found.items() if rate < 0.04) == drops
    assert sorted({round(rate, 9) for rate in found.values()}) == [0.005, 0.05]


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
        usual = hyperparameters.defaults(kind)
        stated = {**usual, **changes}
        values = hyperparameters.resolve(method, variant, {}, {}, eps)
        for key, value in stated.items():
            scale = eps / (8 / 255) if key in ("eps", "step_size") else 1
            assert values.get(key, usual[key]) == (pytest.approx(value * scale) if scale != 1 else value)


OFFSETS = {(method, "official"): 1e-5 for method in ("rslad", "absld", "mtard", "b-mtard", "ciard", "igdm-rslad")}
OFFSETS |= {("mart", "official"): 1e-12}


def test_training_attacks_are_those_of_the_definitions() -> None:
    uniform = ("sat", "ard", "fair-ard", "igdm-sat", "igdm-ard", "adr", "akd", "iad", "kd-swa", "sat-awp", "sat-wa")
    starts = {**dict.fromkeys(uniform, "uniform"), "dard": "none", "pgdard": "none"}
    lengths = {
        ("trades", "official"): (0.031, 0.007),
        ("mart", "official"): (0.031, 0.007),
        ("igdm-ard", "official"): (8 / 255, 2 / 225),
        **{(method, "wide"): (16 / 255, 4 / 255) for method in ("adaad", "adaiad")},
        **{("lbgat", variant): (0.031, 0.007) for variant in ("paper", "official")},
    }
    for method in METHODS[1:]:
        for variant in registry.load("methods", method).variants:
            values = hyperparameters.resolve(method, variant, {}, {}, 8 / 255)
            exact = lengths.get((method, variant), (8 / 255, 2 / 255))
            assert (values["eps"], values["step_size"], values["steps"]) == (*exact, 10)
            start = starts.get(method, "gaussian")
            exceptions = {"ard": "uniform-unclamped", "fair-ard": "uniform-unclamped", "score": "gaussian-clamped"}
            exceptions |= {"akd": "uniform-unclamped", "iad": "uniform-unclamped"}
            assert values["start"] == (exceptions.get(method, start) if variant == "official" else start)
            assert values.get("log_offset", 0.0) == OFFSETS.get((method, variant), 0.0)
            trains = {"sat": "official", "ard": "official", "fair-ard": "official"}
            trains |= {"akd": "official", "iad": "official", "kd-swa": "official", "sat-awp": "official"}
            trains |= {"dard": "released", "pgdard": "released"}
            assert values["attack_in_train_mode"] == (method == "adr" or trains.get(method) == variant)


@pytest.mark.parametrize("method", SINCE)
def test_later_defenses_have_their_own_papers_schedule_in_the_paper_recipe(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    lengths = {"hat": 50, "mart": 120, "sat-wa": 100}
    assert (variant, training.epochs, training.batch_size) == ("paper", lengths.get(method, 200), 128)
    drops = {"hat": (), "sat-wa": (), "mart": (75, 90), "kd-swa": (50, 150)}
    assert training.schedule.milestones == drops.get(method, (100, 150))
    decay = {"akd": 2e-4, "iad": 2e-4, "mart": 3.5e-3}
    assert training.optimizer.weight_decay == decay.get(method, 5e-4)
    assert (training.selection.by, training.selection.keep, training.selection.every) == ("robust", "best", 1)


def test_what_the_scripts_change_by_the_students_architecture() -> None:
    official = recipe.load("official")
    wide = official.resolve("mart", "cifar10", "wrn-34-10")
    assert (wide.training.epochs, wide.training.optimizer.lr, wide.training.optimizer.weight_decay) == (90, 0.1, 7e-4)
    assert wide.hyperparameters == {"beta": 6.0}
    assert official.resolve("dgad", "cifar10", "mobilenet_v2").hyperparameters == {"product": True}
    assert official.resolve("dgad", "cifar10", "resnet18").hyperparameters == {}
    assert official.resolve("dgad", "tiny-imagenet", "mobilenet_v2").hyperparameters == {}
    peers = official.resolve("peeraid", "tiny-imagenet", "wrn-34-10").training
    assert (peers.epochs, peers.schedule.milestones) == (100, (49, 79))
    assert peers.average is not None
    assert peers.average.from_epoch == 50


def test_what_the_scripts_set_aside_of_tiny_imagenet() -> None:
    selection = recipe.load("official").resolve("kd-swa", "tiny-imagenet", "resnet18").training.selection
    assert (selection.split, selection.hold_out) == ("heldout", 10_000)


@pytest.mark.parametrize("name", ["official", "short", "demo", "vit"])
def test_options_that_belong_to_a_name_are_in_every_recipe(name: str) -> None:
    """Their epochs in proportion to the recipe's own length."""
    sat, trades, mean = (resolved(name, method)[1] for method in ("sat-awp", "trades-awp", "kd-swa"))
    assert sat.awp is not None
    assert (sat.awp.gamma, sat.awp.from_epoch) == (0.01, 1)
    assert trades.awp is not None
    assert (trades.awp.gamma, trades.awp.from_epoch) == (0.005, 1 + round(9 * trades.epochs / 200))
    assert mean.average is not None
    assert (mean.average.kind, mean.average.from_epoch) == ("swa", 1 + round(55 * mean.epochs / 200))
    moving = resolved(name, "sat-wa")[1].average
    assert moving is not None
    assert (moving.kind, moving.decay) == ("ema", 0.98 if name == "demo" else 0.9995)
    assert all(resolved(name, plain)[1].awp is None for plain in ("sat", "trades"))


def test_a_users_rule_and_set_change_what_belongs_to_a_name() -> None:
    text = "extends: short\ndescription: x\nrules: [{method: trades-awp, training: {awp: {gamma: 0.02}}}]\n"
    own = recipe.parse("own", text)
    for settings, gamma in (({}, 0.02), ({"training.awp.gamma": 0.03}, 0.03)):
        found = own.resolve("trades-awp", "cifar10", "resnet18", settings=settings).training.awp
        assert found is not None
        assert (found.gamma, found.from_epoch) == (gamma, 2)


def test_a_recipe_that_extends_another_has_its_rules_first_and_its_own_teachers_last() -> None:
    short, larger, rehearsal = (recipe.load(name) for name in ("short", "short-cifar10", "rehearsal"))
    selection = {**short.training["selection"], "limit": None}
    assert larger.training == {**short.training, "selection": selection} != short.training
    assert larger.rules == [*short.rules, recipe.Rule(training={"selection": {"limit": None}})]
    assert rehearsal.rules[:-2] == larger.rules
    assert larger.teachers[: len(short.teachers)] == short.teachers
    assert [larger.teacher(role, "ciard", "any").model for role in ("clean", "robust")] == ["resnet56", "wrn-22-6"]
    assert rehearsal.teachers == larger.teachers
    assert (rehearsal.training["epochs"], rehearsal.teacher_limit) == (1, 4)
    assert rehearsal.training["optimizer"] == short.training["optimizer"]
    with pytest.raises(BenchError, match="Did you mean 'short'"):
        recipe.parse("own", "extends: shor")
