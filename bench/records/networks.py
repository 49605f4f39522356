"""Networks and all that was measured of them: the records of one network, brought together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import Final

from bench.records.measurement import Measurement, measurements, with_result
from bench.records.record import AttackResult, Record, Subject, as_bits, of_bits
from bench.records.wording import protocol_text
from bench.stats import wilson_interval
from bench.system.naming import network_id
from bench.system.text import one_line
from bench.threat import Entry

WORST: Final = "worst"
"""The name of what no attack is: all attacks of a network together that are within its threat."""
UNION: Final = "union"
"""The same for the threats that it was not trained for."""
TOGETHER: Final = (WORST, UNION)


@dataclass(frozen=True, order=True)
class Condition:
    """What outcomes must share to be compared sample by sample."""

    dataset: str
    n: int
    protocol: str
    eps: float
    fingerprint: str

    def __str__(self) -> str:
        return (
            f"the first {self.n:,} of {one_line(self.dataset)} ({one_line(self.fingerprint[:8])}), "
            f"{protocol_text(self.protocol)}, "
            f"eps = {self.eps:.4g}"
        )


Key = tuple[Condition, str]
"""What a network was measured on, and under which attack."""


@dataclass(frozen=True)
class Network:
    """One trained network and the newest measurement of each attack under each condition."""

    name: str
    subject: Subject
    measured: Mapping[Key, Measurement]

    @classmethod
    def of(cls, records: Iterable[Record], texts: dict[int, str] | None = None) -> Network:
        """The network that all of these records are of; `texts` as of `measurements`."""
        ordered = sorted(records, key=lambda record: (record.created, record.id))
        measured: dict[Key, Measurement] = {}
        for each in measurements(ordered, texts=texts):
            data = each.record.data
            condition = Condition(data.name, data.n, each.record.conduct, data.eps, data.fingerprint)
            measured[condition, each.attack] = each
        subject = ordered[-1].subject
        return cls(network_id(subject.run, ordered[-1].id), subject, measured)

    @property
    def identity(self) -> str:
        """The same for networks that differ in the training seed alone."""
        kept = self.subject.model_dump(exclude={"run", "seed", "checkpoint", "training"})
        datasets = sorted({condition.dataset for condition, _ in self.measured})
        own = self.subject.checkpoint if self.subject.seed is None else None
        return json.dumps([kept, datasets, own], sort_keys=True, default=str)

    @property
    def conditions(self) -> list[Condition]:
        """What it was measured on, in order."""
        return sorted({condition for condition, _ in self.measured})

    def under(self, condition: Condition) -> dict[str, Measurement]:
        """By attack (`clean` is none): what was measured on one condition."""
        return {attack: each for (where, attack), each in self.measured.items() if where == condition}

    def with_worst(self) -> Network:
        """The network with one attack more under each condition, `WORST`: all of its attacks within the threat as one.

        It stands in the newest record of the condition.
        """
        return self._with_all(WORST, within_threat)

    def with_union(self, attacks: Collection[str]) -> Network:
        """The network with `UNION` under each condition: these attacks as one."""
        return self._with_all(UNION, lambda each: each.attack in attacks)

    def _with_all(self, name: str, chosen: Callable[[Measurement], bool]) -> Network:
        worst: dict[Key, Measurement] = {}
        for condition in self.conditions:
            known = self.under(condition)
            measured = [each for each in known.values() if each.attack == "clean" or chosen(each)]
            if any(each.attack != "clean" for each in measured):
                newest = max((each.record for each in measured), key=lambda record: (record.created, record.id))
                worst[condition, name] = with_result(newest, name, worst_over(measured))
        return replace(self, measured={**self.measured, **worst})


def networks_of(records: Iterable[Record]) -> list[Network]:
    """The networks of some records, in the order of their first ones.

    A run is one network for each of those it keeps that was evaluated; a file from elsewhere is one by its weights,
    its name and its architecture.
    """
    found: defaultdict[tuple[str | None, ...], list[Record]] = defaultdict(list)
    for record in records:
        subject = record.subject
        own = (subject.checkpoint, subject.method, subject.model, subject.role)
        found[(subject.run, subject.checkpoint_of) if subject.run is not None else own].append(record)
    texts: dict[int, str] = {}
    return [Network.of(own, texts) for own in found.values()]


def with_worst(records: Sequence[Record]) -> list[Record]:
    """The records, those with a result more that are the newest of a network on its samples: `Network.with_worst`."""
    return _replaced(records, WORST, (network.with_worst() for network in networks_of(records)))


def with_union(records: Sequence[Record], attacks: Collection[str]) -> list[Record]:
    """The same with `Network.with_union`."""
    return _replaced(records, UNION, (network.with_union(attacks) for network in networks_of(records)))


def _replaced(records: Sequence[Record], name: str, networks: Iterable[Network]) -> list[Record]:
    measured = (item for network in networks for item in network.measured.items())
    found = {each.record.id: each.record for (_, attack), each in measured if attack == name}
    return [found.get(record.id, record) for record in records]


def within_threat(measured: Measurement) -> bool:
    """Whether an attack stayed within the threat of its record: a rotation, or another norm, is none of it."""
    return Entry.of(measured.attack).threat is None and measured.result.parameters.get("in_ball", True)


def worst_over(measured: Sequence[Measurement]) -> AttackResult:
    """All of a network's attacks on the same samples as one: right is what no attack fools.

    Args:
        measured: of one network under one condition, `clean` among them or not: a sample that is wrong without attack
            is wrong here too.

    Returns:
        A result whose parameters are the attacks and theirs, so that it is compared with no worst over others. What the
            classes' accuracies are it does not tell.
    """
    n, first = measured[0].record.data.n, measured[0].result
    right = reduce(and_, (as_bits(each.result.final, n) for each in measured))
    correct = right.bit_count()
    over = {each.attack: [each.parameters, each.result.surrogate] for each in measured}
    return AttackResult(
        parameters={"over": dict(sorted(over.items()))},
        surrogate=None,
        final=of_bits(right, n),
        worst=None,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None,
        class_accuracy=[None] * len(first.class_accuracy),
        batch_size=first.batch_size,
        seconds=sum(each.result.seconds for each in measured),
    )
