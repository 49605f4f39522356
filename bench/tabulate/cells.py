"""From records to cells: a tidy frame, a line for each record and attack; then a number for each cell."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from bench.records import AttackResult, Record, Subject, unpack
from bench.statistics import weighted_interval, worst_class_interval
from bench.tabulate.spec import Quantity, TableSpec
from bench.tabulate.table import Cell, Evidence, Group
from bench.texts import defense_label

if TYPE_CHECKING:
    from pandas import DataFrame

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
GROUP = ["dataset", "setting", "protocol", "n", "total", "eps", "fingerprint"]
COLUMNS = [
    *("row", "position", "identity", "tag", "method", "label", "overrides", "model"),
    *(*GROUP, "schedule", "seed", "attack"),
    *(name for quantity in QUANTITIES for name in (quantity, f"{quantity}_low", f"{quantity}_high")),
    *("clean_right", "robust_right", "worst_class_right", "worst_class_n", "device"),
    *("surrogate", "teachers", "parameters", "selection", "flags", "environment", "created", "record"),
]
"""Columns of a tidy frame. Accuracies are in [0, 1], costs in hours; `row` is a row's label, `position` its place.
W-R's interval is left out: few cells show it, and it takes its time.

`clean_right` and `robust_right` are packed outcomes; `worst_class_right` and `worst_class_n` the samples that are right
and all samples of the class with the lowest robust accuracy.
"""

Line = Mapping[Any, Any]
"""A line of a tidy frame, by column."""
_to_json = json.JSONEncoder(sort_keys=True, default=str).encode
Cells = dict[tuple[Group, str, str, Quantity], Cell]
"""Cells by group, attack, row and quantity; what is missing has no entry."""


def tidy(records: Iterable[Record], spec: TableSpec) -> DataFrame:
    """The records that belong into a table, one line for each of the table's attacks they have.

    Evaluations of training samples and of other architectures are left out. Nothing is averaged here.
    """
    import pandas as pd

    unique = {record.id: record for record in records}
    lines = [line for record in unique.values() for line in _lines(record, spec)]
    frame = pd.DataFrame(lines, columns=pd.Index(COLUMNS), dtype=object).astype({"seed": "Int64"})
    return _name_rows(frame, spec)


def newest(frame: DataFrame) -> DataFrame:
    """Only the newest record where several measured the same row, group and seed."""
    ordered = frame.sort_values(["created", "record"], kind="stable")
    return ordered.drop_duplicates([*GROUP, "attack", "row", "seed"], keep="last")


def measure(frame: DataFrame) -> Cells:
    """The cells of a frame without duplicates, seeds averaged."""
    places: defaultdict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in _as_lines(frame.sort_values(["seed", "record"])):
        places[tuple(line[name] for name in (*GROUP, "attack", "row"))].append(line)
    cells: Cells = {}
    for (*key, attack, row), lines in sorted(places.items()):
        group = Group(*key)
        origin = _Origin.of(group.n, lines)
        for quantity in QUANTITIES:
            known = [line for line in lines if _is_known(line[quantity])]
            if known:
                its_own = origin if len(known) == len(lines) else _Origin.of(group.n, known)
                cells[group, attack, row, quantity] = _cell(group, known, quantity, its_own)
    return cells


def _as_lines(frame: DataFrame) -> Iterator[Line]:
    """The lines of a frame; as `to_dict("records")` gives them, in a fraction of its time."""
    names = frame.columns.tolist()
    for content in zip(*(frame[name].tolist() for name in names), strict=True):
        yield dict(zip(names, content, strict=True))


def grouped(frame: DataFrame, *further: str) -> Iterator[tuple[Group, tuple[Any, ...], DataFrame]]:
    """The lines of each group, or of each group and content of further columns, in order."""
    for key, part in frame.groupby([*GROUP, *further]):
        values: tuple[Any, ...] = key
        yield Group(*values[: len(GROUP)]), values[len(GROUP) :], part


def groups(frame: DataFrame) -> list[Group]:
    """The groups of a frame: by setting, then by protocol, the most samples first."""
    found = {Group(*key) for key in frame[GROUP].itertuples(index=False, name=None)}
    return sorted(found, key=lambda group: (group.setting, group.protocol, -group.n, group.eps, group.fingerprint))


def _lines(record: Record, spec: TableSpec) -> Iterator[dict[str, Any]]:
    if not any(attack.result in record.results for attack in spec.attacks):
        return
    place = _place(record.subject, spec)
    if place is None or record.data.split != "test" or not _has_model(record, spec):
        return
    subject, data = record.subject, record.data
    shared = {
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
            yield {**shared, "attack": attack.result, **_numbers(record, result), **worst}


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
        "parameters": _to_json(result.parameters),
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
    """The lowest accuracy of a class, with its interval where the classes' numbers of samples are known."""
    known = [(accuracy, i) for i, accuracy in enumerate(result.class_accuracy) if accuracy is not None]
    if not known:
        return {}
    lowest, i = min(known)
    if counts is None:
        return {"worst_class": lowest}
    right = round(lowest * counts[i])
    low, high = worst_class_interval([round(share * counts[k]) for share, k in known], [counts[k] for _, k in known])
    return {
        "worst_class": lowest,
        "worst_class_low": low,
        "worst_class_high": high,
        "worst_class_right": right,
        "worst_class_n": counts[i],
    }


def _name_rows(frame: DataFrame, spec: TableSpec) -> DataFrame:
    """Give different rows different labels, so that only seeds of the same are averaged."""
    if spec.subject == "teacher":
        return frame.assign(row=frame["row"] + " (" + frame["model"] + ")")
    further = frame["position"] == len(spec.rows)
    owners = frame[further].groupby("row")["identity"].nunique()
    taken = {row.label for row in spec.rows} | set(owners[owners > 1].index)
    clashing = further & frame["row"].isin(taken)
    frame.loc[clashing, "row"] += " [" + frame.loc[clashing, "tag"] + "]"
    return frame


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
    """A number's interval; W-R's is worked out here, for the few cells that show it."""
    if quantity == "weighted" and _is_known(line["clean_right"]):
        return weighted_interval(unpack(line["clean_right"], n), unpack(line["robust_right"], n))
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
