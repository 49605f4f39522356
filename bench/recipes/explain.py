"""What a defense is: its equation, hyper-parameters by variant, and where its paper and its code differ.

Nothing is stated here. Docstrings and fields are the class's own, so a stranger's defense is explained as well. All
details of ours are on the page docs/fidelity.md, which a wheel carries as `bench/pages/`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from bench import registry
from bench.defense import Defense
from bench.recipes import recipe
from bench.recipes.hyperparameters import defaults, method_class, type_name
from bench.vocabulary import Role

_OWN_PACKAGE = "methods"


@dataclass(frozen=True)
class Hyperparameter:
    """A field of a defense.

    Attributes:
        type: as a user would write it.
        values: by variant; the default is what a variant without a value of its own has.
        length: whether it is a length in pixel space, which scales with a data set's eps.
        about: from the docstring; empty where that says nothing.
    """

    name: str
    type: str
    default: Any
    values: dict[str, Any]
    length: bool
    about: str


@dataclass(frozen=True)
class Taught:
    """A teacher: its architecture, and what trained it."""

    model: str
    method: str

    def __str__(self) -> str:
        return f"{self.model} by {self.method}"


@dataclass(frozen=True)
class Schedule:
    """What a recipe makes of a defense on CIFAR-10.

    Attributes:
        settings: hyper-parameters that the recipe sets besides those of the variant.
        options: what it combines the defense with (`average`, `awp`), each with its fields.
        teachers: by role.
    """

    recipe: str
    variant: str
    epochs: int
    batch_size: int
    settings: dict[str, Any]
    options: dict[str, dict[str, Any]]
    teachers: dict[Role, Taught]


@dataclass(frozen=True)
class Explanation:
    """All that is known of a defense.

    Attributes:
        package: the distribution that it comes from.
        definition: the docstring, without the fields'.
        differences: names of the hyper-parameters whose value depends on the variant.
        page: the file that tells more, under the heading of its label, or of the defense that it is a case of; empty
            for other packages' defenses.
    """

    name: str
    label: str
    source: str
    package: str
    teachers: tuple[str, ...]
    definition: str
    hyperparameters: tuple[Hyperparameter, ...]
    schedules: tuple[Schedule, ...]
    differences: tuple[str, ...]
    page: str


def explain(name: str) -> Explanation:
    """Explain a registered method; a `BenchError` where there is none of that name."""
    method = method_class(name)
    fields = tuple(_hyperparameters(method))
    return Explanation(
        name=name,
        label=method.label,
        source=method.source,
        package=registry.origin(registry.find("methods", name)),
        teachers=tuple(method.roles),
        definition=_definition(method),
        hyperparameters=fields,
        schedules=tuple(_schedules(name, method)),
        differences=tuple(each.name for each in fields if len({repr(value) for value in each.values.values()}) > 1),
        page=str(fidelity_page()) if method.__module__.split(".")[0] == _OWN_PACKAGE else "",
    )


def _hyperparameters(method: type[Defense]) -> Iterator[Hyperparameter]:
    hints, about = get_type_hints(method), _about_fields(method)
    for name, default in defaults(method).items():
        values = {variant: changed.get(name, default) for variant, changed in method.variants.items()}
        yield Hyperparameter(name, type_name(hints[name]), default, values, name in method.lengths, about.get(name, ""))


def _schedules(name: str, method: type[Defense]) -> Iterator[Schedule]:
    for each in map(recipe.load, recipe.names()):
        variant, training, settings = each.resolve(name, "cifar10", "resnet18")
        rules = {role: each.teacher(role, name, "cifar10") for role in method.roles}
        teachers = {role: Taught(rule.model, rule.trained_by) for role, rule in rules.items()}
        given = {"average": training.average, "awp": training.awp}
        options = {name: option.model_dump(exclude_none=True) for name, option in given.items() if option is not None}
        yield Schedule(each.name, variant, training.epochs, training.batch_size, settings, options, teachers)


def _split(cls: type) -> tuple[str, str]:
    """A class's own docstring: (what comes before its `Attributes:`, what comes after)."""
    text = cls.__dict__.get("__doc__") or ""
    if text.startswith(f"{cls.__name__}("):  # a dataclass without a docstring is given its signature as one
        text = ""
    definition, _, attributes = inspect.cleandoc(text).partition("\nAttributes:\n")
    return definition.strip(), attributes


def _definition(method: type[Defense]) -> str:
    """The docstring of the class that has the label, and what a class derived from it without one of its own adds."""
    classes = list(method.__mro__)
    labelled = next(index for index, cls in enumerate(classes) if "label" in cls.__dict__)
    return "\n\n".join(filter(None, (_split(cls)[0] for cls in reversed(classes[: labelled + 1]))))


def _about_fields(method: type[Defense]) -> dict[str, str]:
    """What the docstrings of a class and its bases say of fields, each from a line `name: text` on, indented below."""
    found: dict[str, str] = {}
    for cls in reversed(method.__mro__):
        lines = re.findall(r"^(\w+): (.*(?:\n +.*)*)", textwrap.dedent(_split(cls)[1]), re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in lines}
    return found


def fidelity_page() -> Path:
    """docs/fidelity.md, of the checkout or of the installed package."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "pages" / "fidelity.md"
    return shipped if shipped.exists() else package.parent / "docs" / "fidelity.md"
