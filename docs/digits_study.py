"""What the study on digits found, from its records: writes findings.md there, as part of `make measured`.

Contrasts are those of `bench compare`. The order of the defenses is that of their means over seeds. Two orders are
compared by Kendall's tau (1938): the pairs that both have the same way round less those that they have the other way
round, as a share of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from scipy.stats import kendalltau

from bench.analysis.compare import Contrast, compare_networks
from bench.records.index import home_records
from bench.records.networks import Network, networks_of
from bench.registry import names
from bench.stats import LEVEL, holm
from bench.system.home import Home
from bench.vocabulary import Checkpoint

RESULTS = Path(__file__).resolve().parent.parent / "results"
STUDY, ONE_TEACHER = RESULTS / "digits-study", RESULTS / "digits-one-teacher"
STUDENTS = ("digits-cnn", "digits-mobile")
SEEDS = range(5)
BASE = "pgd-sat"
AVERAGE = {"training.average.kind": "ema", "training.average.decay": 0.98}
NO_PUSH, NEITHER = {"push": False}, {"push": False, "itt": False}
SHOWN = {"clean": "Clean", BASE: "PGD-SAT", "autoattack": "AutoAttack, 50 images"}


class Defense(NamedTuple):
    """A method with what was set, as a record's subject has them."""

    method: str
    overrides: Mapping[str, Any] = {}


ADDITIONS: Mapping[str, tuple[Defense, Defense]] = {
    **{f"IGDM to {name.upper()}": (Defense(f"igdm-{name}"), Defense(name)) for name in ("sat", "trades", "ard")},
    "IGDM to RSLAD": (Defense("igdm-rslad"), Defense("rslad")),
    "IGDM to AdaAD": (Defense("igdm-adaad"), Defense("adaad")),
    **{f"averaging to {name.upper()}": (Defense(name, AVERAGE), Defense(name)) for name in ("sat", "rslad", "ciard")},
    "ITT to CIARD without push": (Defense("ciard", NO_PUSH), Defense("ciard", NEITHER)),
    "push to CIARD with ITT": (Defense("ciard"), Defense("ciard", NO_PUSH)),
}
"""What is added to what: with it, and without."""

ORDERS: Mapping[str, tuple[str, Checkpoint]] = {
    "the last weights, not the best": (BASE, "last"),
    "FGSM": ("fgsm", "best"),
    "CW∞": ("cw-inf", "best"),
    "AutoAttack, 50 images": ("autoattack", "best"),
    "Square, 100 queries": ("square", "best"),
    "PGD-TRADES, transferred": ("transfer:pgd-trades", "best"),
    "PGD-SAT, half as far again": (f"{BASE}@1.5x", "best"),
    "PGD-SAT, L2 within 0.5": (f"{BASE}@l2:0.5", "best"),
    "PGD-SAT, L1 within 2": (f"{BASE}@l1:2", "best"),
    "no attack": ("clean", "best"),
}
"""What the order under PGD-SAT is held against: an attack, and which weights."""


@cache
def networks(home: Path) -> list[Network]:
    """All students of a campaign, the best and the last of each run."""
    return [each for each in networks_of(home_records(Home(home), None)) if each.subject.kind == "student"]


def seeds_of(defense: Defense, student: str, which: Checkpoint = "best", home: Path = STUDY) -> list[Network]:
    """A defense's networks by seed; the selected ones stand for the last where these are the same.

    Raises:
        LookupError: a seed has no record, or two.
    """
    found = {
        (each.subject.seed, each.subject.checkpoint_of): each
        for each in networks(home)
        if (each.subject.method, each.subject.overrides, each.subject.model)
        == (defense.method, dict(defense.overrides), student)
    }
    missing = [seed for seed in SEEDS if (seed, "best") not in found]
    if missing:
        raise LookupError(f"{home.name}: {defense} of {student} has no record of the seeds {missing}")
    return [found.get((seed, which), found[seed, "best"]) for seed in SEEDS]


def accuracy(network: Network, attack: str) -> float:
    """In percent, of the one measurement that a network has of an attack on the most images."""
    measured = {each.record.data.n: each for (_, name), each in network.measured.items() if name == attack}
    if not measured:
        raise LookupError(f"{network.name} ({network.subject.checkpoint_of}) was not under {attack}")
    return 100 * measured[max(measured)].result.accuracy


def average(defense: Defense, student: str, attack: str, which: Checkpoint = "best") -> float:
    """Mean over seeds, in percent."""
    return mean(accuracy(each, attack) for each in seeds_of(defense, student, which))


def contrast(first: Sequence[Network], second: Sequence[Network], attack: str) -> Contrast:
    """Of two defenses, over seeds, on the most images that all were under this attack on."""
    found = compare_networks([*first, *second], [attack]).contrasts
    quantity = "clean" if attack == "clean" else "robust"
    return max((each for each in found if each.quantity == quantity), key=lambda each: each.condition.n)


def defenses() -> list[str]:
    """All that were trained, but natural training."""
    return sorted({each.subject.method for each in networks(STUDY)} - {"natural"})


def best() -> Iterator[str]:
    """Of each student and attack the best defense, and the others that were not told apart from it."""
    yield "| Student | | Best | % | Not told apart from it | Of them |"
    yield "|---|---|---|---:|---:|---|"
    for student in STUDENTS:
        for attack, label in SHOWN.items():
            means = {name: average(Defense(name), student, attack) for name in defenses()}
            first = max(means, key=means.__getitem__)
            rivals = sorted(set(means) - {first}, key=means.__getitem__, reverse=True)
            one = seeds_of(Defense(first), student)
            found = [contrast(one, seeds_of(Defense(name), student), attack).difference.p for name in rivals]
            equal = [name for name, p in zip(rivals, holm(found), strict=True) if p > LEVEL]
            shown = ", ".join(equal[:5]) + (f" and {len(equal) - 5} more" if len(equal) > 5 else "")
            yield f"| {student} | {label} | {first} | {means[first]:.1f} | {len(equal)} of {len(rivals)} | {shown} |"


def additions() -> Iterator[str]:
    """What each addition changes, in points with the 95 % interval; `*`: significant as one of its column."""
    yield f"| Student | Added | {' | '.join(SHOWN.values())} |"
    yield "|---|---|" + "---:|" * len(SHOWN)
    cells = {
        (student, label, attack): contrast(seeds_of(on, student), seeds_of(off, student), attack)
        for student in STUDENTS
        for label, (on, off) in ADDITIONS.items()
        for attack in SHOWN
        if student == STUDENTS[0] or not (on.overrides or off.overrides) or on.overrides == AVERAGE
    }
    adjusted: dict[tuple[str, str, str], float] = {}
    for attack in SHOWN:
        column = [key for key in cells if key[2] == attack]
        adjusted |= zip(column, holm([cells[key].difference.p for key in column]), strict=True)
    for student, label in dict.fromkeys(key[:2] for key in cells):
        shown = (_points(cells[student, label, attack], adjusted[student, label, attack]) for attack in SHOWN)
        yield f"| {student} | {label} | {' | '.join(shown)} |"


def _points(found: Contrast, p: float) -> str:
    value, low, high = (100 * part for part in (found.difference.value, found.difference.low, found.difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]{' *' if p <= LEVEL else ''}"


def orders() -> Iterator[str]:
    """Kendall's tau of the order under PGD-SAT and others; first what other seeds alone would make of it."""
    yield f"| The order under PGD-SAT and that under | {' | '.join(STUDENTS)} |"
    yield "|---|" + "---:|" * len(STUDENTS)
    yield f"| PGD-SAT, two seeds against the other three | {' | '.join(f'{_split(each):.2f}' for each in STUDENTS)} |"
    for label, (attack, which) in ORDERS.items():
        taus = [_tau(_means(each), _means(each, attack, which)) for each in STUDENTS]
        yield f"| {label} | {' | '.join(f'{tau:.2f}' for tau in taus)} |"
    other = _tau(*(_means(each) for each in STUDENTS))
    yield f"| PGD-SAT, the other student | {other:.2f} | {other:.2f} |"


def _means(student: str, attack: str = BASE, which: Checkpoint = "best") -> list[float]:
    return [average(Defense(name), student, attack, which) for name in defenses()]


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    return float(kendalltau(first, second).statistic)


def _split(student: str) -> float:
    """The mean over all ways to part five seeds into two and three."""
    known = {name: [accuracy(each, BASE) for each in seeds_of(Defense(name), student)] for name in defenses()}
    taus = []
    for two in combinations(SEEDS, 2):
        parts = (
            [mean(values[k] for k in SEEDS if (k in two) == chosen) for values in known.values()] for chosen in (1, 0)
        )
        taus.append(_tau(*parts))
    return mean(taus)


def teachers() -> Iterator[str]:
    """Mean and spread over seeds under PGD-SAT, with teachers of each seed and with one teacher for all."""
    yield "| digits-cnn | Teachers of each seed | One teacher |"
    yield "|---|---:|---:|"
    for name in sorted({each.subject.method for each in networks(ONE_TEACHER)}):
        cells = []
        for home in (STUDY, ONE_TEACHER):
            values = [accuracy(each, BASE) for each in seeds_of(Defense(name), STUDENTS[0], home=home)]
            cells.append(f"{mean(values):.1f} ± {stdev(values):.1f}")
        yield f"| {name} | {' | '.join(cells)} |"


SECTIONS: Mapping[str, Callable[[], Iterator[str]]] = {
    "The best": best,
    "What an addition changes": additions,
    "The order": orders,
    "The teacher's seed": teachers,
}


def findings() -> str:
    """The file."""
    assert set(defenses()) == set(names("methods")) - {"natural"}, "the study has every defense"
    parts = ["\n".join([f"## {title}", "", *section()]) for title, section in SECTIONS.items()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (STUDY / "findings.md").write_text(findings(), encoding="utf-8")
