"""What was measured of networks: a row for each and what it was measured on, as data for tables and for scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import unknown_name
from bench.evaluation.suites import strength
from bench.records.measurement import Measurement
from bench.records.networks import WORST, Condition, Network, within_threat, worst_over
from bench.records.record import AttackResult, Record
from bench.system import escape
from bench.system.text import defense_label
from bench.threat import Threat

_OF_SUBJECT = (
    "kind",
    "role",
    "method",
    "label",
    "overrides",
    "model",
    "seed",
    "recipe",
    "setting",
    "selection",
    "looks",
    "checkpoint_of",
)
_OF_RECORD = ("protocol", "worst_case", "precision", "attack_set")


@dataclass(frozen=True)
class Row:
    """One network under one condition.

    Attributes:
        measured: by attack, `clean` first, then as `strength` has them.
        worst: all attacks together, sample by sample; None where there are not two.
    """

    network: Network
    condition: Condition
    measured: Mapping[str, Measurement]
    worst: AttackResult | None

    @property
    def results(self) -> dict[str, AttackResult]:
        """By attack; `worst` comes last."""
        found = {attack: each.result for attack, each in self.measured.items()}
        return found if self.worst is None else {**found, WORST: self.worst}

    @property
    def records(self) -> list[Record]:
        """Those that the results are from, the newest last."""
        found = {each.record.id: each.record for each in self.measured.values()}
        return sorted(found.values(), key=lambda record: (record.created, record.id))

    @property
    def flags(self) -> list[str]:
        """The checks that failed, in words, each once."""
        return list(dict.fromkeys(flag for record in self.records for flag in record.flags))

    @property
    def defense(self) -> str:
        """Its name for readers: `CIARD (push=false)`, `TRADES, robust teacher`."""
        subject = self.network.subject
        teacher = f", {subject.role} teacher" if subject.role else ""
        which = f", {subject.checkpoint_of}" if subject.checkpoint_of != "best" else ""
        return defense_label(subject.label, subject.overrides) + teacher + which

    def content(self, short: Mapping[str, str]) -> dict[str, Any]:
        """In plain types; accuracies in [0, 1].

        Args:
            short: the shortest name of each network, by its id.
        """
        subject, newest = self.network.subject, self.records[-1]
        return {
            "id": self.network.name,
            "short": short.get(self.network.name, self.network.name),
            **{name: getattr(subject, name) for name in _OF_SUBJECT},
            "dataset": self.condition.dataset,
            "n": newest.data.n,
            "total": newest.data.total,
            "eps": newest.data.eps,
            "norm": newest.data.norm,
            "fingerprint": newest.data.fingerprint,
            **{name: getattr(newest, name) for name in _OF_RECORD},
            "created": newest.created,
            "flags": self.flags,
            "results": {attack: self._result(attack, result) for attack, result in self.results.items()},
        }

    def _result(self, attack: str, result: AttackResult) -> dict[str, Any]:
        """One attack's; of `worst` the attacks that it is over."""
        own = self.measured.get(attack)
        return {
            "accuracy": result.accuracy,
            "interval": list(result.interval),
            "correct": result.correct,
            "worst_accuracy": result.worst_accuracy,
            "surrogate": result.surrogate,
            "record": None if own is None else own.record.id,
            "over": None if own is not None else sorted(result.parameters["over"]),
        }


def rows_of(networks: Iterable[Network]) -> list[Row]:
    """A row for each network and condition."""
    return [_row(network, condition) for network in networks for condition in network.conditions]


def headline(network: Network) -> Row | None:
    """What was measured of a network on the most samples and, of these, with the most attacks; None without any."""
    conditions = {condition: len(network.under(condition)) for condition in network.conditions}
    most = max(conditions, key=lambda condition: (condition.n, conditions[condition]), default=None)
    return None if most is None else _row(network, most)


def chosen_rows(
    networks: Sequence[Network],
    dataset: str | None = None,
    student: str | None = None,
    method: str | None = None,
    attacks: Collection[str] = (),
    threat: Threat | None = None,
) -> list[Row]:
    """The rows of some networks, the newest first.

    Args:
        student: an architecture, also of a teacher or of a file from elsewhere; without a normalisation any.
        threat: under which it was measured.
        attacks: only these, beside clean accuracy; none for all. What was measured with none of them has no row.

    Raises:
        BenchError: nothing was measured of one of these names.
    """
    under = [(network, condition) for network in networks for condition in network.conditions]
    measured = {attack for network in networks for _, attack in network.measured}
    models = {network.subject.model for network in networks}
    asked: dict[str, tuple[Collection[str | None], set[str]]] = {
        "dataset": ([dataset], {condition.dataset for _, condition in under}),
        "student": ([student], models | {model.partition("@")[0] for model in models}),
        "method": ([method], {network.subject.method for network in networks}),
        "attack": (attacks, measured),
        "threat": ([None if threat is None else str(threat)], {str(condition.threat) for _, condition in under}),
    }
    for kind, (names, known) in asked.items():
        for name in names:
            if name is not None and name not in known:
                raise unknown_name(f"{kind} (nothing was measured here of that name)", name, known)
    rows = [
        _row(network, condition, attacks)
        for network, condition in under
        if dataset in (None, condition.dataset)
        and student in (None, network.subject.model, network.subject.model.partition("@")[0])
        and method in (None, network.subject.method)
        and (threat is None or str(condition.threat) == str(threat))  # as text: a radius is typed as it is shown
        and (not attacks or any((condition, attack) in network.measured for attack in attacks))
    ]
    return sorted(rows, key=lambda row: row.records[-1].created, reverse=True)


def _row(network: Network, condition: Condition, attacks: Collection[str] = ()) -> Row:
    under = network.under(condition)
    shown = [name for name in sorted(under, key=strength) if not attacks or name in {"clean", *attacks}]
    measured = {name: under[name] for name in shown}
    within = [each for each in measured.values() if within_threat(each)]
    several = sum(each.attack != "clean" for each in within) > 1
    return Row(network, condition, measured, worst_over(within) if several else None)


def to_csv(rows: Sequence[Row], short: Mapping[str, str]) -> str:
    """A line for each network, condition and attack; accuracies in [0, 1], what is absent is empty."""
    lines = []
    for content in (row.content(short) for row in rows):
        results = content.pop("results")
        content |= {name: json.dumps(content[name]) for name in ("overrides", "attack_set")}
        content["flags"] = "; ".join(content["flags"])
        for attack, result in results.items():
            low, high = result.pop("interval")
            over = " ".join(result.pop("over") or ())
            lines.append({**content, "attack": attack, "low": low, "high": high, **result, "over": over})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if lines:
        writer.writerow(lines[0])
    for line in lines:
        writer.writerow(escape.csv(value) if isinstance(value, str) else value for value in line.values())
    return stream.getvalue()
