"""Networks and all that was measured of them: the records of one network, brought together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import Final

from bench.errors import unknown_name
from bench.records.measurement import Measurement, measurements, with_result
from bench.records.outcomes import as_bits, of_bits
from bench.records.record import AttackResult, Record, Subject
from bench.records.wording import CORRUPTED, protocol_text
from bench.stats import wilson_interval
from bench.system.naming import network_id
from bench.system.text import one_line
from bench.threat import Entry, Threat
from bench.vocabulary import Norm

WORST: Final = "worst"
"""The name of what no attack is: all attacks of a network together that are within its threat."""
UNION: Final = "union"
"""The same for the threats that it was not trained for."""


@dataclass(frozen=True, order=True)
class Condition:
    """What outcomes must share to be compared sample by sample."""

    dataset: str
    n: int
    protocol: str
    eps: float
    fingerprint: str
    norm: Norm = "linf"
    across: bool = False  # each network is under a threat of its own, and norm and eps say nothing

    @property
    def threat(self) -> Threat:
        return Threat(self.norm, self.eps)

    def __str__(self) -> str:
        return (
            f"the first {self.n:,} of {one_line(self.dataset)} ({one_line(self.fingerprint[:8])}), "
            f"{protocol_text(self.protocol)}, "
            f"{'each under its own threat' if self.across else self.threat.text}"
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
            condition = Condition(data.name, data.n, each.record.conduct, data.eps, data.fingerprint, data.norm)
            measured[condition, each.attack] = each
        subject = ordered[-1].subject
        return cls(network_id(subject.run, ordered[-1].id), subject, measured)

    @property
    def identity(self) -> str:
        """The same for networks that differ in the training seed alone."""
        kept = self.subject.model_dump(exclude={"run", "seed", "checkpoint", "training"})
        if self.subject.teacher_seeds:
            kept["teachers"] = sorted(kept["teachers"])
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

    def only_under(self, threat: Threat | None) -> Network:
        """The network with what was measured of it under one threat; all of it for None.

        Raises:
            BenchError: nothing was.
        """
        measured = {
            (condition, attack): each
            for (condition, attack), each in self.measured.items()
            if threat is None or str(condition.threat) == str(threat)  # as text: a radius is typed as it is shown
        }
        if not measured:
            known = {str(condition.threat) for condition in self.conditions}
            raise unknown_name(f"threat ({one_line(self.name)} was not measured under it)", str(threat), known)
        return replace(self, measured=measured)

    def with_worst(self) -> Network:
        """The network with one attack more under each condition, `WORST`: all of its attacks within the threat as one.

        It stands in the newest record of the condition.
        """
        within = {each.attack for each in self.measured.values() if within_threat(each)}
        return self._with_all(WORST, within)

    def with_union(self) -> Network:
        """The network with all attacks beyond its threat as one, `UNION`, and those under each such threat as one."""
        beyond = {each.attack: threat for each in self.measured.values() if (threat := beyond_threat(each))}
        network = self._with_all(UNION, beyond)
        for threat in sorted(set(beyond.values())):
            under = {attack for attack, own in beyond.items() if own == threat}
            network = network._with_all(f"{WORST}@{threat}", under)
        return network

    def _with_all(self, name: str, attacks: Collection[str]) -> Network:
        worst: dict[Key, Measurement] = {}
        for condition in self.conditions:
            known = self.under(condition)
            measured = [each for each in known.values() if each.attack == "clean" or each.attack in attacks]
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


def measured_under(records: Sequence[Record], threat: Threat | None) -> list[Record]:
    """The records that were made under a threat; all of them for None.

    Raises:
        BenchError: there are records, and none is of that threat.
    """
    # As text: a radius is typed as it is shown.
    found = [record for record in records if threat is None or str(record.data.threat) == str(threat)]
    if records and not found:
        known = {str(record.data.threat) for record in records}
        raise unknown_name("threat (nothing was measured here under it)", str(threat), known)
    return found


def with_worst(records: Sequence[Record]) -> list[Record]:
    """The records, those with a result more that are the newest of a network on its samples: `Network.with_worst`."""
    return _with_more(records, (network.with_worst() for network in networks_of(records)))


def with_union(records: Sequence[Record]) -> list[Record]:
    """The same with `Network.with_union`."""
    return _with_more(records, (network.with_union() for network in networks_of(records)))


def _with_more(records: Sequence[Record], networks: Iterable[Network]) -> list[Record]:
    more: defaultdict[str, dict[str, AttackResult]] = defaultdict(dict)
    for network in networks:
        for (_, attack), each in network.measured.items():
            if is_together(attack):
                more[each.record.id][attack] = each.result
    return [
        record.model_copy(update={"results": {**record.results, **more[record.id]}}) if record.id in more else record
        for record in records
    ]


def is_together(attack: str) -> bool:
    """Whether a result's name is that of several attacks as one."""
    return attack in (WORST, UNION) or attack.startswith(f"{WORST}@")


def _replaced(records: Sequence[Record], name: str, networks: Iterable[Network]) -> list[Record]:
    measured = (item for network in networks for item in network.measured.items())
    found = {each.record.id: each.record for (_, attack), each in measured if attack == name}
    return [found.get(record.id, record) for record in records]


def within_threat(measured: Measurement) -> bool:
    """Whether an attack stayed within the threat of its record: a rotation, or another norm, is none of it."""
    return beyond_threat(measured) is None


def beyond_threat(measured: Measurement) -> str | None:
    """The threat of an attack that is not its record's: `l2:0.5`, `1.5x`, `geometric`, `corruptions`; else None."""
    if is_together(measured.attack):
        return None
    entry = Entry.of(measured.attack)
    if entry.threat is not None or measured.result.parameters.get("in_ball", True):
        return entry.threat
    return "corruptions" if CORRUPTED.match(entry.attack) else entry.attack


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
