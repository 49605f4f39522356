"""`bench list`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from bench.cli.help import Command
from bench.cli.options import home_option, json_option
from bench.cli.printing import Row, show
from bench.errors import BenchError
from bench.system.home import Home


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]


def _plugins(kind: str, load_one: Callable[[str], Any], describe: Callable[[str, Any], Row]) -> list[Row]:
    """A row a plug-in; of one that cannot be loaded, what is wrong with it."""
    from bench import registry

    return [
        {"name": name, "broken": str(found)}
        if isinstance(found, BenchError)
        else {"name": name, **describe(name, found), "broken": None}
        for name, found in registry.load_all(kind, load_one)
    ]


def _methods(home: Home) -> list[Row]:
    from bench.recipes.hyperparameters import method_class

    def describe(name: str, method: Any) -> Row:
        return {
            "label": method.label,
            "teachers": list(method.roles),
            "variants": list(method.variants),
            "objective": _first_line(method),
            "source": method.source,
        }

    return _plugins("methods", method_class, describe)


def _attacks(home: Home) -> list[Row]:
    from bench.registry import attack_class

    def describe(name: str, attack: Any) -> Row:
        return {"label": attack.label, "definition": _first_line(attack), "source": attack.source}

    return _plugins("attacks", attack_class, describe)


def _factories(kind: str, home: Home) -> list[Row]:
    from bench import registry

    def describe(name: str, factory: Any) -> Row:
        origin = registry.origin(registry.find(kind, name.replace("*", "0")))
        return {"description": _first_line(factory), "from": origin}

    return _plugins(kind, partial(registry.load, kind), describe)


def _datasets(home: Home) -> list[Row]:
    from bench.system.home import own_datasets

    rows = _factories("datasets", home)
    registered = {row["name"] for row in rows}
    own = {name: spec for name, spec in own_datasets(home.data).items() if name not in registered}
    return rows + [{"name": name, "description": spec, "from": str(home.data)} for name, spec in own.items()]


def _suites(home: Home) -> list[Row]:
    from bench.evaluation.suites import SUITES

    return [
        {
            "name": suite.name,
            "attacks": ["clean", *(entry.result for entry in suite.entries)],
            "description": suite.description,
        }
        for suite in SUITES.values()
    ]


def _recipes(home: Home) -> list[Row]:
    from bench.recipes import recipe

    own = recipe.own_recipes(home.recipes)
    rows: list[Row] = []
    for name, load in [*((name, name) for name in recipe.names()), *((name, str(path)) for name, path in own.items())]:
        try:
            each = recipe.load(load)
        except BenchError as error:
            rows.append({"name": name, "broken": str(error)})
            continue
        where = {} if not own else {"from": "" if each.digest is None else load}
        rows.append({"name": name, "protocol": each.protocol, "description": each.description, **where})
    return rows


def _tables(home: Home) -> list[Row]:
    from bench.tables import load_specs

    return [{"number": spec.number, "title": spec.title} for spec in load_specs(home.specs).values()]


def _sweeps(home: Home) -> list[Row]:
    from bench.sweep.spec import load_sweep, names

    return [{"name": name, "description": load_sweep(name).description} for name in names()]


def _speedups(home: Home) -> list[Row]:
    from bench.compute.speedups import SPEEDUPS

    return [{"name": name, "description": text} for name, text in SPEEDUPS.items()]


KINDS: dict[str, Callable[[Home], list[Row]]] = {
    "methods": _methods,
    "attacks": _attacks,
    "models": partial(_factories, "models"),
    "datasets": _datasets,
    "loggers": partial(_factories, "loggers"),
    "suites": _suites,
    "recipes": _recipes,
    "tables": _tables,
    "sweeps": _sweeps,
    "speedups": _speedups,
}


@click.command("list", cls=Command, examples=["bench list methods", "bench list suites --json"])
@click.argument("kind", type=click.Choice(list(KINDS)))
@json_option()
@home_option
@click.pass_obj
def command(home: Home, kind: str, as_json: bool) -> None:
    """List methods, attacks, models, datasets, loggers, suites, recipes, tables, sweeps or speed-ups."""
    show(KINDS[kind](home), as_json, f"There are no {kind}.")
