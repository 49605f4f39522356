"""`bench compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import home_option, json_option, measured_options, style_option
from bench.cli.printing import show_json
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Selected

if TYPE_CHECKING:
    from bench.analysis.compare import Comparison, Contrast


@click.command(
    "compare",
    cls=Command,
    examples=["bench compare ciard rslad --attack pgd-sat", "bench compare RUN RUN --all-seeds"],
)
@click.argument("runs", metavar="RUN RUN [RUN ...]", nargs=-1, required=True, shell_complete=completing.recorded)
@measured_options
@click.option("--across-threats", "across", is_flag=True, help="Hold each under its own threat against the others.")
@style_option("How to print.")
@json_option("The same as --format json.")
@home_option
@click.pass_obj
def command(
    home: Home,
    runs: tuple[str, ...],
    student: str | None,
    dataset: str | None,
    checkpoint_of: Selected,
    all_seeds: bool,
    attacks: tuple[str, ...],
    threat: Threat | None,
    across: bool,
    style: str,
    as_json: bool,
) -> None:
    """Test whether trained networks differ, sample by sample or, with three seeds and more, seed by seed.

    A RUN is a run's id, the beginning of it or of its hash, a method, which stands for all of its seeds here, or a
    record's file. Runs that differ in the seed alone are one side.
    """
    from bench.analysis.compare import compare_networks
    from bench.analysis.find import Narrowed, find_networks

    def say(text: str) -> None:
        click.echo(text, err=True)

    networks = find_networks(runs, home, all_seeds, Narrowed(student, dataset), say, checkpoint_of)
    found = compare_networks(networks, attacks, threat, across)
    if as_json or style == "json":
        show_json(_content(found))
        return
    _print(found)


def _content(found: Comparison) -> dict[str, Any]:
    """A comparison in plain types, accuracies in [0, 1]."""
    from bench.analysis.answer import answer
    from bench.analysis.compare_text import DIFFERING
    from bench.stats import LEVEL

    return {
        "level": LEVEL,
        "sides": [
            {
                "name": side.name,
                "runs": [network.name for network in side.networks],
                "seeds": [network.subject.seed for network in side.networks],
                "threats": side.threats,
                **side.networks[0].subject.model_dump(include={"method", "overrides", "checkpoint_of", *DIFFERING}),
            }
            for side in found.sides
        ],
        "answers": [
            {"sides": pair, "condition": asdict(condition), "text": answer(contrasts)}
            for (pair, condition), contrasts in found.by_condition.items()
        ],
        "contrasts": [asdict(contrast) | {"verdict": contrast.verdict} for contrast in found.contrasts],
        "left_out": list(found.left_out),
    }


def _print(found: Comparison) -> None:
    from bench.analysis.answer import answer
    from bench.analysis.compare_text import introduction, notes

    groups = found.by_condition
    for pair in dict.fromkeys(pair for pair, _ in groups):
        click.echo(f"## {pair[0]} against {pair[1]}\n")
        of_pair = {condition: contrasts for (sides, condition), contrasts in groups.items() if sides == pair}
        for condition, contrasts in of_pair.items():
            click.echo((f"On {condition}: " if len(of_pair) > 1 else "") + answer(contrasts) + "\n")
        for line in introduction([side for side in found.sides if side.name in pair]):
            click.echo(f"- {line}")
        for condition, contrasts in of_pair.items():
            click.echo(f"\nOn {condition} (%):\n")
            _print_table(contrasts)
        click.echo()
    for line in notes(found):
        click.echo(f"- {line}")


def _print_table(contrasts: list[Contrast]) -> None:
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bench.analysis.compare_text import rows, titles

    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=1000)  # in a file no row is folded: it is Markdown
    table = Table(box=MARKDOWN)
    for title in titles(contrasts):
        table.add_column(escape(title), overflow="fold")
    for row in rows(contrasts):
        table.add_row(*map(escape, row))
    with console.capture() as shown:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in shown.get().splitlines() if line.strip()))
