"""Runs benchmarks and prints their table: `python -m perf [NAME ...]`.

A benchmark is a module of this folder with `rows(options)`, which yields `Row`s; its name in `BENCHMARKS` is all that
has to be added here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

from perf.timing import to_markdown

BENCHMARKS = ("training", "evaluation", "ensemble", "data")
ATTACKS = ("fgsm", "pgd", "cw-inf", "worst-case", "geometric", "restarts", "apgd", "autoattack")
"""What `evaluation` compares, the first four, and `ensemble`."""


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Attributes:
        repeats: timed turns. batch_size: 0 for the benchmark's own.
        model, dataset: a resnet18's checkpoint and the images it was trained for, for what needs a real one; or None.
        attacks: those that are compared, of a benchmark that compares attacks; () for all.
    """

    repeats: int
    batch_size: int
    model: Path | None = None
    dataset: str | None = None
    attacks: tuple[str, ...] = ()

    def wants(self, attack: str) -> bool:
        """Whether an attack is to be compared."""
        return not self.attacks or attack in self.attacks


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed turns.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: PyTorch's.")
@click.option("--batch-size", type=click.IntRange(min=0), default=0, help="Default: each benchmark's own.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A checkpoint, robust if possible.")
@click.option("--dataset", help="The images it was trained for: parquet:DIR.")
@click.option(
    "--attack", "attacks", multiple=True, type=click.Choice(ATTACKS), help="Of evaluation and ensemble: only this."
)
def main(names: tuple[str, ...], threads: int | None, **asked: Any) -> None:
    """Compare the harness with code of others, in turns in one process; all benchmarks unless some are named."""
    if threads:
        torch.set_num_threads(threads)
    rows = []
    for name in names or BENCHMARKS:
        for row in import_module(f"perf.{name}").rows(Options(**asked)):
            click.echo(f"{row.what}: {row.ratio:.2f} times as fast", err=True)
            rows.append(row)
    click.echo(to_markdown(rows))


main()
