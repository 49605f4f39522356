"""`bench explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import json_option
from bench.cli.printing import show_json

if TYPE_CHECKING:
    from bench.recipes.explain import Explanation, Hyperparameter


@click.command("explain", cls=Command, examples=["bench explain ciard"])
@click.argument("method", shell_complete=completing.plugins("methods"))
@json_option()
def command(method: str, as_json: bool) -> None:
    """Say what a defense is: equation, source, teachers, hyper-parameters, what its paper and its code differ in."""
    from bench.recipes.explain import explain

    found = explain(method)
    if as_json:
        show_json(asdict(found))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    text, terminal = "\n".join(_document(found)), Console()
    if terminal.is_terminal:
        terminal.print(Markdown(text))
    else:
        click.echo(text)


def _document(found: Explanation) -> Iterator[str]:
    """An explanation as Markdown, line by line."""
    teachers = " and ".join(found.teachers) or "none"
    yield f"# {found.label} (`{found.name}`)\n"
    yield f"Source: {found.source}. Teachers: {teachers}. From the package {found.package}.\n"
    yield f"```\n{found.definition or 'Its class has no docstring.'}\n```\n"
    yield "## Hyper-parameters (`--set NAME=VALUE`)\n"
    variants = _distinct_variants(found.hyperparameters)
    rows = [
        [f"`{each.name}`", each.type, *(_written(each, variant) for variant in variants), each.about]
        for each in found.hyperparameters
    ]
    yield from _table(["name", "type", *(variant or "default" for variant in variants), "what it is"], rows)
    if len(variants) > 1:
        yield f"\nThe variants differ in {', '.join(f'`{name}`' for name in found.differences)}."
    if found.page:
        yield f"\nWhat its paper and its released code differ in, piece by piece: {found.page}"
    yield "\n## Recipes (on CIFAR-10)\n"
    schedules = [
        [
            each.recipe,
            each.variant,
            each.epochs,
            each.batch_size,
            ", ".join(f"{role}: {teacher}" for role, teacher in each.teachers.items()) or "none",
            ", ".join(f"{name}={value}" for name, value in each.settings.items()),
        ]
        for each in found.schedules
    ]
    yield from _table(["recipe", "variant", "epochs", "batch", "teachers", "sets"], schedules)


def _distinct_variants(fields: Sequence[Hyperparameter]) -> list[str | None]:
    """The variants to show a column of; the default alone where they agree in everything."""
    same = all(value == each.default for each in fields for value in each.values.values())
    return [None] if same or not fields else list(fields[0].values)


def _written(each: Hyperparameter, variant: str | None) -> str:
    """A value as `--set` takes it; a length as a number of grey levels where it is one."""
    value = each.default if variant is None else each.values[variant]
    if each.length and isinstance(value, float) and round(value * 255) / 255 == value:
        return f"{round(value * 255)}/255"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _table(header: Sequence[str | None], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A Markdown table."""
    for row in [header, ["---"] * len(header), *rows]:
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
