"""Commands whose help ends in examples, and groups whose list of commands has whole sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click


class Shown(click.Command):
    """Its help ends in examples.

    Attributes:
        examples: lines for the shell; the tests parse every one.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            # Not click's section, which folds lines.
            lines = (f"  {line}\n" for line in self.examples)
            formatter.write(f"\nExample{'s' if len(self.examples) > 1 else ''}:\n{''.join(lines)}")


class Command(Shown):
    """A command with examples."""


class Group(Shown, click.Group):
    """A group whose help has the whole first sentence of each of its commands."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, first_sentence(command.help or "")) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    """Of a help text, on one line."""
    return re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]
