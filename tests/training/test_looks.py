"""What a look at the models measures, and how the selections that scripts have judge it."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from attacks.pgd import PGDSAT
from bench.compute.seeding import generator
from bench.data.dataset import Split, to_float
from bench.defense import Models
from bench.recipes import recipe
from bench.recipes.training import SQUARED, WORST_CLASS, Selection
from bench.threat import Threat
from bench.training.monitor import Monitor

CLASSES, EPS = 4, 8 / 255


class Small(nn.Module):
    """Two layers, so that the two objectives' gradients differ in sign somewhere."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        for parameter in self.parameters():
            parameter.data.mul_(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def split(n: int = 60) -> Split:
    """Images with the labels that one network gives them, but for every fifth; the last class has few."""
    images = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = Small(0)(to_float(images)).argmax(1)
    labels[::5] = (labels[::5] + 1) % (CLASSES - 1)
    return Split(images, labels)


def looked(
    n: int = 60,
    *,
    by: Literal["weighted", "robust", "robust-and-worst-class"] = "weighted",
    also: Literal["squared-error"] | None = None,
) -> dict[str, dict[str, float]]:
    selection = Selection(split="test", by=by, also=also, steps=5, step_size=2 / 255)
    monitor = Monitor(split(n), selection, Threat("linf", EPS), seed=3)
    return monitor.look(Models(student=Small(0), teachers={"robust": Small(1)}))


def by_hand(squared: bool, noise: Tensor) -> Tensor:
    """Which samples stand PGD-5 on the cross-entropy, or on sum_c (p_c - [c = y])^2; shape (60,)."""
    student, data = Small(0), split()
    x, y = to_float(data.images), data.labels
    x_adv = (x + EPS * noise).clamp(0, 1)
    for _ in range(5):
        x_adv = x_adv.detach().requires_grad_()
        p = student(x_adv).softmax(1)
        of_label = p.gather(1, y[:, None])[:, 0]
        loss = (p.square().sum(1) - 2 * of_label + 1) if squared else -of_label.log()
        (gradient,) = torch.autograd.grad(loss.sum(), x_adv)
        x_adv = x + (x_adv.detach() + 2 / 255 * gradient.sign() - x).clamp(-EPS, EPS)
        x_adv = x_adv.clamp(0, 1)
    return student(x_adv).argmax(1) == y


def test_a_look_measures_what_its_selection_is_by() -> None:
    plain = looked(600)  # more than one batch
    assert set(plain["student"]) == {"clean", "robust"}
    fair = looked(600, by="robust-and-worst-class")
    assert set(fair["student"]) == set(fair["robust teacher"]) == {"clean", "robust", WORST_CLASS}
    both = looked(600, also="squared-error")
    assert set(both["student"]) == set(both["robust teacher"]) == {"clean", "robust", SQUARED}
    for more in (fair, both):
        assert all(more[name][kind] == plain[name][kind] for name in plain for kind in plain[name])


def test_both_attacks_and_the_worst_class_are_by_definition() -> None:
    data, like = split(), torch.zeros(1)
    first, second = (
        PGDSAT().start_noise(data.images.shape, like, generator(3, *place))
        for place in (("monitor",), ("monitor", SQUARED))
    )
    assert first is not None
    assert second is not None
    stand, stand_squared = by_hand(False, first), by_hand(True, second)
    assert 0 < stand.sum() < len(stand)
    both = looked(by="robust-and-worst-class", also="squared-error")["student"]
    assert both["robust"] == pytest.approx(stand.float().mean().item())
    assert both[SQUARED] == pytest.approx(stand_squared.float().mean().item())
    worst = min(stand[data.labels == c].float().mean().item() for c in data.labels.unique())
    assert both[WORST_CLASS] == pytest.approx(worst)


def test_the_lower_of_two_attacks_counts() -> None:
    by_robust = Selection(split="test", by="robust", also="squared-error")
    assert by_robust.score({"clean": 0.9, "robust": 0.5, SQUARED: 0.4}) == 0.4
    assert by_robust.score({"clean": 0.9, "robust": 0.3, SQUARED: 0.4}) == 0.3
    weighted = by_robust.model_copy(update={"by": "weighted"})
    assert weighted.score({"clean": 0.9, "robust": 0.5, SQUARED: 0.4}) == pytest.approx(0.65)


def test_a_fair_selection_adds_the_worst_class() -> None:
    fair = Selection(split="test", by="robust-and-worst-class")
    assert fair.score({"clean": 0.9, "robust": 0.5, WORST_CLASS: 0.1}) == 0.6


def test_scores_script_selects_by_the_lower_of_two() -> None:
    training = recipe.load("official").resolve("score", "cifar10", "resnet18").training
    assert (training.selection.by, training.selection.also) == ("robust", "squared-error")
