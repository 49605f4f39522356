"""Optimizer steps of every method and variant, against straight-line references in NumPy (`reference.py`), in float64.

Both start from the same weights, batches and start noise, which the references get as arrays: nothing of PyTorch is in
them. Everything that moves is compared to 1e-9: the losses, the student, the robust teacher, velocities, running
statistics, and what a defense carries from step to step. A step by the sign of a gradient makes a difference of a
rounding error, where the gradient is little more than that: so the networks are smooth, and their logits bounded, that
no softmax of theirs saturates.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import registry
from bench.training.step import TrainingStep

from . import reference as one
from . import reference_adaptive as adaptive
from . import reference_companions as beside
from . import reference_since as since
from . import reference_two_teachers as two
from . import tape

SCRIPTS: dict[str, type[one.Script]] = {
    "natural": one.Natural,
    "sat": one.SAT,
    "trades": one.TRADES,
    "score": one.SCORE,
    "ard": one.ARD,
    "fair-ard": one.FairARD,
    "rslad": one.RSLAD,
    "absld": one.ABSLD,
    "dard": one.DARD,
    "pgdard": one.PGDARD,
    "mtard": two.MTARD,
    "b-mtard": two.BMTARD,
    "ciard": two.CIARD,
    "adaad": adaptive.AdaAD,
    "adaiad": adaptive.AdaIAD,
    "igdm-sat": adaptive.IGDMSAT,
    "igdm-trades": adaptive.IGDMTRADES,
    "igdm-ard": adaptive.IGDMARD,
    "igdm-rslad": adaptive.IGDMRSLAD,
    "igdm-adaad": adaptive.IGDMAdaAD,
    "saad": adaptive.SAAD,
    "peeraid": beside.PeerAiD,
    "lbgat": beside.LBGAT,
    "adr": beside.ADR,
    "akd": since.AKD,
    "dgad": since.DGAD,
    "hat": since.HAT,
    "iad": since.IAD,
    "kd-swa": since.KDSWA,
    "mart": since.MART,
    "sat-awp": since.SATAWP,
    "sat-wa": since.SATWA,
    "trades-awp": since.TRADESAWP,
}
VARIANTS = [
    *((method, "wide") for method in ("adaad", "adaiad")),
    *((method, variant) for method in SCRIPTS if "dard" not in method for variant in ("paper", "official")),
    *(("dard", variant) for variant in ("paper", "released", "paper-pgd")),
    *(("pgdard", variant) for variant in ("paper", "released")),
]
MILESTONE = {
    "natural": 150,
    "sat": 102,
    "trades": 74,
    **dict.fromkeys(("dard", "pgdard"), 30),
    **dict.fromkeys(("score", "ard", "fair-ard", "adaad", "adaiad", "saad"), 100),
    **dict.fromkeys(("igdm-sat", "igdm-trades", "igdm-ard", "igdm-adaad"), 100),
}
MILESTONE |= {"peeraid": 214, "lbgat": 75, "adr": 100}
MILESTONE |= {"igdm-rslad": 210, "akd": 100, "dgad": 100, "hat": 12, "iad": 100, "kd-swa": 150, "mart": 74}
MILESTONE |= {"sat-awp": 150, "sat-wa": 25, "trades-awp": 99}
"""The first epoch of the official schedule after which a rate drops; 215 unless named."""


def images(number: int, rng: torch.Generator) -> Tensor:
    """Blotches with some noise, so that networks tell one from another, many pixels at 0 and 1; (number, 3, 8, 8)."""
    coarse, fine = (torch.rand(number, 3, side, side, generator=rng, dtype=torch.float64) for side in (2, 8))
    mixed = 0.75 * coarse.repeat_interleave(4, 2).repeat_interleave(4, 3) + 0.25 * fine
    return (1.4 * mixed - 0.2).clamp(0, 1)


class Bounded(nn.Module):
    """5 tanh(z / 5): logits that cannot run away within a few steps at a rate of 0.1."""

    def forward(self, logits: Tensor) -> Tensor:
        return 5 * torch.tanh(logits / 5)


def network(classes: int, seed: int) -> nn.Sequential:
    """conv-BN-conv-BN-pool-linear on 3x8x8 images; statistics settled, logits of deviation 4 before the bound."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Tanh()]
        layers += [nn.Conv2d(6, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.Tanh()]
        linear = nn.Linear(12, classes)
        net = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), linear, Bounded()).double()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(20):
            net(images(64, rng))
        net.eval()
        linear.weight *= 4 / net[:-1](images(64, rng)).std(0)[:, None]
        linear.bias.sub_(net[:-1](images(64, rng)).mean(0))
    return net


@dataclass
class Setting:
    """Networks, and three batches of (images, labels, start noise).

    A third of the labels is what the clean teacher says, a third what the robust one says, a third goes through all
    classes: so each teacher is right on some images and wrong on others. The student is a disturbed robust teacher.
    Class 0 is missing from the third batch.
    """

    student: nn.Sequential
    teachers: Mapping[str, nn.Sequential]
    batches: list[tuple[Tensor, Tensor, Tensor]]


def setting(classes: int, seed: int = 0) -> Setting:
    teachers = {"clean": network(classes, 2 * seed), "robust": network(classes, 2 * seed + 1)}
    student = deepcopy(teachers["robust"])
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(0.05 * weight.std() * torch.randn(weight.shape, generator=rng, dtype=weight.dtype))
        for name in ("weight", "bias"):
            student.get_parameter(f"{len(student) - 2}.{name}").mul_(0.5)
    size, batches = (24 if classes == 10 else 102), []
    for number in range(3):
        x = images(size, rng)
        y = (torch.arange(size) // 3 + number * size // 3) % classes
        y[0::3], y[1::3] = teachers["clean"](x).argmax(1)[0::3], teachers["robust"](x).argmax(1)[1::3]
        if number == 2:
            y[y == 0] = 1
        noise = torch.rand(x.shape, generator=rng, dtype=torch.float64) * 2 - 1
        batches.append((x, y, noise))
    return Setting(student, teachers, batches)


def to_numpy(values: Tensor) -> np.ndarray:
    """A copy."""
    return values.detach().numpy().copy()


def numpy_network(net: nn.Module) -> tape.Network:
    """A copy of a `network`."""
    return tape.Network({name: to_numpy(value) for name, value in net.state_dict().items()})


@dataclass
class Pair:
    """The project's step and the script, each on a copy of the networks of its own, and the losses of their steps."""

    step: TrainingStep
    script: one.Script
    losses: list[tuple[float, float]]


def drive(
    method: str,
    variant: str,
    classes: int,
    given: Setting,
    epochs: list[int],
    script: type[one.Script] | None = None,
    model: str = "resnet18",
    **settings: Any,
) -> Pair:
    """One step an epoch named (with the batches in turn), both ways; where the epoch changes, its end.

    Args:
        script: in place of the method's own, for settings of its own.
        model: the student's architecture, by which the recipe's rules choose.
    """
    roles = registry.load("methods", method).roles
    ours = {role: deepcopy(given.teachers[role]) for role in roles}
    own = {"peeraid": ["peer"], "lbgat": ["guide"]}.get(method, [])
    companions = {name: network(classes, 7) for name in own}
    theirs = {name: numpy_network(net) for name, net in (ours | companions).items()}
    step = TrainingStep.from_recipe(
        method,
        deepcopy(given.student),
        ours,
        companions=companions,
        recipe_name="paper" if variant.startswith("paper") else "official",
        variant=variant if variant == "wide" else None,
        dataset=f"cifar{classes}",
        model=model,
        settings=settings | ({"attack": "pgd"} if variant.endswith("-pgd") else {}),
    )
    pair = Pair(step, (script or SCRIPTS[method])(variant, numpy_network(given.student), theirs, classes), [])
    for number, epoch in enumerate(epochs):
        if number and epoch != epochs[number - 1]:
            step.end_epoch(epochs[number - 1])
            pair.script.end_epoch(epochs[number - 1])
        x, y, noise = given.batches[number % 3]
        total = step(x, y, epoch=epoch, step=epochs[:number].count(epoch), steps=3, noise=noise).total
        expected = pair.script.step(tape.Tensor(to_numpy(x)), to_numpy(y), tape.Tensor(to_numpy(noise)), epoch)
        pair.losses.append((float(total), expected))
    return pair


def flat(state: dict[str, Any]) -> dict[str, Any]:
    """What a defense carries, under the scripts' names."""
    found: dict[str, Any] = {key: state[key] for key in ("class_weights", "t_adv", "t_nat") if key in state}
    found |= {f"t_{key}": value for key, value in state.get("temperatures", {}).items()}
    return found | ({"w_nat": state["weights"]["nat"]} if "weights" in state else {})


def same(actual: Any, expected: Any, what: str) -> None:
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12, msg=lambda text: f"{what}: {text}")


def same_network(actual: nn.Module, expected: tape.Network, what: str, buffers: bool = True) -> None:
    values = expected.state_dict()
    assert values.keys() == actual.state_dict().keys()
    for name in values if buffers else expected.named_parameters():
        same(actual.state_dict()[name], values[name], f"{what} {name}")


def check(pair: Pair) -> None:
    """Everything that moves is the same."""
    for number, (ours, theirs) in enumerate(pair.losses):
        same(ours, theirs, f"loss of step {number}")
    step, script = pair.step, pair.script
    same_network(step.models.student, script.student, "student")
    for weight, velocity in zip(step.models.student.parameters(), script.sgd.velocities, strict=True):
        same(step.optimizer.state[weight]["momentum_buffer"], velocity, "velocity")
    assert step.models.companions.keys() == script.companions.keys()
    for name, network in script.companions.items():
        same_network(step.models.companions[name], network, name)
    for name, sgd in script.sgds.items():
        for weight, velocity in zip(step.models.companions[name].parameters(), sgd.velocities, strict=True):
            same(step.optimizer.state[weight]["momentum_buffer"], velocity, f"{name}'s velocity")
    average = getattr(script, "average", None)
    if average is not None:
        assert step.average is not None
        # Those of a mean of weights are estimated anew where it is looked at.
        same_network(step.average.network, average, "average", buffers=not isinstance(script, since.KDSWA))
    state = step.defense.state_dict()
    carried = flat(state)
    for name, value in script.carried.items():
        same(carried[name], value, name)
    # The released CIARD's robust teacher is never in eval mode while training, so its statistics are read by nothing.
    unread = isinstance(script, two.CIARD) and script.official
    for role, teacher in step.models.teachers.items():
        same_network(teacher, getattr(script, role), f"{role} teacher", buffers=not (unread and role == "robust"))
    if isinstance(script, two.CIARD) and script.teacher_sgd.velocities:
        theirs = state["teacher_optimizer"]["state"]
        for number, velocity in enumerate(script.teacher_sgd.velocities):
            same(theirs[number]["momentum_buffer"], velocity, "robust teacher's velocity")


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_an_epoch_of_three_steps_and_the_first_of_the_next(method: str, variant: str, classes: int) -> None:
    check(drive(method, variant, classes, setting(classes), [1, 1, 1, 2]))


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_the_epoch_after_which_rates_drop(method: str, variant: str) -> None:
    epoch = MILESTONE.get(method, 215)
    check(drive(method, variant, 10, setting(10, seed=1), [epoch] * 3 + [epoch + 1]))


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize(
    ("method", "epochs"),
    [("iad", [60, 61, 61, 61]), ("trades-awp", [9, 10, 10, 10]), ("kd-swa", [55, 56, 56, 57, 58])],
)
def test_what_begins_within_a_run(method: str, variant: str, epochs: list[int]) -> None:
    check(drive(method, variant, 10, setting(10, seed=1), epochs))


@pytest.mark.parametrize("classes", [10, 100])
def test_dgad_with_a_mobilenet_is_another_loss_in_the_released_code(classes: int) -> None:
    given = setting(classes)
    pair = drive("dgad", "official", classes, given, [1, 1, 1], since.DGADOfMobileNet, "mobilenet_v2")
    check(pair)
    assert isinstance(pair.script, since.DGAD)
    assert all(0 < wrong < len(given.batches[0][1]) for wrong in pair.script.wrong)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("right", [True, False])
def test_dgad_where_the_teacher_is_always_right_or_always_wrong(variant: str, right: bool) -> None:
    given = setting(10)
    robust = given.teachers["robust"]
    given.batches = [(x, (robust(x).argmax(1) + (not right)) % 10, noise) for x, _, noise in given.batches]
    pair = drive("dgad", variant, 10, given, [1, 1, 1])
    check(pair)
    assert isinstance(pair.script, since.DGAD)
    assert pair.script.wrong == [0 if right else 24] * 3


@pytest.mark.parametrize("epochs", [[1, 1, 1], [50, 51, 51, 51], [150, 150, 151], [260, 260, 261], [299, 300]])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_ciards_teacher_before_and_after_the_freeze(variant: str, epochs: list[int]) -> None:
    given = setting(10, seed=2)
    pair = drive("ciard", variant, 10, given, epochs)
    check(pair)
    assert isinstance(pair.script, two.CIARD)
    assert all(0 < joined < 24 for joined in pair.script.joined)
    assert pair.script.robust is not None
    before = numpy_network(given.teachers["robust"]).parameters()
    moved = [(a.data != b.data).any() for a, b in zip(before, pair.script.robust.parameters(), strict=True)]
    assert set(moved) == {epochs[-1] > 50}


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_ciard_without_anything_to_push_away_from(variant: str) -> None:
    given = setting(10)
    linear = given.teachers["clean"][-2]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.mul_(0.05)
        linear.bias.copy_(4.0 * (torch.arange(10) == 3))
    given.batches = [(x, torch.full_like(y, 3), noise) for x, y, noise in given.batches]
    pair = drive("ciard", variant, 10, given, [1, 51, 51])
    check(pair)
    assert isinstance(pair.script, two.CIARD)
    assert pair.script.joined == [0, 0, 0]


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_adaiads_student_teaches_itself_from_epoch_61_on(variant: str, classes: int) -> None:
    check(drive("adaiad", variant, classes, setting(classes, seed=1), [59, 60, 61, 62]))


@pytest.mark.parametrize("classes", [10, 100])
def test_saad_with_a_weight_for_its_clean_term(classes: int) -> None:
    given = setting(classes, seed=1)
    check(drive("saad", "official", classes, given, [120] * 3, adaptive.SAADWithClean, clean_weight=0.7))


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("method", ["score", "fair-ard"])
def test_a_student_that_is_surely_right(method: str, variant: str) -> None:
    """SCORE's losses below its bound; Fair-ARD's weights between theirs, and classes without a sample."""
    given = setting(10, seed=2)
    x = images(600, torch.Generator().manual_seed(1))
    with torch.no_grad():
        best, second = given.student(x).topk(2).values.T
        x = x[(best - second).argsort(descending=True)[:72]][
            torch.randperm(72, generator=torch.Generator().manual_seed(1))
        ]
        y = given.student(x).argmax(1)
    noises = [noise for *_, noise in given.batches]
    given.batches = list(zip(x.split(24), y.split(24), noises, strict=True))
    pair = drive(method, variant, 10, given, [1, 1, 1, 2])
    check(pair)
    if isinstance(pair.script, one.SCORE):
        assert 0 < pair.script.cut[0] < 24
    else:
        weights = pair.script.carried["class_weights"]
        seen = np.array([bool((y == label).any()) for label in range(10)])
        assert weights[~seen].tolist() == [1] * int((~seen).sum())
        assert ((weights > 5 / 6) & (weights < 5 / 2))[seen].any()
        assert 2 < seen.sum() < 10


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_setting_is_varied(classes: int, seed: int) -> None:
    given = setting(classes, seed)
    for x, y, _ in given.batches:
        for network in (given.student, *given.teachers.values()):
            right = network(x).argmax(1) == y
            assert 0 < right.sum() < len(y)
    missing = [label for label in range(classes) if all(label not in y for _, y, _ in given.batches)]
    assert missing == []
    assert 0 not in given.batches[2][1]
