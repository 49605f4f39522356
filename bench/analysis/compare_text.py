"""A comparison in words: who its sides are, a row for each number, and what verdicts and intervals are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.compare import Accuracy, Comparison, Contrast, Side
from bench.stats import LEAST_SEEDS, LEVEL, TEST_NAMES, Test
from bench.tables.cell import Cell

DIFFERING = ("model", "setting", "selection", "teachers")
"""What of a network, beside its defense, may differ from side to side and is then named."""


def introduction(sides: list[Side]) -> Iterator[str]:
    """Which runs the sides are, and what else differs between them."""
    for side in sides:
        yield f"{side.name}: {', '.join(network.name for network in side.networks)}"
    if any(condition.across for side in sides for network in side.networks for condition in network.conditions):
        under = "; ".join(f"{side.name} {' and '.join(side.threats)}" for side in sides)
        yield f"They were attacked under different threats, of which numbers do not compare as such: {under}."
    yield from shared_teachers(sides)
    first, second = (side.networks[0].subject for side in sides)
    for name in DIFFERING:
        one, other = getattr(first, name), getattr(second, name)
        if name == "teachers":  # a method without one has nothing to differ in
            roles = set(one) & set(other)
            one, other = ({role: each[role][:12] for role in sorted(roles)} for each in (one, other))
        if one != other:
            yield f"They differ in {name} too: {one}; {other}."


def shared_teachers(sides: Sequence[Side]) -> Iterator[str]:
    """That the seeds of a side had one teacher: their spread then says nothing of other teachers."""
    for side in sides:
        taught = [network.subject.teachers for network in side.networks]
        roles = [role for role in sorted(taught[0]) if len({each.get(role) for each in taught}) == 1]
        if len(taught) > 1 and roles:
            yield (
                f"All {len(taught)} seeds of {side.name} learned from one {' and one '.join(roles)} teacher: what "
                "others would change is not in their spread."
            )


def titles(contrasts: Sequence[Contrast]) -> list[str]:
    """The heads of the columns that `rows` fills."""
    family = contrasts[0].family
    wider = ["Other seeds and images"] if contrasts[0].two_level is not None else []
    corrected = [f"p (Holm, {family})"] if family > 1 else []
    return ["Attack", "Number", *contrasts[0].sides, "Difference", *wider, "p", *corrected, "Verdict"]


def rows(contrasts: Sequence[Contrast]) -> list[list[str]]:
    """A row for each contrast of one pair of sides under one condition, in per cent."""
    return [_row(contrast) for contrast in contrasts]


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
    value = 100 * accuracy.value
    if accuracy.interval is None:
        return Cell(value=value, std=100 * (accuracy.std or 0), seeds=accuracy.seeds).text
    low, high = accuracy.interval
    return f"{Cell(value=value).text} [{100 * low:.2f}, {100 * high:.2f}]"


def notes(found: Comparison) -> Iterator[str]:
    """By which tests the verdicts are, what the intervals are, and what the claim is about."""
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
