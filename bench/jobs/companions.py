"""The networks that a method has of its own and that learn beside the student: what they are, how they begin."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from bench import registry
from bench.compute.seeding import seeded
from bench.data.dataset import Dataset
from bench.defense import STUDENT
from bench.errors import BenchError
from bench.models import build_model, split_spec, try_out
from bench.recipes import hyperparameters
from bench.recipes.recipe import Resolved
from bench.runs.config import RunConfig
from bench.vocabulary import LINF_EPS


def check(method: str, resolved: Resolved, settings: Iterable[str], given: nn.Module | None) -> None:
    """Find an architecture that nothing builds before anything long begins.

    Args:
        resolved: the recipe, for this run. settings: the user's `key=value` texts.
        given: the student, where it is the caller's own and no name builds it.
    """
    own = hyperparameters.parse_settings(method, settings)
    values = hyperparameters.resolve(method, resolved.variant, resolved.hyperparameters, own, LINF_EPS)
    for name, each in hyperparameters.make(method, values).companions().items():
        if each.model != STUDENT:
            registry.find("models", split_spec(each.model)[0])
        elif each.learns and given is not None:
            raise BenchError(
                f"The {name} of {method} has the student's architecture, and no name builds {type(given).__name__}.\n"
                f"Name the student's, or another one for the {name} (`bench list models`), by the setting {name}."
            )


def new(config: RunConfig, dataset: Dataset) -> dict[str, nn.Module]:
    """They before their first step, by name; the same weights for the same seed, whatever the student is."""
    made = {}
    for name, each in hyperparameters.make(config.method, config.hyperparameters).companions().items():
        if each.learns:
            spec = each.spec(config.student)
            with seeded(torch.device("cpu"), config.seed, "weights", name):
                made[name] = build_model(spec, config.data.classes, config.data.in_channels)
            try_out(made[name], spec, dataset.train, config.data.classes)
    return made
