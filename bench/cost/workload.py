"""What is measured: a method's training step as a recipe has it, on images and weights that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from bench.models import build_model
from bench.recipes import recipe
from bench.recipes.hyperparameters import make, method_class, parse_settings, parse_training, resolve
from bench.threat import Threat
from bench.training.step import TrainingStep
from bench.vocabulary import LINF_EPS, Precision


@dataclass(frozen=True)
class Images:
    """What a step's cost knows of a dataset.

    Attributes:
        shape: (C, H, W). train: how many training images there are.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int


IMAGES = {
    images.name: images
    for images in (
        Images("cifar10", (3, 32, 32), 10, 50_000),
        Images("cifar100", (3, 32, 32), 100, 50_000),
        Images("tiny-imagenet", (3, 64, 64), 200, 100_000),
    )
}
"""Datasets whose images need not be here to know what a step on them costs."""


@dataclass(frozen=True)
class Workload:
    """What is measured: a method as a recipe has it, with random weights, which cost what trained ones do.

    Attributes:
        variant, batch_size, epochs: instead of the recipe's.
        off: speed-ups to do without.
        settings: hyper-parameters and fields of the recipe, as `--set` takes them.
        threat: what is trained against.
        given: architectures of teachers that are not the recipe's, by role.
    """

    method: str
    student: str
    images: Images
    recipe: str = "official"
    variant: str | None = None
    batch_size: int | None = None
    precision: Precision = "32"
    off: tuple[str, ...] = ()
    epochs: int | None = None
    settings: tuple[str, ...] = ()
    threat: Threat = field(default_factory=Threat)
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def teachers(self) -> dict[str, str]:
        """The teachers' architectures by role."""
        chosen = recipe.load(self.recipe)
        roles = method_class(self.method).roles
        return {
            role: self.given.get(role) or chosen.teacher(role, self.method, self.images.name).model for role in roles
        }

    @property
    def companions(self) -> dict[str, str]:
        """The architectures of the networks of the method's own that learn, by name."""
        variant, _, own = recipe.load(self.recipe).resolve(self.method, self.images.name, self.student)
        settings = parse_settings(self.method, self.settings)
        values = resolve(self.method, self.variant or variant, own, settings, LINF_EPS)
        found = make(self.method, values).companions()
        return {name: each.spec(self.student) for name, each in found.items() if each.learns}

    def resolved(self) -> Workload:
        """The same with the recipe's variant and batch size filled in."""
        variant, training, _ = recipe.load(self.recipe).resolve(self.method, self.images.name, self.student)
        return replace(self, variant=self.variant or variant, batch_size=self.batch_size or training.batch_size)

    def networks(self, device: torch.device, wrap: Callable[[nn.Module], nn.Module]) -> dict[str, nn.Module]:
        """Student, teachers by role and companions by name on a device."""
        specs = {"student": self.student, **self.teachers, **self.companions}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            channels, classes = self.images.shape[0], self.images.classes
            return {role: wrap(build_model(spec, classes, channels).to(device)) for role, spec in specs.items()}

    def step(self, networks: Mapping[str, nn.Module]) -> TrainingStep:
        """The method's training step on these networks."""
        teachers, companions = ({name: networks[name] for name in names} for names in (self.teachers, self.companions))
        return TrainingStep.from_recipe(
            self.method,
            networks["student"],
            teachers,
            companions=companions,
            recipe_name=self.recipe,
            variant=self.variant,
            dataset=self.images.name,
            model=self.student,
            eps=self.threat,
            epochs=self.epochs,
            settings=parse_settings(self.method, self.settings) | parse_training(self.settings)[0],
            fused="fused" not in self.off,
        )
