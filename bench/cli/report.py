"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import device_option, home_option, session
from bench.system.home import Home


@click.command("report")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: HOME/results/report.")
@click.option("--datasets", metavar="A,B", help="Only these; default: all that have records or runs.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Test images to show attacked, for each defense whose weights and images are at hand; 0: none.",
)
@device_option
@home_option
@click.pass_obj
def command(home: Home, out: Path | None, datasets: str | None, examples: int, device: str) -> None:
    """Write all results as a static site that opens from a disk: leaderboard, charts, tables, attacked images."""
    from bench.report.site import write_report

    wanted = [name.strip() for name in datasets.split(",") if name.strip()] if datasets else None
    if not examples:
        click.echo(write_report(home, out or home.report, wanted))
        return
    with session(home, device) as active, active.stop.at_once():
        click.echo(write_report(home, out or home.report, wanted, examples, active))
