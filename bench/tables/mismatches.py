"""What should not differ between the rows of one column and does, and numbers that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.records.networks import WORST
from bench.tables.cell import Cell
from bench.tables.headers import attack_label, dataset_label
from bench.tables.lines import Line, Measured
from bench.tables.spec import TableSpec

_MOST_LISTED = 12
_EACH_SEEDS = "one of each seed"
_ROUNDED_MEAN = 5.1e-5


@dataclass(frozen=True)
class Mismatch:
    """Something that keeps rows from being compared: of what kind, and in words."""

    kind: str
    text: str


def surrogates(lines: Iterable[Measured]) -> str:
    """What transferred images were crafted on, in short; empty where none were transferred."""
    known = {line.measurement.result.surrogate for line in lines}
    return ", ".join(sorted({surrogate[:12] for surrogate in known if surrogate}))


def mismatches(lines: Sequence[Measured], spec: TableSpec) -> Iterator[Mismatch]:
    """What differs between rows of one group: surrogates, trainings of one defense, teachers, attack parameters."""
    crafted_on = surrogates(lines)
    if "," in crafted_on:
        yield Mismatch(
            "surrogates", f"the transferred images differ between rows ({crafted_on}), so those rows do not compare"
        )
    unlike = {line.place.row for line in lines if line.unlike}
    if unlike:
        yield Mismatch(
            "trainings",
            f"not trained as the newest seeds of their defense, and so in rows of their own: {listed(unlike)}; records "
            "of earlier versions do not say how",
        )
    pupils: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in lines:
        subject = line.record.subject
        for role, checkpoint in subject.teachers.items():
            pupils[role][_EACH_SEEDS if subject.teacher_seeds else checkpoint[:12]].add(line.place.row)
    for role, rows in sorted(pupils.items()):
        if len(rows) > 1:
            each = {f"{checkpoint} taught {', '.join(sorted(taught))}" for checkpoint, taught in rows.items()}
            yield Mismatch("teachers", f"not all rows had the same {role} teacher: {listed(each)}")
    for attack in spec.attacks:
        if attack.result == WORST:
            continue  # other parameters of its attacks are named with those
        parameters = {line.measurement.parameters for line in lines if line.place.attack == attack.result}
        if len(parameters) > 1:
            yield Mismatch(
                "parameters", f"{attack.label} had different parameters in different rows: {listed(parameters)}"
            )


def contradictions(lines: Iterable[Line], spec: TableSpec) -> Iterator[str]:
    """The W-R that are not the mean of clean and robust accuracy, in words."""
    for line in lines if "weighted" in spec.columns else ():
        clean, robust, weighted = line.value("clean"), line.value("robust"), line.value("weighted")
        if clean is None or robust is None or weighted is None or abs(weighted - (clean + robust) / 2) <= _ROUNDED_MEAN:
            continue
        group, attack, row = line.place
        yield (
            f"{attack_label(attack, spec)} {row} on {dataset_label(group.dataset, spec)} "
            f"({Cell(value=100 * weighted).text}; the mean is {Cell(value=50 * (clean + robust)).text})"
        )


def listed(items: Iterable[str]) -> str:
    """Items in order; of many only the first."""
    ordered = sorted(items)
    more = len(ordered) - _MOST_LISTED
    return "; ".join(ordered[:_MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")
