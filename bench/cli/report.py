"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.help import Command
from bench.cli.options import datasets_option, device_option, home_option, out_option, session
from bench.system.home import Home


@click.command("report", cls=Command, examples=["bench report --out site --datasets cifar10,cifar100"])
@out_option("Default: HOME/results/report.")
@datasets_option("Only these; default: all that have records or runs.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=4,
    help="Test images to show attacked, for each defense whose weights and images are at hand; 0: none.",
)
@device_option
@home_option
@click.pass_obj
def command(home: Home, out: Path | None, datasets: list[str] | None, examples: int) -> None:
    """Write all results as a static site that opens from a disk: leaderboard, charts, tables, attacked images."""
    from bench.report.site import plotly_file, write_report

    if plotly_file() is None:
        click.echo("Plotly is not installed: no charts. To have them: pip install 'ard-bench[report]'.", err=True)
    if not examples:
        click.echo(write_report(home, out or home.report, datasets))
        return
    with session(home) as active, active.stop.at_once():
        click.echo(write_report(home, out or home.report, datasets, examples, active))
