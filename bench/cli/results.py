"""`bench results list`, `bench results validate` and `bench results merge`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bench.cli import completing
from bench.cli.help import Group
from bench.cli.options import checkpoint_of_option, home_option, json_option, named, style_option, threat_option
from bench.cli.printing import show_json, show_measured
from bench.errors import BenchError
from bench.system.home import Home
from bench.system.naming import short_names_in
from bench.vocabulary import Selected

_PATHS = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))


@click.group("results", cls=Group)
def command() -> None:
    """List what was measured, check records, and take in those made elsewhere."""


@command.command("list", examples=["bench results list --dataset cifar10", "bench results list --method ciard --csv"])
@named("--dataset", "datasets", "Only what was measured on this.")
@named("--student", "models", "Only networks of this architecture; teachers and checkpoints, too.")
@named("--method", "methods", "Only what this method trained; or the name of a checkpoint from elsewhere.")
@threat_option("Only what was measured under this: linf:8/255.", completing.recorded_threats)
@named("--attack", "attacks", "Only this, as records name it, beside clean accuracy; may be repeated.", multiple=True)
@checkpoint_of_option
@json_option("As JSON: one entry for each network and what it was measured on.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV: one line for each of them and each attack.")
@home_option
@click.pass_obj
def list_results(
    home: Home, attack: tuple[str, ...], checkpoint_of: Selected, as_json: bool, as_csv: bool, **asked: Any
) -> None:
    """Show all that was measured here: students, teachers and checkpoints from elsewhere x attacks, newest first."""
    from bench.jobs.results import chosen_rows, to_csv
    from bench.records.index import home_records
    from bench.records.networks import networks_of

    if as_json and as_csv:
        raise BenchError("--json and --csv are two forms.\nAsk for one after the other.")
    networks = networks_of(home_records(home, checkpoint_of))
    rows = chosen_rows(networks, attacks=attack, **asked) if networks else []
    short = short_names_in(home, (network.name for network in networks))
    if as_json:
        show_json([row.content(short) for row in rows])
    elif as_csv:
        click.echo(to_csv(rows, short), nl=False)
    elif networks:
        show_measured(rows, short)
    else:
        click.echo("Nothing was measured here yet.\nAttack what is trained: bench eval --suite whitebox.")


@command.command("validate", examples=["bench results validate", "bench results validate colleague.zip --format json"])
@_PATHS
@style_option("A line a problem, or a JSON list of them.")
@json_option("The same as --format json.")
@home_option
@click.pass_obj
def validate(home: Home, paths: tuple[Path, ...], style: str, as_json: bool) -> None:
    """Check records in files, folders and archives (default: this home's); exit code 2 if any is wrong."""
    from bench.records import problems, read_all, unpacked
    from bench.records.intake import settle

    if not paths:
        settle(home.records)
    with unpacked(paths or (home.records,)) as places:
        found = read_all(places)
        listed = problems(found)
    errors = sum(problem.kind == "error" for problem in listed)
    if as_json or style == "json":
        show_json([asdict(problem) for problem in listed])
    else:
        for problem in listed:
            click.echo(problem.line)
        click.echo(f"{len(found)} records: {errors} errors, {len(listed) - errors} warnings.")
    if errors:
        raise click.exceptions.Exit(2)


@command.command("merge", examples=["bench results merge colleague.zip --dry-run"])
@_PATHS
@click.option("--dry-run", is_flag=True, help="Only say what would be taken in.")
@home_option
@click.pass_obj
def merge(home: Home, paths: tuple[Path, ...], dry_run: bool) -> None:
    """Take in records made elsewhere: files, folders, a .zip or a .tar.gz; all of them or, if any is wrong, none."""
    from bench.records import merge as take_in
    from bench.records import unpacked

    if not paths:
        raise click.UsageError("Name the records to take in: files, folders, a .zip or a .tar.gz.")
    with unpacked(paths) as places:
        merged = take_in(places, home.records, dry_run)
    for problem in merged.warnings:
        click.echo(problem.line, err=True)
    for name in merged.known:
        click.echo(f"Here already, skipped: {name}", err=True)
    for name in merged.new:
        click.echo(name)
    verb = "would be taken in" if dry_run else "taken in"
    click.echo(f"{len(merged.new)} {verb}, {len(merged.known)} here already.", err=True)
