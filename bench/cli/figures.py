"""`bench figures`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import checkpoint_of_option, datasets_option, home_option, out_option
from bench.errors import BenchError
from bench.system.home import Home
from bench.vocabulary import Selected


@click.command("figures", cls=Command, examples=["bench figures --figure tradeoff --datasets cifar10"])
@click.option(
    "--figure",
    type=click.Choice(["curves", "tradeoff", "radius"]),
    help="Only this one; default: all there is data for.",
)
@click.option(
    "--run",
    "run_ids",
    multiple=True,
    metavar="RUN",
    help="curves: these runs, by beginnings of their ids (default: CIARD beside another).",
    shell_complete=completing.runs,
)
@click.option("--attack", help="tradeoff: result on the robust axis (default: autoattack if measured, else pgd-sat).")
@datasets_option("tradeoff, radius: only these.")
@checkpoint_of_option
@out_option("Default: HOME/results/figures.")
@home_option
@click.pass_obj
def command(
    home: Home,
    figure: str | None,
    run_ids: tuple[str, ...],
    attack: str | None,
    datasets: list[str] | None,
    checkpoint_of: Selected,
    out: Path | None,
) -> None:
    """Draw accuracy over the epochs (the paper's Figure 3), the clean-robust trade-off, and accuracy over the radius.

    Each as PDF, PNG and CSV.
    """
    from bench.figures import curves, radius, tradeoff
    from bench.figures.page import Drawing
    from bench.records.index import home_records

    if run_ids and figure is None:
        figure = "curves"
    if (attack or datasets or checkpoint_of != "best") and figure is None:
        figure = "tradeoff"
    drawings: list[Drawing] = []
    missing: list[BenchError] = []
    drawn: dict[str, Callable[[], list[Drawing]]] = {
        "curves": lambda: [curves.draw(curves.choose(home, run_ids))],
        "tradeoff": lambda: tradeoff.draw(home_records(home, checkpoint_of), attack, datasets, checkpoint_of),
        "radius": lambda: radius.draw(home_records(home, checkpoint_of), datasets),
    }
    for name in [figure] if figure else drawn:
        try:
            drawings += drawn[name]()
        except BenchError as error:
            missing.append(error)
    if missing and (figure is not None or not drawings):
        raise missing[0]
    for drawing in drawings:
        for path in drawing.write(out or home.figures):
            click.echo(path)
        click.echo(f"  {drawing.caption}")
    for reason in missing:
        click.echo(f"Not drawn: {reason}", err=True)
