"""A record and one of its attacks: the numbers that tables, figures and comparisons take from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

import numpy as np

from bench.records.outcomes import unpack
from bench.records.record import AttackResult, Record
from bench.stats import weighted_interval, weighted_scores, worst_class_interval

PublishedQuantity = Literal["clean", "robust", "weighted"]
Quantity = Literal["clean", "robust", "weighted", "worst_class", "cost", "overfitting"]
"""Accuracies, their mean W-R, the lowest robust accuracy of a class, the hours of training, and the robust accuracy of
a run's last network minus that of its best."""

_to_json = json.JSONEncoder(sort_keys=True, default=str).encode


class Measurement(NamedTuple):
    """One attack on one network, as its record has it.

    Attributes:
        attack: the result's name; `clean` for none.
        parameters: of the attack, as text.
    """

    record: Record
    attack: str
    parameters: str

    @property
    def result(self) -> AttackResult:
        return self.record.results[self.attack]

    @property
    def clean(self) -> AttackResult | None:
        """Without attack, from the same record."""
        return self.record.results.get("clean")

    def value(self, quantity: Quantity) -> float | None:
        """A number: accuracies in [0, 1], cost in hours; None where the record does not hold it."""
        if quantity == "overfitting":
            return None  # it takes two records
        if quantity == "robust":
            return self.result.accuracy
        if quantity == "cost":
            training = self.record.subject.training
            return None if training is None else training.seconds / 3600
        if quantity == "worst_class":
            return min((share for share in self.result.class_accuracy if share is not None), default=None)
        clean = self.clean
        if clean is None:
            return None
        return clean.accuracy if quantity == "clean" else (clean.accuracy + self.result.accuracy) / 2

    def interval(self, quantity: Quantity) -> tuple[float, float] | None:
        """95 % interval of a number: Wilson's, the score interval of W-R, exact bounds of the worst class."""
        clean, result = self.clean, self.result
        if quantity == "robust":
            return result.interval
        if quantity == "worst_class":
            known = self._classes()
            return worst_class_interval([right for right, _ in known], [n for _, n in known]) if known else None
        if clean is None or quantity in ("cost", "overfitting"):
            return None
        if quantity == "clean":
            return clean.interval
        n = self.record.data.n
        return weighted_interval(unpack(clean.final, n), unpack(result.final, n))

    def scores(self, quantity: PublishedQuantity) -> np.ndarray | None:
        """Each sample's part in an accuracy (bool) or in W-R (0, 1/2, 1), shape (n,); None where it is not known."""
        clean, n = self.clean, self.record.data.n
        if quantity == "robust":
            return unpack(self.result.final, n)
        if clean is None:
            return None
        right = unpack(clean.final, n)
        return right if quantity == "clean" else weighted_scores(right, unpack(self.result.final, n))

    @property
    def worst_class(self) -> tuple[int, int] | None:
        """Of the class with the lowest robust accuracy the samples that are right, and all; None where not known."""
        return min(self._classes(), key=lambda known: known[0] / known[1], default=None)

    def _classes(self) -> list[tuple[int, int]]:
        """Samples that are right, and all, of each class that has any; none in records that do not hold the latter."""
        shares, counts = self.result.class_accuracy, self.record.data.class_counts
        known = zip(shares, counts or (), strict=False)
        return [(round(share * count), count) for share, count in known if share is not None]


def with_result(record: Record, attack: str, result: AttackResult) -> Measurement:
    """A further result, measured of a copy of the record that has it."""
    extended = record.model_copy(update={"results": {**record.results, attack: result}})
    return Measurement(extended, attack, _to_json(result.parameters))


def measurements(
    records: Collection[Record], attacks: Collection[str] | None = None, texts: dict[int, str] | None = None
) -> Iterator[Measurement]:
    """The attacks of records, or some of them; the text of parameters that many records share is made once.

    Args:
        texts: of parameters by their identity, where several calls are about records that share them and stay alive.
    """
    texts = {} if texts is None else texts
    for record in records:
        for name, result in record.results.items():
            if attacks is None or name in attacks:
                text = texts.get(id(result.parameters)) or _to_json(result.parameters)
                texts[id(result.parameters)] = text
                yield Measurement(record, name, text)


def differing(record: Record, other: Record) -> dict[str, int]:
    """On how many samples two records of the same samples disagree, for each attack that both have."""
    n = record.data.n
    return {
        name: int((unpack(result.final, n) ^ unpack(other.results[name].final, n)).sum())
        for name, result in record.results.items()
        if name in other.results
    }
