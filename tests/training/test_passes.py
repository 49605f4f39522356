"""What one training step computes, counted: no pass more than its definition asks for, and no wait for the device."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.models import build_model
from bench.training.step import TrainingStep

from ..compute.script import COMPANIONS

K = 3
"""Attack iterations."""


class Passes(NamedTuple):
    """Passes of one network in one step.

    Attributes:
        graph: forwards whose graph is kept for a gradient. no_graph: the others.
        images: backwards that give the images' gradient alone. weights: backwards that give the weights'.
    """

    graph: int = 0
    no_graph: int = 0
    images: int = 0
    weights: int = 0


NEVER = Passes()
STUDENT = Passes(graph=K + 2, images=K, weights=2)
"""K iterations of the attack, s(x) and s(x*); the one backward of the loss goes through both."""

SEES_CLEAN = Passes(graph=K + 1, no_graph=1, images=K, weights=1)
"""The same, but that s(x) has no gradient: it moves the running statistics."""
THROUGH_TEACHER = Passes(graph=K, no_graph=1, images=K)

EXPECTED = {
    ("natural", "paper", 1): (Passes(graph=1, weights=1), NEVER, NEVER),
    ("sat", "paper", 1): (Passes(graph=K + 1, images=K, weights=1), NEVER, NEVER),
    # The attack's target, p(s(x)) in eval mode, is one pass more.
    ("trades", "paper", 1): (STUDENT._replace(no_graph=1), NEVER, NEVER),
    ("trades", "official", 1): (Passes(graph=K + 3, no_graph=1, images=K, weights=3), NEVER, NEVER),
    ("score", "official", 1): (STUDENT._replace(no_graph=1), NEVER, NEVER),
    ("ard", "official", 1): (SEES_CLEAN, Passes(no_graph=1), NEVER),
    ("fair-ard", "official", 1): (SEES_CLEAN, Passes(no_graph=1), NEVER),
    ("rslad", "official", 1): (STUDENT, Passes(no_graph=1), NEVER),
    ("absld", "official", 1): (STUDENT, Passes(no_graph=1), NEVER),
    ("mtard", "official", 1): (STUDENT, Passes(no_graph=1), Passes(no_graph=1)),
    ("b-mtard", "official", 1): (STUDENT, Passes(no_graph=1), Passes(no_graph=1)),
    ("dard", "paper", 1): (Passes(graph=K + 1, images=K, weights=1), Passes(no_graph=2), NEVER),
    ("pgdard", "paper", 1): (Passes(graph=K + 1, images=K, weights=1), Passes(no_graph=2), NEVER),
    # The released form attacks the teacher too.
    ("dard", "released", 1): (STUDENT, Passes(graph=K, no_graph=2, images=K), NEVER),
    ("ciard", "official", 1): (STUDENT, Passes(no_graph=1), Passes(no_graph=2)),
    ("ciard", "official", 100): (STUDENT, Passes(graph=1, weights=1), Passes(no_graph=2)),
    ("peeraid", "paper", 1): (STUDENT, NEVER, NEVER),
    # x* goes through the student once for each of the two losses.
    ("peeraid", "official", 1): (Passes(graph=K + 3, images=K, weights=3), NEVER, NEVER),
    ("lbgat", "official", 1): (STUDENT._replace(no_graph=1), NEVER, NEVER),
    ("adr", "official", 1): (Passes(graph=K + 1, images=K, weights=1), NEVER, NEVER),
    # Its attack goes through the clean teacher as well (Eq. 6).
    ("ciard", "paper", 1): (STUDENT, Passes(no_graph=1), Passes(graph=K, no_graph=2, images=K)),
    ("ciard", "paper", 100): (STUDENT, Passes(graph=1, weights=1), Passes(graph=K, no_graph=2, images=K)),
    # Attacks through the robust teacher: as many passes of it, forward and back, as of the student.
    ("adaad", "official", 1): (SEES_CLEAN, THROUGH_TEACHER, NEVER),
    ("adaiad", "official", 60): (SEES_CLEAN._replace(no_graph=2), THROUGH_TEACHER, NEVER),
    ("adaiad", "official", 61): (STUDENT._replace(no_graph=2), THROUGH_TEACHER, NEVER),
    ("igdm-sat", "official", 1): (STUDENT, Passes(no_graph=2), NEVER),
    ("igdm-trades", "official", 1): (Passes(graph=K + 3, no_graph=1, images=K, weights=3), Passes(no_graph=2), NEVER),
    ("igdm-ard", "official", 1): (STUDENT._replace(no_graph=1), Passes(no_graph=3), NEVER),
    ("igdm-rslad", "official", 1): (Passes(graph=K + 3, no_graph=1, images=K, weights=3), Passes(no_graph=3), NEVER),
    ("igdm-adaad", "official", 1): (STUDENT._replace(no_graph=2), THROUGH_TEACHER._replace(no_graph=2), NEVER),
    # The teacher's gradient is taken once, not at every iteration.
    ("saad", "official", 1): (STUDENT._replace(no_graph=1), Passes(graph=1, no_graph=2, images=1), NEVER),
    ("mart", "official", 1): (STUDENT, NEVER, NEVER),
    # s(x), s(x*) and the helper image; the teacher labels x*.
    ("hat", "official", 1): (Passes(graph=K + 3, no_graph=1, images=K, weights=3), NEVER, Passes(no_graph=1)),
    # Until epoch 60 nothing needs r(x*), nor the released code's further passes, s(x*) and s(x), a gradient.
    ("iad", "paper", 1): (Passes(graph=K + 1, no_graph=1, images=K, weights=1), Passes(no_graph=1), NEVER),
    ("iad", "paper", 100): (STUDENT, Passes(no_graph=2), NEVER),
    ("iad", "official", 1): (Passes(graph=K + 1, no_graph=2, images=K, weights=1), Passes(no_graph=1), NEVER),
    ("iad", "official", 100): (STUDENT._replace(no_graph=2), Passes(no_graph=2), NEVER),
    ("akd", "official", 1): (
        Passes(graph=K + 1, images=K, weights=1),
        Passes(no_graph=1),
        Passes(no_graph=1),
    ),
    ("kd-swa", "official", 1): (
        Passes(graph=K + 1, images=K, weights=1),
        Passes(no_graph=1),
        Passes(no_graph=1),
    ),
    # Its attack goes through the teacher as well.
    ("dgad", "official", 1): (STUDENT, Passes(graph=K, no_graph=2, images=K), NEVER),
    ("sat-wa", "official", 1): (Passes(graph=K + 1, images=K, weights=1), NEVER, NEVER),
    ("sat-awp", "official", 1): (Passes(graph=K + 2, no_graph=2, images=K, weights=2), NEVER, NEVER),
    ("trades-awp", "official", 1): (Passes(graph=K + 3, no_graph=1, images=K, weights=3), NEVER, NEVER),
    ("trades-awp", "official", 10): (Passes(graph=K + 6, no_graph=1, images=K, weights=6), NEVER, NEVER),
}


BESIDE = {
    "peeraid": ("peer", Passes(graph=1, no_graph=1, weights=1)),
    "lbgat": ("guide", Passes(graph=1, weights=1)),
    "adr": ("mean-teacher", Passes(no_graph=1)),
}
"""Of the networks of a method's own."""


class Counting(TorchDispatchMode):
    """Counts, below autograd, the convolutions of each network, their gradients, and what would wait for a GPU."""

    WAITS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "bincount", "unique", "item")

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        # One convolution of each network, told by its weight, stands for a pass of the whole network.
        self.owner = {}
        for name, network in networks.items():
            conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
            self.owner[conv.weight.data_ptr()] = name
        self.passes: Counter[tuple[str, str]] = Counter()
        self.waits: list[str] = []
        self.graphs: Counter[str] = Counter()
        for name, network in networks.items():
            network.register_forward_hook(lambda _m, _x, logits, name=name: self._note(name, logits))

    def _note(self, name: str, logits: torch.Tensor) -> None:
        if logits.requires_grad:
            self.graphs[name] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITS or (name == "index" and any(_is_mask(index) for index in args[1])):
            self.waits.append(name)
        if name == "convolution" and args[1].data_ptr() in self.owner:
            self.passes[self.owner[args[1].data_ptr()], "forward"] += 1
        if name == "convolution_backward" and args[2].data_ptr() in self.owner:
            kind = "weights" if args[-1][1] else "images"
            self.passes[self.owner[args[2].data_ptr()], kind] += 1
        return func(*args, **(kwargs or {}))

    def of(self, network: str) -> Passes:
        """The passes of a network; a graph is kept where a gradient went back through it."""
        forward, images, weights = (self.passes[network, kind] for kind in ("forward", "images", "weights"))
        return Passes(images + weights, forward - images - weights, images, weights)


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool


WITH_AWP = {
    # Of the outer loss one pass forward and back more; teachers make none.
    ("natural", "paper", 1): (Passes(graph=2, weights=2), NEVER, NEVER),
    ("sat", "paper", 1): (Passes(graph=K + 2, images=K, weights=2), NEVER, NEVER),
    ("rslad", "official", 1): (STUDENT._replace(graph=K + 4, weights=4), Passes(no_graph=1), NEVER),
    ("mtard", "official", 1): (STUDENT._replace(graph=K + 4, weights=4), Passes(no_graph=1), Passes(no_graph=1)),
    ("peeraid", "official", 1): (Passes(graph=K + 6, images=K, weights=6), NEVER, NEVER),
    ("adr", "official", 1): (Passes(graph=K + 2, images=K, weights=2), NEVER, NEVER),
    ("ciard", "official", 100): (
        STUDENT._replace(graph=K + 4, weights=4),
        Passes(graph=1, weights=1),
        Passes(no_graph=2),
    ),
}


def _step(method: str, variant: str, epoch: int, **more: Any) -> tuple[TrainingStep, dict[str, nn.Module]]:
    torch.manual_seed(0)
    networks = {name: build_model("digits-cnn", 10, 1) for name in ("student", "robust", "clean")}
    needed = {name: networks[name] for name in ("robust", "clean") if EXPECTED[method, variant, epoch][1:] != NEVER}
    roles = _roles(method)
    own = {name: build_model("digits-cnn", 10, 1) for name in COMPANIONS.get(method, ())}
    step = TrainingStep.from_recipe(
        method,
        networks["student"],
        {role: needed[role] for role in roles},
        companions=own,
        variant=variant,
        settings=({} if method == "natural" else {"steps": K}) | more,
    )
    return step, networks | dict(step.models.companions)


def _roles(method: str) -> tuple[str, ...]:
    from bench.recipes.hyperparameters import method_class

    return method_class(method).roles


@pytest.mark.parametrize(("method", "variant", "epoch"), EXPECTED)
def test_a_step_makes_the_passes_of_its_definition_and_waits_for_nothing(method: str, variant: str, epoch: int) -> None:
    step, networks = _step(method, variant, epoch)
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8) % 10
    step(x, y, epoch=epoch)  # what is set up in the first step is no part of one
    with Counting(networks) as counting:
        step(x, y, epoch=epoch)
    assert counting.waits == []
    found = [counting.of(name) for name in networks]
    beside = BESIDE.get(method)
    assert tuple(found[:3]) == EXPECTED[method, variant, epoch]
    assert (list(networks)[3:], found[3:]) == (([beside[0]], [beside[1]]) if beside else ([], []))
    # A graph that no gradient goes through would have passed for none.
    assert counting.graphs == {name: each.graph for name, each in zip(networks, found, strict=True) if each.graph}


@pytest.mark.parametrize(("method", "variant", "epoch"), WITH_AWP)
def test_weight_perturbation_adds_passes_of_the_outer_loss_alone(method: str, variant: str, epoch: int) -> None:
    step, networks = _step(method, variant, epoch, **{"training.awp.gamma": 0.01})
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8) % 10
    with Counting(networks) as counting:
        step(x, y, epoch=epoch)
    assert tuple(counting.of(name) for name in ("student", "robust", "clean")) == WITH_AWP[method, variant, epoch]
    if method in BESIDE:
        name, passes = BESIDE[method]
        # One that learns is part of the outer loss; no gradient to its weights is asked for.
        assert counting.of(name) == passes._replace(no_graph=passes.no_graph + bool(passes.weights))


def test_phases_tell_from_when_on_weights_are_perturbed() -> None:
    for begins, names in (
        (1, {"frozen awp": 1, "learning awp": 51}),
        (100, {"frozen": 1, "learning": 51, "learning awp": 100}),
        (51, {"frozen": 1, "learning awp": 51}),
    ):
        step, _ = _step("ciard", "official", 1, **{"training.awp.from_epoch": begins})
        shares = step.phase_shares()
        assert {name: first for name, (first, _) in shares.items()} == names
        assert sum(share for _, share in shares.values()) == pytest.approx(1)
    assert _step("sat", "paper", 1, **{"training.awp.gamma": 0.1})[0].phase_shares() == {"awp": (1, 1.0)}
    assert _step("sat", "paper", 1)[0].phase_shares() == {"": (1, 1.0)}


def test_the_count_notices_a_pass_too_many() -> None:
    step, networks = _step("sat", "paper", 1)
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8) % 10
    networks["student"].register_forward_pre_hook(lambda module, inputs: None)
    step(x, y)
    with Counting(networks) as counting:
        step(x, y)
        networks["student"](x)
        float(x.sum())
    assert counting.of("student") == Passes(graph=K + 1, no_graph=1, images=K, weights=1)
    assert counting.waits == ["_local_scalar_dense"]
