"""`bench compare`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import checkpoint_of_option, home_option, json_option, named, style_option, threat_option
from bench.cli.printing import show_json
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Selected

if TYPE_CHECKING:
    from bench.analysis.compare import Accuracy, Comparison, Contrast, Side
    from bench.stats import Test

_DIFFERING = ("model", "setting", "selection", "teachers")
_OF_SIDE = {"method", "overrides", "checkpoint_of", *_DIFFERING}


@click.command(
    "compare",
    cls=Command,
    examples=["bench compare ciard rslad --attack pgd-sat", "bench compare RUN RUN --all-seeds"],
)
@click.argument("runs", metavar="RUN RUN [RUN ...]", nargs=-1, required=True, shell_complete=completing.recorded)
@named("--student", "models", "Where a method is named: only its networks of this architecture.")
@named("--dataset", "datasets", "Where a method is named: only its networks that were measured on this.")
@checkpoint_of_option
@click.option("--all-seeds", is_flag=True, help="Add every run that differs from a named one in the seed alone.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    help="Only this one, as records name it; may be repeated.",
    shell_complete=completing.plugins("attacks"),
)
@threat_option("Only what was measured under this: linf:8/255.", completing.recorded_threats)
@click.option("--across-threats", "across", is_flag=True, help="Hold each under its own threat against the others.")
@style_option("How to print.")
@json_option("The same as --format json.")
@home_option
@click.pass_obj
def command(
    home: Home,
    runs: tuple[str, ...],
    student: str | None,
    dataset: str | None,
    checkpoint_of: Selected,
    all_seeds: bool,
    attacks: tuple[str, ...],
    threat: Threat | None,
    across: bool,
    style: str,
    as_json: bool,
) -> None:
    """Test whether trained networks differ, sample by sample or, with three seeds and more, seed by seed.

    A RUN is a run's id, the beginning of it or of its hash, a method, which stands for all of its seeds here, or a
    record's file. Runs that differ in the seed alone are one side.
    """
    from bench.analysis.compare import compare_networks
    from bench.analysis.find import Narrowed, find_networks

    def say(text: str) -> None:
        click.echo(text, err=True)

    networks = find_networks(runs, home, all_seeds, Narrowed(student, dataset), say, checkpoint_of)
    found = compare_networks(networks, attacks, threat, across)
    if as_json or style == "json":
        show_json(_content(found))
        return
    _print(found)


def _content(found: Comparison) -> dict[str, Any]:
    """A comparison in plain types, accuracies in [0, 1]."""
    from bench.analysis.answer import answer
    from bench.stats import LEVEL

    return {
        "level": LEVEL,
        "sides": [
            {
                "name": side.name,
                "runs": [network.name for network in side.networks],
                "seeds": [network.subject.seed for network in side.networks],
                "threats": side.threats,
                **side.networks[0].subject.model_dump(include=_OF_SIDE),
            }
            for side in found.sides
        ],
        "answers": [
            {"sides": pair, "condition": asdict(condition), "text": answer(contrasts)}
            for (pair, condition), contrasts in found.by_condition.items()
        ],
        "contrasts": [asdict(contrast) | {"verdict": contrast.verdict} for contrast in found.contrasts],
        "left_out": list(found.left_out),
    }


def _print(found: Comparison) -> None:
    from bench.analysis.answer import answer

    groups = found.by_condition
    for pair in dict.fromkeys(pair for pair, _ in groups):
        click.echo(f"## {pair[0]} against {pair[1]}\n")
        of_pair = {condition: contrasts for (sides, condition), contrasts in groups.items() if sides == pair}
        for condition, contrasts in of_pair.items():
            click.echo((f"On {condition}: " if len(of_pair) > 1 else "") + answer(contrasts) + "\n")
        for line in _introduction([side for side in found.sides if side.name in pair]):
            click.echo(f"- {line}")
        for condition, contrasts in of_pair.items():
            click.echo(f"\nOn {condition} (%):\n")
            _print_table(contrasts)
        click.echo()
    for line in _notes(found):
        click.echo(f"- {line}")


def _print_table(contrasts: list[Contrast]) -> None:
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=1000)  # in a file no row is folded: it is Markdown
    table = Table(box=MARKDOWN)
    family = contrasts[0].family
    wider = ["Other seeds and images"] if contrasts[0].two_level is not None else []
    corrected = [f"p (Holm, {family})"] if family > 1 else []
    for title in ("Attack", "Number", *contrasts[0].sides, "Difference", *wider, "p", *corrected, "Verdict"):
        table.add_column(escape(title), overflow="fold")
    for contrast in contrasts:
        table.add_row(*(escape(cell) for cell in _row(contrast)))
    with console.capture() as shown:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in shown.get().splitlines() if line.strip()))


def _introduction(sides: list[Side]) -> Iterator[str]:
    """Which runs the sides are, and what else differs between them."""
    for side in sides:
        yield f"{side.name}: {', '.join(network.name for network in side.networks)}"
    if any(condition.across for side in sides for network in side.networks for condition in network.conditions):
        under = "; ".join(f"{side.name} {' and '.join(side.threats)}" for side in sides)
        yield f"They were attacked under different threats, of which numbers do not compare as such: {under}."
    yield from _shared_teachers(sides)
    first, second = (side.networks[0].subject for side in sides)
    for name in _DIFFERING:
        one, other = getattr(first, name), getattr(second, name)
        if name == "teachers":  # a method without one has nothing to differ in
            roles = set(one) & set(other)
            one, other = ({role: each[role][:12] for role in sorted(roles)} for each in (one, other))
        if one != other:
            yield f"They differ in {name} too: {one}; {other}."


def _shared_teachers(sides: list[Side]) -> Iterator[str]:
    """That the seeds of a side had one teacher: their spread then says nothing of other teachers."""
    for side in sides:
        taught = [network.subject.teachers for network in side.networks]
        roles = [role for role in sorted(taught[0]) if len({each.get(role) for each in taught}) == 1]
        if len(taught) > 1 and roles:
            yield (
                f"All {len(taught)} seeds of {side.name} learned from one {' and one '.join(roles)} teacher: what "
                "others would change is not in their spread."
            )


def _row(contrast: Contrast) -> list[str]:
    names = {"clean": "clean accuracy", "robust": "robust accuracy", "weighted": "W-R"}
    difference = contrast.difference
    return [
        contrast.attack,
        names[contrast.quantity],
        *(_number(each) for each in contrast.accuracies),
        f"{100 * difference.value:+.2f} {_interval(difference.low, difference.high)}",
        *([] if contrast.two_level is None else [_interval(*contrast.two_level)]),
        f"{difference.p:.3g} ({contrast.test})",
        *([f"{contrast.p_holm:.3g}"] if contrast.family > 1 else []),
        contrast.verdict,
    ]


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:+.2f}, {100 * high:+.2f}]"


def _number(accuracy: Accuracy) -> str:
    """The number is rounded as in the tables, which show it too."""
    from bench.tables.table import Cell

    value = 100 * accuracy.value
    if accuracy.interval is None:
        return Cell(value=value, std=100 * (accuracy.std or 0), seeds=accuracy.seeds).text
    low, high = accuracy.interval
    return f"{Cell(value=value).text} [{100 * low:.2f}, {100 * high:.2f}]"


def _notes(found: Comparison) -> Iterator[str]:
    from bench.stats import LEAST_SEEDS, LEVEL, TEST_NAMES

    tests = {contrast.test for contrast in found.contrasts}
    pairs = max(contrast.family for contrast in found.contrasts)
    over = f", after Holm's correction over the {pairs} pairs of each number" if pairs > 1 else ""
    by = "; ".join(f"{TEST_NAMES[test]} ({test})" for test in sorted(tests))
    yield (
        f"Verdicts at {LEVEL:.0%}{over}, by {by}. Tables correct over all rows of a column, so ≈ can stand there where "
        "fewer are compared here."
    )
    yield (
        f"In brackets 95 % intervals, never corrected: {'; '.join(_intervals(tests))}. One can exclude 0 where the "
        "verdict is not significant."
    )
    if "welch" in tests:
        yield (
            "Other seeds and images: the 95 % interval of the difference where test images vary, too. The verdict is "
            "the test's, of these images."
        )
    if any(contrast.detectable is not None and not contrast.found for contrast in found.contrasts):
        yield "What could have been found: the smallest true difference that the test finds in four of five cases."
    if tests - {"welch"}:
        yield (
            f"A test over samples speaks of these networks alone. For a claim about the defenses train {LEAST_SEEDS} "
            "seeds or more of each (bench run --seed), and name them all or add --all-seeds."
        )
    yield from (f"Not compared: {reason}." for reason in found.left_out)


def _intervals(tests: set[Test]) -> Iterator[str]:
    """Which intervals stand beside the numbers and beside the differences of these tests."""
    yield "Wilson's of an accuracy, the score interval of W-R"
    if tests - {"welch"}:
        yield "of a difference over samples the score interval (of accuracies Tango's)"
    if "welch" in tests:
        yield "of a difference over seeds Welch's, of the defenses' means on these samples"
