"""What the study on digits found, from its records: the files beside them, written by `make measured`.

Contrasts are those of `bench compare` over five seeds a side. The order of the defenses is that of their means over
seeds. Two orders are compared by Kendall's tau (1938): the pairs that both have the same way round less those that they
have the other way round, as a share of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from scipy.stats import kendalltau

from bench.analysis.compare import Contrast, compare_networks
from bench.records.index import home_records
from bench.records.networks import Network, networks_of
from bench.stats import LEVEL, holm
from bench.stats.power import smallest, welch_power
from bench.system.home import Home
from bench.vocabulary import Checkpoint

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


@dataclass(frozen=True)
class Campaign:
    """The students of a home by defense and seed."""

    home: Path

    @cached_property
    def networks(self) -> list[Network]:
        """The best and the last weights of each run."""
        records = home_records(Home(self.home), None)
        return [each for each in networks_of(records) if each.subject.kind == "student"]

    @cached_property
    def defenses(self) -> list[str]:
        """All that were trained, but natural training."""
        return sorted({each.subject.method for each in self.networks} - {"natural"})

    def seeds_of(self, defense: Defense, student: str, which: Checkpoint = "best") -> list[Network]:
        """A defense's networks by seed; the selected ones stand for the last where these are the same.

        Raises:
            LookupError: a seed has no record.
        """
        found = {
            (each.subject.seed, each.subject.checkpoint_of): each
            for each in self.networks
            if (each.subject.method, each.subject.overrides, each.subject.model)
            == (defense.method, dict(defense.overrides), student)
        }
        missing = [seed for seed in SEEDS if (seed, "best") not in found]
        if missing:
            raise LookupError(f"{self.home.name}: {defense} of {student} has no record of the seeds {missing}")
        return [found.get((seed, which), found[seed, "best"]) for seed in SEEDS]

    def accuracies(self, defense: Defense, student: str, attack: str, which: Checkpoint = "best") -> list[float]:
        """Over seeds, in percent."""
        return [accuracy(each, attack) for each in self.seeds_of(defense, student, which)]

    def means(self, student: str, attack: str = BASE, which: Checkpoint = "best") -> dict[str, float]:
        """Of every defense the mean over seeds, in percent."""
        return {name: mean(self.accuracies(Defense(name), student, attack, which)) for name in self.defenses}


def accuracy(network: Network, attack: str) -> float:
    """In percent, of the one measurement that a network has of an attack on the most images."""
    measured = {each.record.data.n: each for (_, name), each in network.measured.items() if name == attack}
    if not measured:
        raise LookupError(f"{network.name} ({network.subject.checkpoint_of}) was not under {attack}")
    return 100 * measured[max(measured)].result.accuracy


def contrast(first: Sequence[Network], second: Sequence[Network], attack: str) -> Contrast:
    """Of two defenses, over seeds, on the most images that all were under this attack on."""
    found = compare_networks([*first, *second], [attack]).contrasts
    quantity = "clean" if attack == "clean" else "robust"
    return max((each for each in found if each.quantity == quantity), key=lambda each: each.condition.n)


def best(study: Campaign) -> Iterator[str]:
    """Of each student and attack the best defense, and the others that were not told apart from it."""
    yield "| Student | | Best | % | Not told apart from it | Of them |"
    yield "|---|---|---|---:|---:|---|"
    for student in STUDENTS:
        for attack, label in SHOWN.items():
            means = study.means(student, attack)
            first, *rivals = sorted(means, key=means.__getitem__, reverse=True)
            one = study.seeds_of(Defense(first), student)
            found = [contrast(one, study.seeds_of(Defense(name), student), attack).difference.p for name in rivals]
            equal = [name for name, p in zip(rivals, holm(found), strict=True) if p > LEVEL]
            shown = ", ".join(equal[:5]) + (f" and {len(equal) - 5} more" if len(equal) > 5 else "")
            yield f"| {student} | {label} | {first} | {means[first]:.1f} | {len(equal)} of {len(rivals)} | {shown} |"


def spreads(study: Campaign) -> Iterator[str]:
    """The standard deviation over a defense's seeds, and what it lets Welch's test find with five seeds a side."""
    yield "| Student | | Spread over seeds, median defense | Found in four of five cases with five seeds a side |"
    yield "|---|---|---:|---:|"
    for student in STUDENTS:
        for attack, label in SHOWN.items():
            spread = median(stdev(study.accuracies(Defense(name), student, attack)) for name in study.defenses)
            of_mean = (spread / 100) ** 2 / len(SEEDS)
            found = 100 * smallest(welch_power([of_mean] * 2, [len(SEEDS)] * 2))
            yield f"| {student} | {label} | {spread:.1f} | {found:.1f} |"


def additions(study: Campaign) -> Iterator[str]:
    """What each addition changes, in points with the 95 % interval; `*`: significant as one of its column."""
    yield f"| Student | Added | {' | '.join(SHOWN.values())} |"
    yield "|---|---|" + "---:|" * len(SHOWN)
    cells = {
        (student, label, attack): contrast(study.seeds_of(on, student), study.seeds_of(off, student), attack)
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


def orders(study: Campaign) -> Iterator[str]:
    """Kendall's tau of the order under PGD-SAT and others; first what other seeds alone would make of it."""
    yield f"| The order under PGD-SAT and that under | {' | '.join(STUDENTS)} |"
    yield "|---|" + "---:|" * len(STUDENTS)
    split = [_split(study, each) for each in STUDENTS]
    yield f"| PGD-SAT, two seeds against the other three | {' | '.join(f'{tau:.2f}' for tau in split)} |"
    means = {student: study.means(student) for student in STUDENTS}
    for label, (attack, which) in ORDERS.items():
        taus = (_tau(means[each], study.means(each, attack, which)) for each in STUDENTS)
        yield f"| {label} | {' | '.join(f'{tau:.2f}' for tau in taus)} |"
    other = _tau(*means.values())
    yield f"| PGD-SAT, the other student | {other:.2f} | {other:.2f} |"


def _tau(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    return float(kendalltau(list(first.values()), [second[name] for name in first]).statistic)


def _split(study: Campaign, student: str) -> float:
    """The mean over all ways to part five seeds into two and three."""
    known = {name: study.accuracies(Defense(name), student, BASE) for name in study.defenses}
    taus = []
    for two in combinations(SEEDS, 2):
        one, other = (
            {name: mean(values[k] for k in SEEDS if (k in two) == chosen) for name, values in known.items()}
            for chosen in (True, False)
        )
        taus.append(_tau(one, other))
    return mean(taus)


def teachers(study: Campaign, one_teacher: Campaign) -> Iterator[str]:
    """Mean and spread over seeds under PGD-SAT, with teachers of each seed and with one teacher for all."""
    yield f"| {STUDENTS[0]} | Teachers of each seed | One teacher |"
    yield "|---|---:|---:|"
    for name in one_teacher.defenses:
        values = [each.accuracies(Defense(name), STUDENTS[0], BASE) for each in (study, one_teacher)]
        yield f"| {name} | {' | '.join(f'{mean(each):.1f} ± {stdev(each):.1f}' for each in values)} |"


def findings(study: Campaign, one_teacher: Campaign) -> dict[str, str]:
    """The text of each file."""
    lines = {
        "best.md": best(study),
        "spreads.md": spreads(study),
        "additions.md": additions(study),
        "orders.md": orders(study),
        "teachers.md": teachers(study, one_teacher),
    }
    return {name: "\n".join(each) + "\n" for name, each in lines.items()}
