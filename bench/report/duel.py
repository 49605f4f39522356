"""The page of a duel: what it came to, the numbers behind it, what it is about and what it cost; one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from bench.analysis.answer import answer
from bench.analysis.compare import Comparison, Contrast
from bench.analysis.compare_text import introduction, notes, rows, titles
from bench.evaluation.suites import ENSEMBLE, strength
from bench.records.networks import WORST, Condition
from bench.report import checks
from bench.report.duel_cost import Costs, Found, cost_table, networks_of, records_of
from bench.report.duel_text import KEPT, about, limits, said, title
from bench.report.site import template
from bench.system.files import write_text_atomically
from bench.tables.cell import DASH
from bench.tables.plain import PlainTable
from bench.version import __version__
from bench.vocabulary import Selected

_NO_INTERVAL = 2.0
"""Width of the interval of a test that had no spread to go by, which says nothing."""


class Bar(NamedTuple):
    """A difference drawn, with its interval and that over other seeds and images: in per cent of half the width."""

    value: float
    interval: tuple[float, float]
    wider: tuple[float, float] | None


def write_duel(path: Path, found: Found, costs: Costs, command: str) -> None:
    """Write the page of a duel.

    Args:
        command: the line that asks for it.

    Raises:
        BenchError: it cannot be written.
    """
    first = next(iter(found.values()))
    css = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    facts = {
        "title": title(first.sides),
        "about": about(found),
        "said": {which: said(each) for which, each in found.items()},
        "limits": limits(first),
        "sections": [_section(which, *each) for which, one in found.items() for each in _conditions(one)],
        "pairs": _pairs(first),
        "notes": list(dict.fromkeys(note for each in found.values() for note in notes(each))),
        "costs": cost_table(costs),
        "flags": _flags(found),
        "networks": [_network_table(which, each) for which, each in found.items()],
        "made": _made(found),
        "commands": [command, *(_repeat(which, each) for which, each in found.items())],
    }
    text = template("duel").render(css=Markup(css), version=__version__, **facts)
    write_text_atomically(path, text)


def _conditions(comparison: Comparison) -> Iterator[tuple[tuple[str, str], Condition, list[Contrast]]]:
    for (pair, condition), contrasts in comparison.by_condition.items():
        yield pair, condition, contrasts


def _section(which: Selected, pair: tuple[str, str], condition: Condition, contrasts: list[Contrast]) -> dict[str, Any]:
    """One table: what `bench compare` prints, with the differences drawn, and what could have been found."""
    scale = _scale(contrasts)
    return {
        "which": KEPT[which],
        "pair": pair,
        "condition": str(condition),
        "answer": answer(contrasts),
        "titles": titles(contrasts),
        "rows": rows(contrasts),
        "contrasts": contrasts,
        "bars": [_bar(each, scale) for each in contrasts],
        "scale": f"{100 * scale:.3g}",
        "wider": any(each.two_level is not None for each in contrasts),
        "decides": ENSEMBLE,
    }


def _scale(contrasts: Iterable[Contrast]) -> float:
    """The largest difference that the drawing has room for: of all intervals that say something."""
    intervals = [((each.difference.low, each.difference.high), each.two_level) for each in contrasts]
    known = [interval for both in intervals for interval in both if interval is not None]
    return max((max(map(abs, each)) for each in known if each[1] - each[0] < _NO_INTERVAL), default=1.0) or 1.0


def _bar(contrast: Contrast, scale: float) -> Bar:
    def place(difference: float) -> float:
        return max(-100.0, min(100.0, 100 * difference / scale))

    found, wider = contrast.difference, contrast.two_level
    both = None if wider is None else (place(wider[0]), place(wider[1]))
    return Bar(place(found.value), (place(found.low), place(found.high)), both)


def _pairs(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Of each pair its runs, and what differs beside the defense."""
    pairs = dict.fromkeys(contrast.sides for contrast in comparison.contrasts)
    named = {side.name: side for side in comparison.sides}
    return [(" against ".join(pair), list(introduction([named[name] for name in pair]))) for pair in pairs]


def _flags(found: Found) -> list[dict[str, Any]]:
    """Each failed check with the networks that failed it, and what it means."""
    failed: defaultdict[str, list[str]] = defaultdict(list)
    for name, networks in networks_of(found).items():
        for record in records_of(networks):
            for flag in record.flags:
                failed[flag].append(f"{name}, seed {record.subject.seed}, {record.subject.checkpoint_of}")
    return [
        {"flag": flag, "whose": list(dict.fromkeys(whose)), "check": checks.explained(flag)}
        for flag, whose in failed.items()
    ]


def _network_table(which: Selected, comparison: Comparison) -> PlainTable:
    """Every network with its accuracies in what was compared, in per cent."""
    compared = {(each.condition, each.attack) for each in comparison.contrasts}
    keys = sorted(compared, key=lambda key: (key[0], key[1] == WORST, strength(key[1])))
    lines = []
    for side in comparison.sides:
        for network in side.networks:
            measured = (network.measured.get(key) for key in keys)
            numbers = (DASH if each is None else f"{100 * each.result.accuracy:.2f}" for each in measured)
            lines.append((side.name, str(network.subject.seed), *numbers, network.name))
    several = len({condition for condition, _ in keys}) > 1
    heads = [f"{attack} (n = {condition.n:,}, {condition.threat})" if several else attack for condition, attack in keys]
    return PlainTable(KEPT[which], ("Defense", "Seed", *heads, "Run"), tuple(lines))


def _made(found: Found) -> list[str]:
    """By which versions and on what the records were made, and when."""
    records = [record for networks in networks_of(found).values() for record in records_of(networks)]
    lines: dict[str, list[str]] = {}
    for record in records:
        made = record.environment
        packages = made.get("packages")
        torch = packages.get("torch") if isinstance(packages, dict) else None
        harness = f"ard-bench {made.get('bench')}" + (f" at {str(made['git'])[:12]}" if made.get("git") else "")
        line = f"{harness}, Python {made.get('python')}, torch {torch}, on {made.get('hardware', made.get('device'))}"
        lines.setdefault(line, []).append(record.created[:10])
    return [f"{line}: {len(days)} evaluations, {min(days)} to {max(days)}" for line, days in lines.items()]


def _repeat(which: Selected, comparison: Comparison) -> str:
    """The line that tests the same networks again."""
    runs = " ".join(network.name for side in comparison.sides for network in side.networks)
    return f"bench compare {runs}" + (f" --checkpoint-of {which}" if which != "best" else "")
