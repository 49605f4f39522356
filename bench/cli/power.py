"""`bench power`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing
from bench.cli.help import Command
from bench.cli.options import home_option, json_option, measured_options, style_option
from bench.cli.printing import show_json, show_table
from bench.errors import BenchError, printable
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Selected

if TYPE_CHECKING:
    from bench.analysis.power import Needed, Plan, Plans, Taken
    from bench.stats import Test

_PERCENT = click.FloatRange(0, 100, min_open=True)
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


class _Spread(click.ParamType):
    """`LOW-HIGH`, or one number, in points."""

    name = "LOW-HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        low, _, high = str(value).partition("-")
        try:
            ends = float(low) / 100, float(high or low) / 100
        except ValueError:
            ends = (0.0, 0.0)
        if not 0 < ends[0] <= ends[1] <= 1:
            self.fail(f"{value!r} is no range of points; write it as 0.1-0.6, the lower one first", param, ctx)
        return ends


@click.command(
    "power",
    cls=Command,
    examples=[
        "bench power --difference 0.5 --difference 1",
        "bench power --seeds 3 --images 10000",
        "bench power ciard rslad --attack autoattack --difference 0.5",
    ],
)
@click.argument("runs", metavar="[RUN ...]", nargs=-1, shell_complete=completing.recorded)
@click.option(
    "--difference", "differences", type=_PERCENT, multiple=True, help="To be found, in points; may be repeated."
)
@click.option("--seeds", type=click.IntRange(3, 999), multiple=True, help="A side; may be repeated. Default: 3, 5, 10.")
@click.option(
    "--images",
    type=click.IntRange(10, 10_000_000),
    multiple=True,
    help="Test images; may be repeated. Default: the records', or 1000 and 10000.",
)
@click.option(
    "--spread", type=_Spread(), help="Over seeds, in points. Default: the records', or 0.1-0.6, by published ones."
)
@click.option(
    "--discordance",
    type=_PERCENT,
    help="Per cent of images on which networks of two defenses differ. Default: the records', or 15.",
)
@click.option(
    "--seed-discordance",
    type=_PERCENT,
    help="Per cent on which two seeds of one defense do. Default: the records', or 9.",
)
@click.option("--rivals", type=click.IntRange(1), help="Differences that share the level. Default: all pairs, or 1.")
@click.option("--level", type=_SHARE, default=0.05, help="Of the tests, two-sided.")
@click.option("--power", "wanted", type=_SHARE, default=0.8, help="How often a difference is to be found.")
@measured_options
@style_option("How to print.")
@json_option("The same as --format json.")
@home_option
@click.pass_obj
def command(
    home: Home,
    runs: tuple[str, ...],
    differences: tuple[float, ...],
    seeds: tuple[int, ...],
    images: tuple[int, ...],
    spread: tuple[float, float] | None,
    discordance: float | None,
    seed_discordance: float | None,
    rivals: int | None,
    level: float,
    wanted: float,
    student: str | None,
    dataset: str | None,
    checkpoint_of: Selected,
    all_seeds: bool,
    attacks: tuple[str, ...],
    threat: Threat | None,
    style: str,
    as_json: bool,
) -> None:
    """Say how many seeds and test images a difference takes, and which differences some seeds and images find.

    Before anything is trained it goes by published spreads over seeds, or by your own (--spread). With RUN, a run's id
    or a method as in `bench compare`, it goes by what these networks vary.
    """
    from bench.analysis.find import Narrowed, find_networks
    from bench.analysis.power import Asked, plan

    if not runs and (student or dataset or attacks or threat or all_seeds):
        raise BenchError(
            "--student, --dataset, --attack, --threat and --all-seeds choose among records.\n"
            "Name runs or methods that have some, or leave these options away."
        )
    asked = Asked(
        tuple(each / 100 for each in differences),
        seeds,
        images,
        spread,
        None if discordance is None else discordance / 100,
        None if seed_discordance is None else seed_discordance / 100,
        level,
        wanted,
        rivals,
    )

    def say(text: str) -> None:
        click.echo(text, err=True)

    networks = find_networks(runs, home, all_seeds, Narrowed(student, dataset), say, checkpoint_of) if runs else []
    found = plan(asked, networks, attacks, threat)
    if as_json or style == "json":
        show_json(asdict(found))
        return
    _print(found)


def _print(found: Plans) -> None:
    shared = f", shared by {found.rivals} differences (Holm's first step)" if found.rivals > 1 else ""
    often = f"to be found in {100 * found.power:g} % of cases"
    click.echo(f"Two-sided tests at {100 * found.level:g} %{shared}; {often}.\n")
    if len(found.plans) == 1:
        _print_one(found.plans[0])
    else:
        for where, plans in _grouped(found.plans):
            click.echo(f"{where}:\n")
            _print_many(plans)
    for line in _notes(found):
        click.echo(f"- {line}")


def _print_one(plan: Plan) -> None:
    number = plan.number
    if number.attack is not None:
        click.echo(printable(f"{_where(plan)}, {number.attack}.\n"))
    for line in _taken(number.taken):
        click.echo(f"- {line}")
    if number.test is not None:
        click.echo(f"- {_here(number.detectable, number.test)}")
    for needed in plan.needed:
        click.echo(f"\nA difference of {100 * needed.difference:g} points takes:\n")
        for line in _answers(needed):
            click.echo(f"- {line}")
    images = list(dict.fromkeys(each.images for each in plan.reach))
    titles = [f"{which} {n:,} images" for n in images for which in ("same", "other")]
    rows: dict[str, list[str]] = {}
    for each in plan.reach:
        label = {None: "any number", 1: "one network each"}.get(each.seeds, str(each.seeds))
        same = _span(each.same, _points) if each.same else "–"
        rows.setdefault(label, []).extend((same, _span(each.others, _points)))
    click.echo("\nThe smallest difference that is found, in points:\n")
    show_table(["seeds a side", *titles], ([label, *cells] for label, cells in rows.items()))
    click.echo()


def _grouped(plans: Sequence[Plan]) -> Iterator[tuple[str, list[Plan]]]:
    """Plans by what stands above their table."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(_where(plan), []).append(plan)
    yield from ((printable(where), own) for where, own in groups.items())


def _where(plan: Plan) -> str:
    return f"{' against '.join(plan.number.sides)} on {plan.number.condition}"


def _print_many(plans: Sequence[Plan]) -> None:
    titles = ["attack", "seeds", "spread", "defenses differ", "seeds differ", "found here"]
    for each in plans[0].needed:
        points = f"{100 * each.difference:g}:"
        titles += [f"{points} seeds", f"{points} other images too", f"{points} images, one network each"]
    show_table(titles, (_row(plan) for plan in plans))
    click.echo()


def _row(plan: Plan) -> list[str]:
    number, taken = plan.number, plan.number.taken
    found = "–" if number.detectable is None else f"{_points(number.detectable)} ({number.test})"
    row = [
        str(number.attack),
        " + ".join(map(str, taken.seeds)) or "–",
        _span(taken.spread, _points) + _MARKS[taken.spread_from],
        f"{100 * taken.between:.1f} %{_MARKS[taken.between_from]}",
        f"{100 * taken.within:.1f} %{_MARKS[taken.within_from]}",
        found,
    ]
    for each in plan.needed:
        row += [_span(each.seeds, _seeds), _span(each.seeds_others, _seeds), _images(each.images_one_network)]
    return row


def _taken(taken: Taken) -> Iterator[str]:
    """What the answers hang on, and where it is from."""
    origin = {
        "records": f"{' and '.join(map(str, taken.seeds))} seeds here, which leave open what is in brackets",
        "given": "as given",
        "default": "by what is published of ResNet-18 under AutoAttack",
    }[taken.spread_from]
    yield f"Seeds spread by {_span(taken.spread, _points)} points on {taken.images:,} images: {origin}."
    known = {"records": "as here", "given": "as given", "default": "by this project's CPU check"}
    between, within = known[taken.between_from], known[taken.within_from]
    yield (
        f"Networks of two defenses differ on {100 * taken.between:.3g} % of images"
        f"{'' if between == within else f' ({between})'}, two seeds of one on {100 * taken.within:.3g} % ({within})."
    )


def _here(found: float | None, test: Test) -> str:
    from bench.stats import TEST_NAMES

    if found is None:
        return (
            f"The networks here: all seeds of a side have the same number, of which {TEST_NAMES[test]} tells nothing."
        )
    return f"The networks here: a difference of {_points(found)} points would be found, by {TEST_NAMES[test]}."


def _answers(needed: Needed) -> Iterator[str]:
    n = f"{needed.images:,} images"
    yield f"for other seeds, on the same {n} (Welch's t-test over seeds): {_span(needed.seeds, _seeds)} seeds a side"
    one = _images(needed.images_one_network)
    yield f"between one network each, on other images (McNemar's exact test): {one} images"
    least = f"at least {_span(needed.images_others, _images)} images, whatever the seeds"
    some = [each for each in needed.seeds_others if each is not None]
    if max(needed.images_others) <= needed.images:
        both = f"{_span(needed.seeds_others, _seeds)} seeds a side with {n}"
    else:
        both = f"{least}; {_span(some, _seeds)} seeds a side with {n} at best" if some else least
    yield f"for other seeds and other images (interval over both): {both}"


_MARKS = {"records": "", "given": " (given)", "default": " *"}
"""Where a number in a table is from."""


def _notes(found: Plans) -> Iterator[str]:
    yield (
        "Welch's test says nothing of other images, McNemar's of one network each nothing of other seeds. "
        "`bench compare` has both tests, and the interval over both."
    )
    if len(found.plans) > 1:
        if any("default" in (own.spread_from, own.between_from, own.within_from) for own in _all_taken(found)):
            yield "*: a default that --help names, as these networks do not tell."
        yield "In brackets after a spread its 95 % interval, and what that leaves open. Differences are in points."
        yield "Name one attack (--attack) for a table of seeds and images."


def _all_taken(found: Plans) -> list[Taken]:
    return [plan.number.taken for plan in found.plans]


def _span(values: Sequence[Any], text: Callable[[Any], str]) -> str:
    """`0.1 to 0.6`; of three `0.4 (0.2 to 2.5)`, as the middle one is the likeliest."""
    ordered = sorted(values, key=lambda value: (value is None, value))
    low, high = text(ordered[0]), text(ordered[-1])
    if low == high:
        return low
    return f"{text(values[1])} ({low} to {high})" if len(values) == 3 else f"{low} to {high}"


def _points(share: float) -> str:
    return f"{100 * share:.2f}" if share < 0.01 else f"{100 * share:.1f}"


def _seeds(number: int | None) -> str:
    return "over 999" if number is None else str(number)


def _images(number: int | None) -> str:
    """To three digits: what it hangs on is known no better."""
    return "over 10 million" if number is None else f"{int(float(f'{number:.3g}')):,}"
