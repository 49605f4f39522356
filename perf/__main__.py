"""Runs benchmarks and prints their table: `python -m perf [NAME ...]`.

A benchmark is a module of this folder with `rows(options)`, which yields `Row`s; its name in `BENCHMARKS` is all that
has to be added here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import torch

from perf.timing import to_markdown

BENCHMARKS = ("training", "evaluation", "ensemble", "data")


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Attributes:
        repeats: timed turns. batch_size: 0 for the benchmark's own.
        model, dataset: a resnet18's checkpoint and the images it was trained for, for what needs a real one; or None.
    """

    repeats: int
    batch_size: int
    model: Path | None = None
    dataset: str | None = None


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed turns.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: PyTorch's.")
@click.option("--batch-size", type=click.IntRange(min=0), default=0, help="Default: each benchmark's own.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A checkpoint, robust if possible.")
@click.option("--dataset", help="The images it was trained for: parquet:DIR.")
def main(
    names: tuple[str, ...], repeats: int, threads: int | None, batch_size: int, model: Path | None, dataset: str | None
) -> None:
    """Compare the harness with code of others, in turns in one process; all benchmarks unless some are named."""
    if threads:
        torch.set_num_threads(threads)
    rows = []
    for name in names or BENCHMARKS:
        for row in import_module(f"perf.{name}").rows(Options(repeats, batch_size, model, dataset)):
            click.echo(f"{row.what}: {row.ratio:.2f} times as fast", err=True)
            rows.append(row)
    click.echo(to_markdown(rows))


main()
