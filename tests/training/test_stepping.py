"""Driving one training step from outside: the documented way, and what it refuses."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import registry
from bench.defense import Batch, Defense, Loss, Models
from bench.errors import BenchError
from bench.models import build_model
from bench.recipes.hyperparameters import method_class
from bench.training.step import TrainingStep
from methods.absld import ABSLD

from ..helpers.places import DOCS


def networks(count: int) -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [build_model("digits-cnn", 10, 1).double() for _ in range(count)]


UNCHECKED: Any = Loss
"""For what the types forbid: an author of a defense need not check types."""


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.rand(16, 1, 8, 8, generator=source, dtype=torch.float64), torch.arange(16) % 10


def test_the_example_of_the_fidelity_page_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "fidelity.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    step, loss = names["step"], names["loss"]
    assert isinstance(step, TrainingStep)
    assert loss.total.dtype == torch.float64
    assert step.lr == pytest.approx(0.1)
    assert set(names["state"]) >= {"robust_teacher", "teacher_optimizer", "temperatures"}
    assert all(value.dtype == torch.float64 for value in step.models.student.parameters())


def test_a_step_trains_the_student_and_leaves_the_teacher() -> None:
    student, robust = networks(2)
    before, teacher = copy.deepcopy(student.state_dict()), copy.deepcopy(robust.state_dict())
    step = TrainingStep.from_recipe("rslad", student, {"robust": robust})
    first = step(*batch(), noise=torch.zeros_like(batch()[0]))
    second = step(*batch(), noise=torch.zeros_like(batch()[0]))
    assert second.total < first.total
    assert not first.total.requires_grad
    assert all(not torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(torch.equal(value, teacher[key]) for key, value in robust.state_dict().items())


def test_the_same_noise_gives_the_same_step_and_other_noise_another() -> None:
    totals = []
    for seed in (5, 5, 6):
        (student,) = networks(1)
        step = TrainingStep.from_recipe("sat", student)
        totals.append(step(*batch(), generator=torch.Generator().manual_seed(seed)).total.item())
    assert totals[0] == totals[1] != totals[2]


def test_a_step_takes_images_in_0_1_and_their_labels() -> None:
    (student,) = networks(1)
    before = copy.deepcopy(student.state_dict())
    step, (x, y) = TrainingStep.from_recipe("natural", student), batch()
    for images, labels, message in (
        ((255 * x).to(torch.uint8), y, r"images and labels of uint8 \(16, 1, 8, 8\) and int64"),
        (x, y.int(), r"float64 .* and int32 \(16,\)"),
        (x, y[:3], r"and int64 \(3,\)"),
        (255 * x, y, r"images from \S+ to 25\S+, not in \[0, 1\]"),
        ((x - 0.5) / 0.2, y, r"images from -2\S+ to 2\S+, not in \[0, 1\]"),
        (x.index_fill(0, torch.tensor([3]), torch.nan), y, "images from nan"),
    ):
        with pytest.raises(BenchError, match=message):
            step(images, labels)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    step(x, y)


def test_a_teacher_with_weights_that_are_no_numbers_is_refused() -> None:
    student, robust = networks(2)
    next(robust.parameters()).data.view(-1)[0] = torch.nan
    with pytest.raises(BenchError, match="the robust teacher has NaN or infinite weights"):
        TrainingStep.from_recipe("rslad", student, {"robust": robust})


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.05), (99, 0.05), (101, 0.005), (106, 0.0005)])
def test_the_recipe_gives_optimizer_and_schedule(epoch: int, rate: float) -> None:
    (student,) = networks(1)
    step = TrainingStep.from_recipe("score", student)
    step(*batch(), epoch=epoch)
    assert step.lr == pytest.approx(rate)
    assert step.optimizer.param_groups[0]["weight_decay"] == 5e-4


def test_settings_variant_and_eps_reach_the_defense() -> None:
    student, robust = networks(2)
    step = TrainingStep.from_recipe(
        "absld", student, {"robust": robust}, variant="paper", eps=2 / 16, settings={"adv_weight": 0.5}
    )
    assert isinstance(step.defense, ABSLD)
    assert (step.defense.shared_logits, step.defense.adv_weight) == (False, 0.5)
    assert step.defense.eps == pytest.approx(2 / 16)
    assert step.defense.step_size == pytest.approx(2 / 16 / 4)


@pytest.mark.parametrize(
    ("method", "roles", "options", "message"),
    [
        ("ciard", ("robust",), {}, "ciard needs the teachers robust, clean, not robust"),
        ("sat", ("robust",), {}, "sat needs the teachers none, not robust"),
        ("dard", ("robust",), {"variant": "official"}, "variant of dard"),
        ("sat", (), {"recipe_name": "offical"}, "recipe"),
        ("sat", (), {"settings": {"step": 3}}, "step"),
        ("tart", (), {}, "tart"),
    ],
)
def test_mistakes_are_said(method: str, roles: tuple[str, ...], options: dict, message: str) -> None:
    student, teacher = networks(2)
    with pytest.raises(BenchError, match=message):
        TrainingStep.from_recipe(method, student, dict.fromkeys(roles, teacher), **options)


def returns(make: Callable[[Tensor], Any]) -> TrainingStep:
    """A step of a stranger's defense whose loss is what `make` makes of the student's logits."""

    class Strange(Defense):
        label = source = "nobody"

        def loss(self, batch: Batch, models: Models) -> Loss:
            found: Loss = make(models.student(batch.x))
            return found

    (student,) = networks(1)
    known = TrainingStep.from_recipe("natural", student)
    known.defense = Strange()
    return known


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda logits: logits.mean(), "is a Tensor, not a bench.defense.Loss"),
        (lambda logits: None, "is a NoneType, not"),
        (lambda logits: (logits.mean(), {}), "is a tuple, not"),
        (lambda logits: UNCHECKED(logits.mean(), [logits.mean()]), "terms that are a list"),
        (lambda logits: UNCHECKED(0.5, {}), "a total that is a float, not a tensor"),
        (lambda logits: Loss(logits.mean(dim=1), {}), r"a total of shape \[16\], not a scalar"),
        (lambda logits: UNCHECKED(logits.mean(), {"ce": 0.5}), "a ce that is a float, not a tensor"),
        (lambda logits: Loss(logits.mean(), {"ce": logits.mean(dim=0)}), r"a ce of shape \[10\], not a scalar"),
        (lambda logits: Loss(logits.mean().detach(), {}), "without a gradient"),
    ],
)
def test_what_is_no_loss_is_said_and_trains_nothing(make: Callable[[Tensor], Any], words: str) -> None:
    step = returns(make)
    before = copy.deepcopy(dict(step.models.student.named_parameters()))
    with pytest.raises(BenchError, match=words) as caught:
        step(*batch())
    assert f"the defense Strange ({__name__})" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in step.models.student.named_parameters())


def test_a_total_alone_is_a_loss() -> None:
    assert returns(lambda logits: Loss(logits.square().mean(), {}))(*batch()).terms == {}


@pytest.mark.parametrize("roles", [("teacher3",), "robust", ["robust"], ("robust", "robust"), (1,)])
def test_roles_that_are_none_are_refused_before_any_teacher_is_trained(
    roles: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = type("Strange", (Defense,), {"label": "Strange", "source": "nobody", "roles": roles})
    monkeypatch.setattr(registry, "load", lambda kind, name: strange)
    with pytest.raises(BenchError, match=r"'strange' has roles = .*\('clean', 'robust'\)"):
        method_class("strange")
