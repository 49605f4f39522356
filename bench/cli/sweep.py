"""`bench sweep`."""

from __future__ import annotations

from typing import Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.options import session
from bench.cli.tasks import How, carry_out, how_options, planned
from bench.system.home import Home


@click.command("sweep", cls=Command, examples=["bench sweep table7 --plan", "bench sweep mine.yaml --workers 2"])
@click.argument("spec", metavar="SPEC", shell_complete=completing.sweeps)
@click.option("--dataset", metavar="SPEC", help="Instead of the spec's datasets: cifar10, parquet:DIR, ...")
@click.option("--recipe", help="Instead of the spec's: `bench list recipes`; FILE.", shell_complete=completing.recipes)
@options.threat_options("Instead of the spec's threats, in training and evaluation: linf:8/255, l2:0.5, l1:12.")
@click.option("--limit-train", type=click.IntRange(min=10), help="Training images of every run.")
@click.option("--limit", type=click.IntRange(min=1), help="Test images of every evaluation, at most.")
@click.option(
    "--checkpoint-of",
    type=click.Choice(["best", "last", "both"]),
    help="Which weights of each run its evaluations attack (default: the spec's, the best).",
)
@how_options
@options.home_option
@click.pass_obj
def command(home: Home, spec: str, how: How, **changes: Any) -> None:
    """Train and evaluate all that SPEC names: a built-in sweep (`bench list sweeps`) or a YAML file.

    What is done already is skipped; after an interruption the same command continues.
    """
    from bench.sweep.spec import Changes, load_sweep, located

    sweep = located(Changes(**changes).of(load_sweep(spec)), home.recipes)
    with session(home) as active:
        carry_out(active, planned(active, sweep), how)
