"""From records to lines: what belongs into a table and in which row, a line for each record and attack."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from bench.records.measurement import Measurement, Quantity, measurements
from bench.records.networks import is_together
from bench.records.record import Record, Subject
from bench.stats import compare, wilson_interval
from bench.system.text import defense_label, leaves, settings_text
from bench.tables.cell import Group
from bench.tables.spec import TableSpec


class Place(NamedTuple):
    """Where lines are averaged into cells; `row` is a row's label."""

    group: Group
    attack: str
    row: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One attack on one network.

    Attributes:
        position: of the row in the spec; behind its last for a row that it does not name.
        unlike: how it was trained otherwise than the row of its defense, in words; empty for one of that row.
        other: the same attack on the same samples of the run's other checkpoint, the last or the best; None where it
            was not measured, or is not asked for.
    """

    place: Place
    position: int
    measurement: Measurement
    unlike: str = ""
    other: Measurement | None = None

    @property
    def record(self) -> Record:
        return self.measurement.record

    @property
    def seed(self) -> int | None:
        """Of the training; None for a file from elsewhere."""
        return self.record.subject.seed

    def value(self, quantity: Quantity) -> float | None:
        """Accuracies in [0, 1], cost in hours; None where it is not known."""
        if quantity == "overfitting":
            ends = self._ends
            return None if ends is None else ends[1].result.accuracy - ends[0].result.accuracy
        return self.measurement.value(quantity)

    def interval(self, quantity: Quantity) -> tuple[float, float] | None:
        """Of a difference the score interval over samples, as `bench compare` has it."""
        if quantity == "overfitting":
            scores = [each.scores("robust") for each in self._ends or ()]
            return None if len(scores) < 2 else _score_interval(scores[1], scores[0])
        return self.measurement.interval(quantity)

    @property
    def _ends(self) -> tuple[Measurement, Measurement] | None:
        """Of the best and of the last checkpoint."""
        if self.other is None:
            return None
        last = self.record.subject.checkpoint_of == "last"
        return (self.other, self.measurement) if last else (self.measurement, self.other)


@dataclass(frozen=True, slots=True)
class Published:
    """The numbers of one row, dataset and attack as a paper prints them; accuracies in [0, 1].

    Attributes:
        about: where they are from, where a table has those of several papers.
    """

    place: Place
    position: int
    numbers: Mapping[Quantity, float]
    about: str = ""
    seed: ClassVar[None] = None

    def value(self, quantity: Quantity) -> float | None:
        return self.numbers.get(quantity)

    def interval(self, quantity: Quantity) -> tuple[float, float] | None:
        """Wilson's; none of W-R, which would need the outcomes of each sample."""
        n = self.place.group.n
        return None if quantity == "weighted" else wilson_interval(round(self.numbers[quantity] * n), n)


def _score_interval(first: np.ndarray | None, second: np.ndarray | None) -> tuple[float, float] | None:
    if first is None or second is None:
        return None
    difference, _ = compare([first], [second])
    return difference.low, difference.high


Line = Measured | Published
_Line = TypeVar("_Line", bound=Line)


_UNSAID = "earlier version"
"""How a network was trained whose record does not say it."""
_TEACHER = " teacher"
"""What a teacher's role is followed by among the differences of two trainings."""
_MOST_NAMED = 3
"""Differences between two trainings that a row's label names."""


class _Row(NamedTuple):
    """A record's row: its position and label; further rows of equal label are told apart by their owner and tag."""

    position: int
    label: str
    owner: str
    tag: str


def tidy(records: Iterable[Record], spec: TableSpec) -> list[Measured]:
    """The records that belong into a table, a line for each of the table's attacks they have.

    Evaluations of training samples and of other architectures are left out. Nothing is averaged here.
    """
    attacks = [attack.result for attack in spec.attacks]
    kept: dict[str, Record] = {}
    rows: dict[str, _Row] = {}
    for record in records:
        row = _row(record, spec) if any(attack in record.results for attack in attacks) else None
        if row is not None:
            kept[record.id], rows[record.id] = record, row
    labels, groups = _labels(kept, rows, spec), {name: _group(record, spec) for name, record in kept.items()}
    unlike = _unlike(kept, {name: (groups[name], labels[name]) for name in kept})
    labels |= {name: f"{labels[name]} [{how}]" for name, how in unlike.items()}
    return [
        Measured(Place(groups[name], each.attack, labels[name]), rows[name].position, each, unlike.get(name, ""))
        for each in measurements(kept.values(), attacks)
        for name in [each.record.id]
    ]


def newest(lines: Iterable[Measured]) -> list[Measured]:
    """Only the newest record where several measured the same row, group and seed."""
    ordered = sorted(lines, key=attrgetter("record.created", "record.id"))
    return list({(line.place, line.seed): line for line in ordered}.values())


def beside(lines: Sequence[Measured], others: Iterable[Measured]) -> list[Measured]:
    """Lines, each with the newest of the same run's other checkpoint: that attack, as it was, on those samples."""

    def what(line: Measured) -> tuple[object, ...]:
        each = line.measurement
        return line.record.subject.run, line.place.group, each.attack, each.parameters, each.result.surrogate

    ordered = sorted(others, key=attrgetter("record.created", "record.id"))
    known = {what(line): line.measurement for line in ordered if line.record.subject.run is not None}
    return [replace(line, other=known.get(what(line))) for line in lines]


def of_one_network(lines: Sequence[Measured]) -> list[Measured]:
    """Only the newest network's, where several are of one row, group and seed: else its cells would be of several."""
    last: dict[tuple[Group, str, int | None], tuple[tuple[str, str], tuple[str | None, str]]] = {}
    owners = []
    for line in lines:
        record, place = line.measurement.record, line.place
        subject = record.subject
        key, network = (place.group, place.row, subject.seed), (subject.run, subject.checkpoint)
        owners.append((key, network))
        last[key] = max(last.get(key, (("", ""), network)), ((record.created, record.id), network), key=itemgetter(0))
    return [line for line, (key, network) in zip(lines, owners, strict=True) if last[key][1] == network]


def attacks_of(lines: Iterable[Measured]) -> dict[tuple[Group, str], frozenset[str]]:
    """Of each group's results that are several attacks as one, by name: the attacks that any of its lines is over."""
    found: defaultdict[tuple[Group, str], frozenset[str]] = defaultdict(frozenset)
    for line in lines:
        if is_together(line.place.attack):
            found[line.place.group, line.place.attack] |= line.measurement.result.parameters["over"].keys() - {"clean"}
    return found


def whole_worst(lines: Sequence[Measured]) -> list[Measured]:
    """Without the worst of seeds that were under fewer attacks than others of their row, where one was under all."""
    attacks = attacks_of(lines)

    def whole(line: Measured) -> bool:
        return (
            line.measurement.result.parameters["over"].keys() - {"clean"}
            == attacks[line.place.group, line.place.attack]
        )

    known = {line.place for line in lines if is_together(line.place.attack) and whole(line)}
    return [line for line in lines if line.place not in known or whole(line)]


def places(lines: Iterable[_Line]) -> list[tuple[Place, list[_Line]]]:
    """The lines of each place by seed, one of unknown seed last; both in order, each seed of a place there once."""
    found: defaultdict[Place, list[_Line]] = defaultdict(list)
    for line in lines:
        found[line.place].append(line)
    return [(place, sorted(found[place], key=_by_seed)) for place in sorted(found)]


def _by_seed(line: Line) -> tuple[bool, int]:
    return line.seed is None, line.seed or 0


def by_group(lines: Iterable[_Line]) -> list[tuple[Group, list[_Line]]]:
    """The lines of each group, in order."""
    found: defaultdict[Group, list[_Line]] = defaultdict(list)
    for line in lines:
        found[line.place.group].append(line)
    return [(group, found[group]) for group in sorted(found)]


def groups_of(lines: Iterable[Line]) -> list[Group]:
    """The groups of lines: by student, by setting, then by protocol, the most samples first."""
    found = {line.place.group for line in lines}
    return sorted(
        found, key=lambda each: (each.model, each.setting, each.protocol, -each.n, each.threat, each.fingerprint)
    )


def _group(record: Record, spec: TableSpec) -> Group:
    data = record.data
    setting = record.subject.setting if spec.compared else ""
    model = record.subject.model if spec.subject == "student" else ""
    return Group(data.name, setting, record.conduct, data.n, data.total, data.eps, data.fingerprint, model, data.norm)


def _row(record: Record, spec: TableSpec) -> _Row | None:
    """A record's row; None where it has none in the table.

    Only what the harness trained can be a row of the spec: a file from elsewhere may have any name.
    """
    subject, data = record.subject, record.data
    if (subject.kind == "teacher") != (spec.subject == "teacher") or data.split != "test":
        return None
    if spec.model_for(data.name) not in (None, subject.model):
        return None
    tag = subject.checkpoint[:8] if subject.kind == "checkpoint" else subject.method
    for position, row in enumerate(spec.rows):
        if subject.kind == "teacher" and row.role == subject.role:
            return _Row(position, row.label, "", tag)
        if subject.kind == "student" and (row.method, row.overrides) == (subject.method, subject.overrides):
            return _Row(position, row.label, "", tag)
    known = {row.method for row in spec.rows} if subject.kind == "student" else set()
    if subject.kind == "teacher" or (spec.further_rows == "variants" and subject.method not in known):
        return None
    if subject.kind == "student" and subject.method in spec.left_methods:
        return None
    return _Row(len(spec.rows), defense_label(subject.label, subject.overrides), _owner(subject), tag)


def _owner(subject: Subject) -> str:
    """What must be the same for two records to be seeds of one row."""
    own = subject.checkpoint if subject.kind == "checkpoint" else subject.overrides
    return json.dumps([subject.kind, subject.role, subject.method, own], sort_keys=True, default=str)


def _labels(records: Mapping[str, Record], rows: Mapping[str, _Row], spec: TableSpec) -> dict[str, str]:
    """Each record's label: different rows have different ones, so that only seeds of the same are averaged."""
    if spec.subject == "teacher":
        return {name: f"{row.label} ({records[name].subject.model})" for name, row in rows.items()}
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows.values():
        if row.position == len(spec.rows):
            owners[row.label].add(row.owner)
    taken = {row.label for row in spec.rows} | {label for label, known in owners.items() if len(known) > 1}
    return {
        name: f"{row.label} [{row.tag}]" if row.position == len(spec.rows) and row.label in taken else row.label
        for name, row in rows.items()
    }


def _unlike(records: Mapping[str, Record], rows: Mapping[str, Hashable]) -> dict[str, str]:
    """Of records whose row has newer ones that were trained otherwise: how, in words. Seeds of a row are trained alike.

    So they have the same teachers, where these do not vary with the seed. What a record of an earlier version does not
    say is taken for otherwise, unless another record of its run says it.
    """
    newest_first = sorted(records, key=lambda name: (records[name].created, name), reverse=True)
    said: dict[str | None, dict[str, Any]] = {}
    newest: dict[Hashable, dict[str, Any]] = {}
    for name in newest_first:
        subject = records[name].subject
        if subject.procedure is not None:
            procedure = {**subject.procedure, "teacher_seeds": subject.teacher_seeds}
            if not subject.teacher_seeds:  # else each seed has teachers of its own
                procedure |= {f"{role}{_TEACHER}": digest[:12] for role, digest in subject.teachers.items()}
            said.setdefault(subject.run, procedure)
            newest.setdefault((rows[name], subject.setting), procedure)
    found: dict[str, str] = {}
    for name in newest_first:
        subject = records[name].subject
        reference, own = newest.get((rows[name], subject.setting)), said.get(subject.run)
        if reference is not None and own != reference:
            how = _UNSAID if own is None else _otherwise(own, reference)
            found |= {name: how} if how else {}
    return found


def _otherwise(own: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """In what a training differs from another: what only one of them says is a difference too, but for its teachers.

    Fields that came later are in no file while they have their default. The norm alone was once written with it.
    """
    usual = {"hyperparameters.norm": "linf"}
    mine, known = usual | dict(leaves(own)), usual | dict(leaves(reference))
    changed = {key: value for key, value in mine.items() if key not in known or value != known[key]}
    changed |= {key: "unset" for key in known.keys() - mine.keys() if not key.endswith(_TEACHER)}
    if len(changed) > _MOST_NAMED:
        content = json.dumps(changed, sort_keys=True)
        return f"other training {hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return settings_text({key.removeprefix("hyperparameters."): value for key, value in changed.items()})
