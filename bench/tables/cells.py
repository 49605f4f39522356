"""From records to cells: a tidy frame, a line for each record and attack; then a number for each cell."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from bench.records.record import AttackResult, Record, Subject, unpack
from bench.stats.tests import weighted_interval, worst_class_interval
from bench.system.text import defense_label
from bench.tables.spec import Quantity, TableSpec
from bench.tables.table import Cell, Evidence, Group

if TYPE_CHECKING:
    from pandas import DataFrame

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
GROUP = ["dataset", "setting", "protocol", "n", "total", "eps", "fingerprint"]
COLUMNS = [
    *("row", "position", "identity", "tag", "method", "label", "overrides", "model"),
    *(*GROUP, "schedule", "seed", "attack"),
    *(name for quantity in QUANTITIES for name in (quantity, f"{quantity}_low", f"{quantity}_high")),
    *("clean_right", "robust_right", "worst_class_right", "worst_class_n", "classes", "device"),
    *("surrogate", "teachers", "parameters", "selection", "flags", "environment", "created", "record"),
]
"""Columns of a tidy frame. Accuracies are in [0, 1], costs in hours; `row` is a row's label, `position` its place.
The intervals of W-R and of the worst class are left out: few cells show them, and they take their time.

`clean_right` and `robust_right` are packed outcomes; `worst_class_right` and `worst_class_n` the samples that are right
and all samples of the class with the lowest robust accuracy; `classes` the robust accuracies and the samples of all.
"""

Line = Mapping[Any, Any]
"""A line of a tidy frame, by column."""
_key = itemgetter(*GROUP, "attack", "row", "seed")
_EMPTY = dict.fromkeys(COLUMNS)
_to_json = json.JSONEncoder(sort_keys=True, default=str).encode
Place = tuple[Group, str, str]
"""Group, attack and row."""
Cells = dict[tuple[Group, str, str, Quantity], Cell]
"""Cells by group, attack, row and quantity; what is missing has no entry."""


def tidy(records: Iterable[Record], spec: TableSpec) -> DataFrame:
    """The lines of `tidy_lines` as a frame."""
    import pandas as pd

    return pd.DataFrame(tidy_lines(records, spec), columns=pd.Index(COLUMNS), dtype=object).astype({"seed": "Int64"})


def tidy_lines(records: Iterable[Record], spec: TableSpec) -> list[dict[str, Any]]:
    """The records that belong into a table, one line for each of the table's attacks they have.

    Evaluations of training samples and of other architectures are left out. Nothing is averaged here.
    """
    unique = {record.id: record for record in records}
    parameters: dict[int, str] = {}
    lines = [line for record in unique.values() for line in _lines(record, spec, parameters)]
    _name_rows(lines, spec)
    return lines


def newest(frame: DataFrame) -> DataFrame:
    """Only the newest record where several measured the same row, group and seed."""
    ordered = frame.sort_values(["created", "record"], kind="stable")
    return ordered.drop_duplicates([*GROUP, "attack", "row", "seed"], keep="last")


def newest_lines(lines: Iterable[Line]) -> Iterable[Line]:
    """As `newest`, of lines that are in no frame."""
    ordered = sorted(lines, key=itemgetter("created", "record"))
    return {_key(line): line for line in ordered}.values()


def measure(frame: DataFrame) -> Cells:
    """The cells of a frame without duplicates, seeds averaged."""
    names = frame.columns.tolist()
    # As `to_dict("records")` gives them, in a fraction of its time.
    lines = (
        dict(zip(names, line, strict=True)) for line in zip(*(frame[name].tolist() for name in names), strict=True)
    )
    return {
        (*place, quantity): cell
        for place, its_lines in places(lines)
        for quantity, cell in averaged(place[0], its_lines).items()
    }


def places(lines: Iterable[Line]) -> Iterator[tuple[Place, list[Line]]]:
    """The lines of each place, none of them twice: one for each seed, those of unknown seed last; both in order."""
    found: defaultdict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in lines:
        found[_key(line)[:-1]].append(line)
    for (*key, attack, row), its_lines in sorted(found.items()):
        its_lines.sort(key=_by_seed)
        yield (Group(*key), attack, row), its_lines


def averaged(group: Group, lines: Sequence[Line]) -> dict[Quantity, Cell]:
    """The numbers of some seeds of one place, averaged."""
    origin = _Origin.of(group.n, lines)
    cells: dict[Quantity, Cell] = {}
    for quantity in QUANTITIES:
        known = [line for line in lines if _is_known(line[quantity])]
        if known:
            its_own = origin if len(known) == len(lines) else _Origin.of(group.n, known)
            cells[quantity] = _cell(group, known, quantity, its_own)
    return cells


def grouped(frame: DataFrame, *further: str) -> Iterator[tuple[Group, tuple[Any, ...], DataFrame]]:
    """The lines of each group, or of each group and content of further columns, in order."""
    for key, part in frame.groupby([*GROUP, *further]):
        values: tuple[Any, ...] = key
        yield Group(*values[: len(GROUP)]), values[len(GROUP) :], part


def groups(frame: DataFrame) -> list[Group]:
    """The groups of a frame: by setting, then by protocol, the most samples first."""
    found = {Group(*key) for key in frame[GROUP].itertuples(index=False, name=None)}
    return sorted(found, key=lambda group: (group.setting, group.protocol, -group.n, group.eps, group.fingerprint))


def _lines(record: Record, spec: TableSpec, parameters: dict[int, str]) -> Iterator[dict[str, Any]]:
    """A record's lines; `parameters` keeps the text of those of attacks, by object: many records share them."""
    if not any(attack.result in record.results for attack in spec.attacks):
        return
    place = _place(record.subject, spec)
    if place is None or record.data.split != "test" or not _has_model(record, spec):
        return
    subject, data = record.subject, record.data
    shared = {
        **_EMPTY,
        "position": place[0],
        "row": place[1],
        "identity": _identity(subject),
        "tag": subject.checkpoint[:8] if subject.kind == "checkpoint" else subject.method,
        "overrides": _to_json(subject.overrides),
        "dataset": data.name,
        "setting": subject.setting if spec.compared else "",
        "schedule": subject.setting,
        "record": record.id,
        **{name: getattr(subject, name) for name in ("method", "label", "model", "seed", "teachers", "selection")},
        **_cost(subject),
        **{name: getattr(data, name) for name in ("n", "total", "eps", "fingerprint")},
        "protocol": record.conduct,
        **{name: getattr(record, name) for name in ("flags", "environment", "created")},
    }
    for attack in spec.attacks:
        if attack.result in record.results:
            result = record.results[attack.result]
            worst = _worst_class(result, data.class_counts) if "worst_class" in spec.columns else {}
            text = parameters.get(id(result.parameters)) or _to_json(result.parameters)
            parameters[id(result.parameters)] = text
            yield {**shared, "attack": attack.result, "parameters": text, **_numbers(record, result), **worst}


def _has_model(record: Record, spec: TableSpec) -> bool:
    return spec.subject == "teacher" or record.subject.model == spec.model_for(record.data.name)


def _place(subject: Subject, spec: TableSpec) -> tuple[int, str] | None:
    """A subject's place among the rows and the row's label; None where it has no row in the table.

    Only what the harness trained can be a row of the spec: a file from elsewhere may have any name.
    """
    if (subject.kind == "teacher") != (spec.subject == "teacher"):
        return None
    for position, row in enumerate(spec.rows):
        if subject.kind == "teacher" and row.role == subject.role:
            return position, row.label
        if subject.kind == "student" and (row.method, row.overrides) == (subject.method, subject.overrides):
            return position, row.label
    known = {row.method for row in spec.rows} if subject.kind == "student" else set()
    if subject.kind == "teacher" or (spec.further_rows == "variants" and subject.method not in known):
        return None
    return len(spec.rows), defense_label(subject.label, subject.overrides)


def _identity(subject: Subject) -> str:
    """What must be the same for two records to be seeds of one row."""
    own = subject.checkpoint if subject.kind == "checkpoint" else subject.overrides
    return _to_json([subject.kind, subject.role, subject.method, own])


def _cost(subject: Subject) -> dict[str, Any]:
    if subject.training is None:
        return {}
    return {"cost": subject.training.seconds / 3600, "device": subject.training.device}


def _numbers(record: Record, result: AttackResult) -> dict[str, Any]:
    clean = record.results.get("clean")
    numbers: dict[str, Any] = {
        "robust": result.accuracy,
        "robust_low": result.interval[0],
        "robust_high": result.interval[1],
        "robust_right": result.final,
        "surrogate": result.surrogate,
    }
    if clean is None:
        return numbers
    return numbers | {
        "clean": clean.accuracy,
        "clean_low": clean.interval[0],
        "clean_high": clean.interval[1],
        "clean_right": clean.final,
        "weighted": (clean.accuracy + result.accuracy) / 2,
    }


def _worst_class(result: AttackResult, counts: list[int] | None) -> dict[str, Any]:
    """The lowest accuracy of a class; with its samples, and all classes, where their numbers of samples are known."""
    known = [accuracy for accuracy in result.class_accuracy if accuracy is not None]
    if not known:
        return {}
    lowest = min(known)
    if counts is None:
        return {"worst_class": lowest}
    n = counts[result.class_accuracy.index(lowest)]
    classes = (result.class_accuracy, counts)
    return {"worst_class": lowest, "worst_class_right": round(lowest * n), "worst_class_n": n, "classes": classes}


def _name_rows(lines: list[dict[str, Any]], spec: TableSpec) -> None:
    """Give different rows different labels, so that only seeds of the same are averaged."""
    if spec.subject == "teacher":
        for line in lines:
            line["row"] += f" ({line['model']})"
        return
    further = [line for line in lines if line["position"] == len(spec.rows)]
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for line in further:
        owners[line["row"]].add(line["identity"])
    taken = {row.label for row in spec.rows} | {row for row, known in owners.items() if len(known) > 1}
    for line in further:
        if line["row"] in taken:
            line["row"] += f" [{line['tag']}]"


def _by_seed(line: Line) -> tuple[bool, int, str]:
    seed = line["seed"] if str(line["seed"]).isdigit() else None  # pandas has a sign of its own for what is missing
    return seed is None, seed or 0, line["record"]


class _Origin(NamedTuple):
    """Where numbers come from; all of a place share it, mostly."""

    selection: tuple[str, ...]
    flags: tuple[str, ...]
    records: tuple[str, ...]
    evidence: Evidence

    @classmethod
    def of(cls, n: int, lines: Sequence[Line]) -> _Origin:
        return cls(
            selection=tuple(sorted({line["selection"] for line in lines})),
            flags=tuple(sorted({flag for line in lines for flag in line["flags"]})),
            records=tuple(sorted(line["record"] for line in lines)),
            evidence=_evidence(n, lines),
        )


def _cell(group: Group, lines: Sequence[Line], quantity: Quantity, origin: _Origin) -> Cell:
    """One number from one line for each seed."""
    single, scale = len(lines) == 1, 1 if quantity == "cost" else 100
    values = [float(line[quantity]) for line in lines]
    interval = _interval(lines[0], group.n, quantity) if single else None
    cost = quantity == "cost"  # what it takes does not depend on what was selected, or how it was attacked
    return Cell(
        value=scale * (values[0] if single else float(np.mean(values))),
        group=group,
        std=None if single else scale * float(np.std(values, ddof=1)),
        interval=None if interval is None else (scale * interval[0], scale * interval[1]),
        seeds=len(lines),
        selection=() if cost else origin.selection,
        flags=() if cost else origin.flags,
        records=origin.records,
        unit="h" if cost else "%",
        evidence=origin.evidence,
    )


def _interval(line: Line, n: int, quantity: Quantity) -> tuple[float, float] | None:
    """A number's interval; those that are worked out here are of few cells."""
    if quantity == "weighted" and _is_known(line["clean_right"]):
        return weighted_interval(unpack(line["clean_right"], n), unpack(line["robust_right"], n))
    if quantity == "worst_class" and _is_known(line["classes"]):
        known = [(share, count) for share, count in zip(*line["classes"], strict=True) if share is not None]
        return worst_class_interval([round(share * count) for share, count in known], [count for _, count in known])
    low, high = line[f"{quantity}_low"], line[f"{quantity}_high"]
    # The paper gives no outcomes to work W-R's interval out from.
    return (float(low), float(high)) if _is_known(low) else None


def _evidence(n: int, lines: Sequence[Line]) -> Evidence:
    """What the tests of a number need, from lines in the order of seeds."""
    first = lines[0]
    if not first["record"]:  # published
        clean, robust = (float(first[name]) if _is_known(first[name]) else None for name in ("clean", "robust"))
        return Evidence(n, published=(clean, robust))
    worst = [line for line in lines if _is_known(line["worst_class_n"])]
    return Evidence(
        n,
        clean=tuple(line["clean_right"] for line in lines if _is_known(line["clean_right"])),
        robust=tuple(line["robust_right"] for line in lines if _is_known(line["robust_right"])),
        attacks=frozenset(f"{line['parameters']} {line['surrogate']}" for line in lines),
        worst=tuple((int(line["worst_class_right"]), int(line["worst_class_n"])) for line in worst),
        devices=frozenset(line["device"] for line in lines if _is_known(line["device"])),
    )


def _is_known(value: Any) -> bool:
    """Whether a frame has something there: neither None nor NaN."""
    return value is not None and value == value
