"""What the shell offers after TAB: names of plug-ins, recipes, sweeps and runs. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bench.errors import BenchError
from bench.system.home import Home, own_datasets

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _home(ctx: click.Context) -> Home:
    """The home that the command would have: `--home` after it, before it, or BENCH_HOME."""
    return ctx.find_object(Home) or Home.at(ctx.find_root().params.get("home") or Path("."))


def _completer(known: Callable[[Home], Iterable[str]]) -> Completer:
    """Completes by what is `known` in the command's home."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
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

    return recipe.names()


@_completer
def sweeps(home: Home) -> Iterable[str]:
    from bench.sweep import spec

    return spec.names()


@_completer
def runs(home: Home) -> Iterable[str]:
    return [path.parent.name for path in home.runs.glob("*/config.json")]


@_completer
def recorded_runs(home: Home) -> Iterable[str]:
    """Runs with a record: `RUN__SUITE-....json`."""
    return [path.stem.rpartition("__")[0] for path in home.records.glob("*__*.json")]
