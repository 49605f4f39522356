"""`bench demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from bench.cli.help import Command
from bench.cli.options import device_option, home_option, session
from bench.system.home import Home


@click.command("demo", cls=Command, examples=["bench demo --home /tmp/demo"])
@device_option
@home_option
@click.pass_obj
def command(home: Home) -> None:
    """Train two teachers and all methods on scikit-learn's digits, attack them, and write the tables."""
    from bench.sweep.demo import run_demo
    from bench.system.text import duration

    started, before = time.monotonic(), _files(home)
    with session(home) as active:
        tables = run_demo(active)
    written = sorted(path for path, changed in _files(home).items() if before.get(path) != changed)
    click.echo(f"\nDone in {duration(time.monotonic() - started)}.")
    click.echo(f"Files written ({len(written)}):")
    for folder in sorted({path.parent for path in written}):
        names = ", ".join(path.name for path in written if path.parent == folder)
        click.echo(f"  {folder}/\n    {names}")
    for table in (path for path in tables if path.name == "overview.md"):
        click.echo(f"\n{table.read_text(encoding='utf-8')}")


def _files(home: Home) -> dict[Path, int]:
    """Every file of a home's results with the time it was changed."""
    return {path: path.stat().st_mtime_ns for path in home.results.rglob("*") if path.is_file()}
