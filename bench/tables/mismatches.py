"""What should not differ between the rows of one column and does, and numbers that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.tables.headers import dataset_label
from bench.tables.spec import TableSpec
from bench.tables.table import Cell

if TYPE_CHECKING:
    from pandas import DataFrame

_MOST_LISTED = 12
_ROUNDED_MEAN = 5.1e-5


@dataclass(frozen=True)
class Mismatch:
    """Something that keeps rows from being compared: of what kind, and in words."""

    kind: str
    text: str


def mismatches(lines: DataFrame, spec: TableSpec) -> Iterator[Mismatch]:
    """What differs between rows of one group: surrogates, teachers, attack parameters."""
    surrogates = sorted({surrogate[:12] for surrogate in lines["surrogate"].dropna()})
    if len(surrogates) > 1:
        yield Mismatch(
            "surrogates",
            f"the transferred images differ between rows ({', '.join(surrogates)}), so those rows do not compare",
        )
    pupils: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row, teachers in zip(lines["row"], lines["teachers"], strict=True):
        for role, checkpoint in teachers.items():
            pupils[role][checkpoint[:12]].add(row)
    for role, rows in sorted(pupils.items()):
        if len(rows) > 1:
            each = {f"{checkpoint} taught {', '.join(sorted(taught))}" for checkpoint, taught in rows.items()}
            yield Mismatch("teachers", f"not all rows had the same {role} teacher: {listed(each)}")
    for attack in spec.attacks:
        parameters = set(lines.loc[lines["attack"] == attack.result, "parameters"])
        if len(parameters) > 1:
            yield Mismatch(
                "parameters", f"{attack.label} had different parameters in different rows: {listed(parameters)}"
            )


def contradictions(frame: DataFrame, spec: TableSpec) -> list[str]:
    """The W-R of a frame that are not the mean of clean and robust accuracy, in words."""
    if "weighted" not in spec.columns:
        return []
    means = (frame["clean"] + frame["robust"]) / 2
    return [
        f"{attack_label(attack, spec)} {row} on {dataset_label(dataset, spec)} "
        f"({Cell(value=100 * weighted).text}; the mean is {Cell(value=100 * mean).text})"
        for attack, row, dataset, weighted, mean in zip(
            *(frame[name] for name in ("attack", "row", "dataset", "weighted")), means, strict=True
        )
        if abs(weighted - mean) > _ROUNDED_MEAN
    ]


def attack_label(result: str, spec: TableSpec) -> str:
    """An attack's name for readers."""
    return next(attack.label for attack in spec.attacks if attack.result == result)


def listed(items: Iterable[str]) -> str:
    """Items in order; of many only the first."""
    ordered = sorted(items)
    more = len(ordered) - _MOST_LISTED
    return "; ".join(ordered[:_MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")
