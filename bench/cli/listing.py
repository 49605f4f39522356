"""`bench list`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from bench.cli.options import home_option
from bench.cli.printing import Row, show
from bench.errors import BenchError
from bench.system.home import Home


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]


def _methods(home: Home) -> list[Row]:
    from bench import registry
    from bench.recipes.hyperparameters import method_class

    rows: list[Row] = []
    for name, method in registry.load_all("methods", method_class):
        if isinstance(method, BenchError):
            rows.append({"name": name, "broken": str(method)})
            continue
        teachers = ", ".join(method.roles) or "none"
        variants = ", ".join(method.variants)
        rows.append(
            {
                "name": name,
                "label": method.label,
                "teachers": teachers,
                "variants": variants,
                "objective": _first_line(method),
                "source": method.source,
            }
        )
    return rows


def _attacks(home: Home) -> list[Row]:
    from bench import registry
    from bench.registry import attack_class

    rows: list[Row] = []
    for name, attack in registry.load_all("attacks", attack_class):
        if isinstance(attack, BenchError):
            rows.append({"name": name, "broken": str(attack)})
        else:
            rows.append(
                {
                    "name": name,
                    "label": attack.label,
                    "definition": _first_line(attack),
                    "source": attack.source,
                }
            )
    return rows


def _named(kind: str) -> Callable[[Home], list[Row]]:
    def rows(home: Home) -> list[Row]:
        from bench import registry

        found: list[Row] = []
        for name, factory in registry.load_all(kind, partial(registry.load, kind)):
            if isinstance(factory, BenchError):
                found.append({"name": name, "broken": str(factory)})
            else:
                origin = registry.origin(registry.find(kind, name.replace("*", "0")))
                found.append({"name": name, "description": _first_line(factory), "from": origin})
        return found

    return rows


def _suites(home: Home) -> list[Row]:
    from bench.evaluation.suites import SUITES

    return [
        {
            "name": suite.name,
            "attacks": ", ".join(["clean", *(entry.result for entry in suite.entries)]),
            "description": suite.description,
        }
        for suite in SUITES.values()
    ]


def _recipes(home: Home) -> list[Row]:
    from bench.recipes import recipe

    recipes = [recipe.load(name) for name in recipe.names()]
    return [{"name": each.name, "protocol": each.protocol, "description": each.description} for each in recipes]


def _tables(home: Home) -> list[Row]:
    from bench.tables import load_specs

    return [{"number": spec.number, "title": spec.title} for spec in load_specs(home.specs).values()]


def _sweeps(home: Home) -> list[Row]:
    from bench.sweep.spec import load_sweep, names

    return [{"name": name, "description": load_sweep(name).description} for name in names()]


def _speedups(home: Home) -> list[Row]:
    from bench.compute.speedups import SPEEDUPS

    return [{"name": name, "what it does": text} for name, text in SPEEDUPS.items()]


KINDS: dict[str, Callable[[Home], list[Row]]] = {
    "methods": _methods,
    "attacks": _attacks,
    "models": _named("models"),
    "datasets": _named("datasets"),
    "loggers": _named("loggers"),
    "suites": _suites,
    "recipes": _recipes,
    "tables": _tables,
    "sweeps": _sweeps,
    "speedups": _speedups,
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@home_option
@click.pass_obj
def command(home: Home, kind: str, as_json: bool) -> None:
    """List methods, attacks, models, datasets, loggers, suites, recipes, tables, sweeps or speed-ups."""
    show(KINDS[kind](home), as_json, f"There are no {kind}.")
