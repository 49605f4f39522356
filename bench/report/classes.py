"""Accuracy of every class, and the class that fares worst, for each network and attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.record import AttackResult, Record
from bench.report.leaderboard import Entry, interval_text
from bench.stats import wilson_interval
from bench.tables.cell import DASH
from bench.tables.plain import PlainTable

Names = Mapping[str, Sequence[str]]
"""Class names by dataset, in label order, where the dataset is at hand."""


CLEAN = "no attack"
MOST_NETWORKS = 30
"""Networks that a chart shows at once; more cannot be told apart."""


@dataclass(frozen=True)
class ClassAccuracies:
    """The classes of one network under one attack.

    Attributes:
        entry: the network, with what it was attacked on.
        seed: of the network, or none, as text.
        accuracies: by class, in [0, 1]; None for a class without samples.
        counts: samples by class; None where the record does not hold them.
    """

    entry: Entry
    attack_label: str
    seed: str
    accuracies: Sequence[float | None]
    counts: Sequence[int] | None

    @property
    def worst(self) -> int:
        """The class with the lowest accuracy; of equal ones the first."""
        return self.accuracies.index(min(accuracy for accuracy in self.accuracies if accuracy is not None))

    @property
    def values(self) -> list[float | None]:
        """By class, how many samples are right; percentages where the samples of each class are not known."""
        if self.counts is None:
            return [None if accuracy is None else round(100 * accuracy, 2) for accuracy in self.accuracies]
        known = zip(self.accuracies, self.counts, strict=True)
        return [None if accuracy is None else round(accuracy * count) for accuracy, count in known]

    def interval(self, i: int) -> tuple[float, float] | None:
        """Wilson's 95 % interval of a class, in [0, 1]; None where its samples are not known."""
        accuracy = self.accuracies[i]
        if self.counts is None or accuracy is None:
            return None
        return wilson_interval(round(accuracy * self.counts[i]), self.counts[i])


def class_accuracies(found: Iterable[Entry], records: Mapping[str, Record]) -> list[ClassAccuracies]:
    """Of every network in the leaderboard: without attack, and under each attack."""
    clean: dict[tuple[object, ...], tuple[Entry, Record]] = {}
    attacked: list[ClassAccuracies] = []
    for entry in found:
        if entry.view == "mean":
            continue
        record = records[entry.robust.records[0]]
        attacked += _of(entry, entry.attack_label, record, record.results[entry.attack])
        if "clean" in record.results:
            clean[entry.model, entry.group, entry.label, entry.seeds] = (entry, record)
    return attacked + [
        one for entry, record in clean.values() for one in _of(entry, CLEAN, record, record.results["clean"])
    ]


def _of(entry: Entry, attack: str, record: Record, result: AttackResult) -> list[ClassAccuracies]:
    if all(accuracy is None for accuracy in result.class_accuracy):
        return []
    seed = ", ".join(map(str, entry.seeds))
    return [ClassAccuracies(entry, attack, seed, result.class_accuracy, record.data.class_counts)]


def class_name(names: Names, dataset: str, i: int) -> str:
    """A class by its name, or by its number where no names are at hand."""
    return names[dataset][i] if dataset in names and i < len(names[dataset]) else f"class {i}"


def chart(found: Sequence[ClassAccuracies], names: Names) -> dict[str, Any]:
    """What the page's chart draws: for each choice of a reader the networks with a value for each class.

    A value is how many samples are right where `counts` has the samples of each class, else a percentage. `intervals`
    holds Wilson's interval, in per cent, once for each number of right ones in a number of samples.
    """
    intervals: dict[str, tuple[float, float]] = {}
    choices: dict[tuple[object, ...], dict[str, Any]] = {}
    for one in found:
        entry, group = one.entry, one.entry.group
        key = (group.dataset, entry.model, one.attack_label, entry.group.protocol, entry.schedule, entry.samples)
        measured_on = (*key, group.fingerprint, one.counts and tuple(one.counts))
        choice = choices.get(measured_on)
        if choice is None:
            labels = [class_name(names, group.dataset, i) for i in range(len(one.accuracies))]
            choice = {"key": key, "classes": labels, "counts": one.counts, "networks": [], "left_out": 0}
            choices[measured_on] = choice
        if len(choice["networks"]) == MOST_NETWORKS:
            choice["left_out"] += 1
            continue
        name = entry.label + (f", seed {one.seed}" if entry.view == "network" and one.seed else "")
        values = one.values
        choice["networks"].append({"name": name, "values": values, "worst": one.worst})
        for i, count in enumerate(one.counts or ()):
            low_high = one.interval(i)
            if low_high is not None:
                low, high = low_high
                intervals[f"{values[i]}/{count}"] = (round(100 * low, 1), round(100 * high, 1))
    return {"choices": list(choices.values()), "intervals": intervals}


def worst_table(found: Iterable[ClassAccuracies], names: Names) -> PlainTable:
    """The worst class of every network under every attack."""
    headers = ("Defense", "Student", "Dataset", "Attack", "Protocol", "Schedule", "Seed")
    numbers = ("Worst class", "Accuracy %", "95 %", "n of class")
    notes = (
        "95 %: of the lowest true accuracy of a class, from all classes (exact bounds). As a minimum over classes the "
        "number itself is biased downward, the more the fewer samples a class has; the interval allows for that.",
        "Of equally low classes the first is named.",
    )
    return PlainTable(
        "Worst classes",
        (*headers, *numbers),
        tuple(_worst_row(one, names) for one in found if one.attack_label != CLEAN),
        notes,
    )


def _worst_row(one: ClassAccuracies, names: Names) -> tuple[str, ...]:
    entry, i = one.entry, one.worst
    accuracy = one.accuracies[i]
    return (
        *(entry.label, entry.model, entry.group.dataset, one.attack_label, entry.group.protocol, entry.schedule),
        *(one.seed or DASH, class_name(names, entry.group.dataset, i), f"{100 * (accuracy or 0):.2f}"),
        interval_text(entry.worst_class),
        str(one.counts[i]) if one.counts else DASH,
    )
