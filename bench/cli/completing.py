"""What the shell offers after TAB: names of plug-ins, suites, recipes, settings, runs. Nothing imports PyTorch."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bench.errors import BenchError
from bench.system.home import Home, own_datasets
from bench.system.naming import recorded_ids, run_ids

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _home(ctx: click.Context) -> Home:
    """The home that the command would have: `--home` after it, before it, or BENCH_HOME."""
    return ctx.find_object(Home) or Home.at(ctx.find_root().params.get("home") or Path("."))


def _completer(known: Callable[[Home], Iterable[str]]) -> Completer:
    """Completes by what is `known` in the command's home."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            with redirect_stderr(io.StringIO()):  # where a damaged file would be named
                names = set(known(_home(ctx)))
        except (BenchError, OSError):  # the command itself will say what is wrong
            return []
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]

    return complete


def plugins(kind: str) -> Completer:
    """Registered names of a kind, and the user's own datasets; patterns (`wrn-*-*`) are no names."""

    @_completer
    def known(home: Home) -> Iterable[str]:
        from bench import registry

        own = own_datasets(home.data) if kind == "datasets" else ()
        return [*own, *(name for name in registry.names(kind) if "*" not in name)]

    return known


def separated(completer: Completer, *others: str) -> Completer:
    """The last of several names with commas between them; `others` are offered as well."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        names = [item.value for item in completer(ctx, param, last)]
        names += [other for other in others if other.startswith(last) and not comma]
        return [CompletionItem(before + comma + name) for name in names if name not in before.split(",")]

    return complete


@_completer
def recipes(home: Home) -> Iterable[str]:
    from bench.recipes import recipe

    return [*recipe.names(), *recipe.own_recipes(home.recipes)]


@_completer
def sweeps(home: Home) -> Iterable[str]:
    from bench.sweep import spec

    return spec.names()


@_completer
def runs(home: Home) -> Iterable[str]:
    return run_ids(home)


@_completer
def recorded(home: Home) -> Iterable[str]:
    """Networks with a record, and their methods, which stand for all of their seeds."""
    ids = recorded_ids(home)
    fields = (identity.split("_") for identity in ids)
    return ids | {method for _, _, method, *rest in (each for each in fields if len(each) > 3)}


@_completer
def suites(home: Home) -> Iterable[str]:
    """Suites, and attacks, each of which is a suite of its own."""
    from bench import registry
    from bench.evaluation.suites import SUITES

    return [*SUITES, *registry.names("attacks")]


@_completer
def threats(home: Home) -> Iterable[str]:
    """Every norm, with the radius that it is usually measured at."""
    from bench.threat import USUAL, Threat

    return [str(Threat(norm, eps)) for norm, eps in USUAL.items()]


@_completer
def recorded_threats(home: Home) -> Iterable[str]:
    """Threats that something was measured under."""
    from bench.records.index import home_records

    return {str(record.data.threat) for record in home_records(home)}


@_completer
def tables(home: Home) -> Iterable[str]:
    from bench.tables import load_specs
    from bench.tables.spec import NAMED

    return [*NAMED, *map(str, load_specs(home.specs))]


@_completer
def recorded_datasets(home: Home) -> Iterable[str]:
    """Data sets that have records."""
    from bench.records.index import home_records

    return {record.data.name for record in home_records(home)}


@_completer
def recorded_students(home: Home) -> Iterable[str]:
    """Architectures that have records, but for those of teachers alone."""
    from bench.records.index import home_records

    return {record.subject.model for record in home_records(home) if record.subject.kind != "teacher"}


def settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`NAME=` of each hyper-parameter of the method that the line names, then its values where they are named ones.

    With a `t` begun, of each field of the recipe's training too.
    """
    from bench.cli.sources import hyperparameters
    from bench.recipes.training import PREFIX, training_fields

    name, equals, value = incomplete.partition("=")
    try:
        known = hyperparameters(ctx.params.get("method") or "")
    except Exception:  # a stranger's source may hold, and its package's import may raise, anything
        return []
    if equals:
        return [CompletionItem(f"{name}={each}") for each in known.get(name, ()) if each.startswith(value)]
    fields = training_fields() if name.startswith(PREFIX[0]) else ()
    return [CompletionItem(f"{each}=") for each in (*known, *fields) if each.startswith(name)]
