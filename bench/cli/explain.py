"""`bench explain`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import json_option
from bench.cli.printing import show_json

if TYPE_CHECKING:
    from bench.recipes.explain import Explanation, Hyperparameter, Schedule

_MARK = re.compile(r" (?=(?:[-+*#>]|\d+[.)]) )")


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

    terminal = Console()
    text = "\n".join(_document(found, terminal.width - 2 * terminal.is_terminal))  # a block of code has a margin
    if terminal.is_terminal:
        terminal.print(Markdown(text))
    else:
        click.echo(text)


def _document(found: Explanation, width: int) -> Iterator[str]:
    """An explanation as Markdown, folded between words: what is typed (names, values) has no space in it."""

    def folded(text: str, indent: str = "") -> str:
        glued = _MARK.sub("\u00a0", text)  # at the beginning of a line it would begin a list, or a heading
        options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        return textwrap.fill(glued, width, subsequent_indent=indent, **options).replace("\u00a0", " ")

    teachers = " and ".join(found.teachers) or "none"
    yield f"# {found.label} (`{found.name}`)\n"
    yield folded(f"Source: {found.source}. Teachers: {teachers}. From the package {found.package}.") + "\n"
    definition = found.definition or "Its class has no docstring."
    yield "```\n" + "\n\n".join(_paragraph(text, folded) for text in definition.split("\n\n")) + "\n```\n"
    yield "## Hyper-parameters (`--set NAME=VALUE`)\n"
    variants = _distinct_variants(found.hyperparameters)
    for each in found.hyperparameters:
        yield folded(_hyperparameter(each, variants), "  ")
    if len(variants) > 1:
        yield "\n" + folded(f"The variants differ in {', '.join(f'`{name}`' for name in found.differences)}.")
    if found.page:
        yield "\n" + folded(f"What its paper and its released code differ in, piece by piece: {found.page}")
    yield "\n## Recipes (on CIFAR-10)\n"
    for schedule in found.schedules:
        yield folded(_schedule(schedule), "  ")


def _paragraph(text: str, folded: Callable[[str], str]) -> str:
    """A paragraph of a docstring; one whose lines are set on purpose, by an indentation, stays as it is."""
    lines = text.split("\n")
    return text if any(line.startswith(" ") for line in lines) else folded(" ".join(lines))


def _hyperparameter(each: Hyperparameter, variants: Sequence[str | None]) -> str:
    values = {variant or "default": _written(each, variant) for variant in variants}
    shown = ", ".join(f"{variant} `{value}`" for variant, value in values.items())
    return f"- `{each.name}` ({each.type}; {shown}): {each.about}".rstrip(": ")


def _schedule(each: Schedule) -> str:
    teachers = "".join(f"; {role} teacher: {teacher}" for role, teacher in each.teachers.items())
    settings = "".join(f"; sets {name}={_text(value)}" for name, value in each.settings.items())
    for option, fields in each.options.items():
        settings += "".join(f"; training.{option}.{name}={_text(value)}" for name, value in fields.items())
    length = f"{each.epochs} epoch{'s' if each.epochs > 1 else ''}, batches of {each.batch_size}"
    return f"- `{each.recipe}`: variant `{each.variant}`, {length}{teachers}{settings}."


def _distinct_variants(fields: Sequence[Hyperparameter]) -> list[str | None]:
    """The variants to show a value of; the default alone where they agree in everything."""
    same = all(value == each.default for each in fields for value in each.values.values())
    return [None] if same or not fields else list(fields[0].values)


def _written(each: Hyperparameter, variant: str | None) -> str:
    """A value as `--set` takes it; a length as a number of grey levels where it is one."""
    value = each.default if variant is None else each.values[variant]
    if each.length and isinstance(value, float) and round(value * 255) / 255 == value:
        return f"{round(value * 255)}/255"
    return _text(value)


def _text(value: Any) -> str:
    """A value as `--set` takes it, in one word."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple | list) else str(value)
