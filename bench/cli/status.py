"""`bench status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.help import Command
from bench.cli.options import home_option, json_option
from bench.cli.printing import fits, show_json, show_table
from bench.errors import BenchError, printable
from bench.system.home import Home
from bench.system.naming import short_names

if TYPE_CHECKING:
    from bench.jobs.status import Standing


@click.command("status", cls=Command, examples=["bench status --home results/demo", "bench status --grid"])
@click.option("--grid", is_flag=True, help="All methods x the students here (before the first: x the paper's).")
@json_option("As JSON: one entry for each run, teacher and checkpoint from elsewhere.")
@home_option
@click.pass_obj
def command(home: Home, grid: bool, as_json: bool) -> None:
    """Show what exists here: runs and teachers with their state, checkpoints from elsewhere, what each is right in."""
    from bench import registry
    from bench.jobs import status
    from bench.records.index import home_records

    if grid and as_json:
        raise BenchError("--grid is for readers.\n--json lists the same runs: leave --grid away.")
    found = status.standings(home, home_records(home))
    short = short_names(one.id for one in found)
    if as_json:
        show_json([one.content(short) for one in found])
        return
    if grid:
        titles, rows = status.grid(found, registry.names("methods"))
        show_table(["method", *titles], rows)
    elif found:
        show_standings(found, short)
        click.echo("Accuracies in %; `bench results list` has every attack with its interval.")
    else:
        click.echo(
            f"Nothing is trained or evaluated in {home.results} yet.\n"
            "Train a student: bench run --method ciard --student resnet18; or see all at work in minutes: bench demo."
        )
    for one in found:
        for flag in one.flags:
            click.echo(printable(f"Flag: {one.id}: {flag}"))


def show_standings(found: Sequence[Standing], short: Mapping[str, str]) -> None:
    """Print a table for all that share architecture, data set and setting; the whole ids where there is room for them.

    Args:
        short: the shortest name of each, by its id.
    """
    titles = ["id", "defense", "seed", "state", "clean", "robust", "n", "whole id"]
    rows: dict[str, list[list[str]]] = {}
    for one in found:
        where = printable(f"{one.model} on {one.dataset}, {one.setting}:")
        rows.setdefault(where, []).append([short[one.id], *_texts(one), one.id])
    whole = fits(titles, [row for own in rows.values() for row in own])
    for where, own in rows.items():
        click.echo(where)
        show_table(titles if whole else titles[:-1], own if whole else [row[:-1] for row in own])
        click.echo()
    click.echo("The id that is shown names a run in every command" + ("." if whole else "; whole ids: --json."))


def _texts(one: Standing) -> list[str]:
    """Defense, seed, state, clean and lowest accuracy, and how many samples these are of."""
    from bench.records.networks import WORST

    seed = "–" if one.seed is None else str(one.seed)
    state = one.state if one.state == "evaluated" or not one.detail else f"{one.state}: {one.detail}"
    names = [one.defense + (" ‡" if one.flags else ""), seed, state]
    if one.measured is None:
        return [*names, "–", "–", "–"]
    results = one.measured.results
    clean, attacks = results.pop("clean", None), one.measured.measured.keys() - {"clean"}
    robust = "–"
    if WORST in results:
        robust = f"{results[WORST].accuracy:.1%} worst of {len(attacks)}"
    elif attacks:
        (attack,) = attacks
        robust = f"{results[attack].accuracy:.1%} {attack}"
    return [
        *names,
        "–" if clean is None else f"{clean.accuracy:.1%}",
        robust,
        f"{one.measured.condition.n:,}",
    ]
