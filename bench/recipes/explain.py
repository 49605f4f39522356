"""What a defense is: its equation, hyper-parameters by variant, and where its paper and its code differ.

Nothing is stated here. Docstrings and fields are the class's own, so a stranger's defense is explained as well; what
paper and code differ in is the defense's section of docs/fidelity.md, which a wheel carries as `bench/pages/`.
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
class Schedule:
    """What a recipe makes of a defense on CIFAR-10.

    Attributes:
        settings: hyper-parameters that the recipe sets besides those of the variant.
        teachers: by role, `MODEL by METHOD`.
    """

    recipe: str
    variant: str
    epochs: int
    batch_size: int
    settings: dict[str, Any]
    teachers: dict[str, str]


@dataclass(frozen=True)
class Explanation:
    """All that is known of a defense.

    Attributes:
        package: the distribution that it comes from.
        definition: the docstring, without the fields'.
        page: its section of the fidelity page, Markdown; of the defense that it is a case of (`page_of`) where it has
            none of its own; empty for other packages' defenses.
        differences: the rows of the section's tables, by column.
    """

    name: str
    label: str
    source: str
    package: str
    teachers: tuple[str, ...]
    definition: str
    hyperparameters: tuple[Hyperparameter, ...]
    schedules: tuple[Schedule, ...]
    page_of: str
    page: str
    differences: tuple[dict[str, str], ...]


def explain(name: str) -> Explanation:
    """Explain a registered method; a `BenchError` where there is none of that name."""
    method = method_class(name)
    page_of, page = _section(method)
    return Explanation(
        name=name,
        label=method.label,
        source=method.source,
        package=registry.origin(registry.find("methods", name)),
        teachers=tuple(method.roles),
        definition=_split(method)[0],
        hyperparameters=tuple(_hyperparameters(method)),
        schedules=tuple(_schedules(name, method)),
        page_of=page_of,
        page=page,
        differences=tuple(table_rows(page)),
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
        teachers = {role: f"{rule.model} by {rule.trained_by}" for role, rule in rules.items()}
        yield Schedule(each.name, variant, training.epochs, training.batch_size, settings, teachers)


def _split(cls: type) -> tuple[str, str]:
    """A class's own docstring: (what comes before its `Attributes:`, what comes after)."""
    text = cls.__dict__.get("__doc__") or ""
    if text.startswith(f"{cls.__name__}("):  # a dataclass without a docstring is given its signature as one
        text = ""
    definition, _, attributes = inspect.cleandoc(text).partition("\nAttributes:\n")
    return definition.strip(), attributes


def _about_fields(method: type[Defense]) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field: `name: text.`, several on a line or not."""
    start = rf"(?:^|(?<=\. ))({'|'.join(map(re.escape, defaults(method)))}): "
    found: dict[str, str] = {}
    for cls in reversed(method.__mro__):
        _, *parts = re.split(start, textwrap.dedent(_split(cls)[1]), flags=re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return found


def fidelity_page() -> str:
    """docs/fidelity.md, from the checkout or from the installed package."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "pages" / "fidelity.md"
    return (shipped if shipped.exists() else package.parent / "docs" / "fidelity.md").read_text(encoding="utf-8")


def _section(method: type[Defense]) -> tuple[str, str]:
    """(its label, its text): the page's section on a defense of ours, or on the one that it derives from."""
    if method.__module__.split(".")[0] != _OWN_PACKAGE:
        return "", ""
    text = fidelity_page()
    for cls in method.__mro__:
        label = cls.__dict__.get("label")
        found = label and re.search(rf"^## {re.escape(label)}(?=[ (;]|$).*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
        if found:
            return str(label), found[1].strip()
    return "", ""


def table_rows(markdown: str) -> Iterator[dict[str, str]]:
    """Every row of the tables in a Markdown text, by the header's cells."""
    header: list[str] = []
    for line in markdown.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not header:
            header = cells
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            yield dict(zip(header, cells, strict=True))
