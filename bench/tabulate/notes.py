"""The notes under a table: everything a reader must know to trust a number, from the records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.tabulate.cells import grouped
from bench.tabulate.headers import dataset_label, eps_text
from bench.tabulate.spec import TableSpec
from bench.tabulate.table import FLAGGED, TEST_SELECTED, Cell, Group, Table

if TYPE_CHECKING:
    from pandas import DataFrame

_PROTOCOLS = {
    "official": "Official protocol: the attacks' parameters are those of the authors' released evaluation "
    "code (PGD-SAT with steps of 2/255, PGD-TRADES of 0.003, for eps = 8/255; steps scale with eps).",
    "paper": "Paper protocol: the attacks' parameters are those of the paper's text, by which PGD-SAT and "
    "PGD-TRADES are the same attack.",
}
_MOST_LISTED = 12
_ROUNDED_MEAN = 5.1e-5


def reading_notes(spec: TableSpec) -> Iterator[str]:
    """How to read any table of a spec."""
    if spec.compared:
        within = spec.sections.removesuffix("s")
        yield f"Bold: best of a column within one {within}; underlined: second best; equal numbers share it."
    if "weighted" in spec.columns:
        yield "W-R = (clean + robust) / 2, both from the same record."
    yield (
        f"{spec.access.capitalize()} attacks within eps in the L∞ norm by an attacker who knows the labels. "
        "Robust: accuracy on the attack's last iterate."
    )


def paper_notes(spec: TableSpec, published: DataFrame, datasets: Iterable[str]) -> Iterator[str]:
    """Where published numbers come from, and which of them contradict each other."""
    assert spec.paper is not None
    yield (
        f"The paper's numbers are those of {spec.paper.citation}, of {spec.paper.n:,} test images, "
        f"eps = {eps_text(spec.paper.eps)}; they were not measured here."
    )
    shown = published[published["dataset"].isin(list(datasets))]
    means = (shown["clean"] + shown["robust"]) / 2
    odd = [
        f"{_attack_label(attack, spec)} {row} on {dataset_label(dataset, spec)} "
        f"({Cell(value=100 * weighted).text}; the mean is {Cell(value=100 * mean).text})"
        for attack, row, dataset, weighted, mean in zip(
            *(shown[name] for name in ("attack", "row", "dataset", "weighted")), means, strict=True
        )
        if abs(weighted - mean) > _ROUNDED_MEAN
    ]
    if odd and "weighted" in spec.columns:
        yield f"W-R that is printed otherwise than the two numbers beside it give: {_listed(odd)}."


def measured_notes(table: Table, spec: TableSpec, frame: DataFrame) -> Iterator[str]:
    """Conditions, certainty, provenance and failed checks of what was measured.

    Args:
        table: the table, to say only what its cells need.
        spec: what it was built from.
        frame: the lines that count, of the datasets shown.
    """
    if frame.empty:
        yield "No evaluation record fits this table yet."
        return
    for group, _, lines in grouped(frame):
        yield from _conditions(group, spec, lines)
    yield from (_PROTOCOLS[protocol] for protocol in sorted(set(frame["protocol"])))
    yield from _certainty(table)
    yield from _seeds(table, frame)
    yield from _selection(table, frame)
    flags = {
        f"{row} on {dataset_label(dataset, spec)}: {flag}"
        for row, dataset, flags in zip(frame["row"], frame["dataset"], frame["flags"], strict=True)
        for flag in flags
    }
    if flags:
        yield f"{FLAGGED} Failed sanity checks of the evaluation: {_listed(flags)}."
    yield f"Measured with {_environment(frame['environment'])}."


def left_out_note(records: Iterable[str]) -> Iterator[str]:
    """Which records do not count because a newer one measured the same."""
    names = list(records)
    if names:
        yield f"Newer records of the same row and seed count in place of: {_listed(names)}."


def _conditions(group: Group, spec: TableSpec, lines: DataFrame) -> Iterator[str]:
    """What one group was measured on, and what should not differ between its rows and does."""
    name = ", ".join(part for part in (dataset_label(group.dataset, spec), group.setting) if part)
    surrogates = sorted({surrogate[:12] for surrogate in lines["surrogate"].dropna()})
    schedules = {f"{row}: {text}" for row, text in zip(lines["row"], lines["schedule"], strict=True)}
    yield (
        f"{name}: {spec.subject} {', '.join(sorted(set(lines['model'])))}; {group.protocol} protocol; "
        f"eps = {eps_text(group.eps)}; the first {group.n:,} of {group.total:,} test samples"
        + (f"; transferred images crafted on model {', '.join(surrogates)}" if surrogates else "")
        + ("." if group.setting else f"; settings: {_listed(schedules)}.")
    )
    if len(surrogates) > 1:
        yield f"{name}: the transferred images differ between rows, so those rows do not compare."
    yield from _teachers(name, lines)
    for attack in spec.attacks:
        parameters = set(lines.loc[lines["attack"] == attack.result, "parameters"])
        if len(parameters) > 1:
            yield f"{name}: {attack.label} had different parameters in different rows: {_listed(parameters)}."


def _teachers(name: str, lines: DataFrame) -> Iterator[str]:
    """Which rows learned from other teachers than the rest."""
    pupils: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row, teachers in zip(lines["row"], lines["teachers"], strict=True):
        for role, checkpoint in teachers.items():
            pupils[role][checkpoint[:12]].add(row)
    for role, rows in sorted(pupils.items()):
        if len(rows) > 1:
            each = {f"{checkpoint} taught {', '.join(sorted(taught))}" for checkpoint, taught in rows.items()}
            yield f"{name}: not all rows had the same {role} teacher: {_listed(each)}."


def _certainty(table: Table) -> Iterator[str]:
    widths = [
        (high - low) / 2
        for _, _, column, cell in table.cells()
        if column.source == "measured" and column.quantity != "weighted" and cell.interval
        for low, high in [cell.interval]
    ]
    if widths:
        yield (
            f"The widest Wilson 95 % interval of an accuracy here is ± {max(widths):.2f} points; each cell's "
            "own is in the CSV (W-R: paired bootstrap over samples). "
            "A difference inside its interval is not a win."
        )


def _seeds(table: Table, frame: DataFrame) -> Iterator[str]:
    known = sorted({int(seed) for seed in frame["seed"].dropna()})
    if known:
        yield f"Training seeds: {', '.join(map(str, known))}."
    if any(cell.std is not None for _, _, _, cell in table.cells()):
        yield "a ± b (k): mean and sample standard deviation over k seeds."


def _selection(table: Table, frame: DataFrame) -> Iterator[str]:
    yield f"Checkpoint selection: {', '.join(sorted(set(frame['selection'])))}."
    if any(TEST_SELECTED in cell.signs for _, _, _, cell in table.cells()):
        yield f"{TEST_SELECTED} The checkpoint was chosen on the test set, which flatters it."


def _environment(environments: Iterable[dict[str, Any]]) -> str:
    """All that the records say of their environment: `device: cpu; torch: 2.6.0, 2.7.0`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for environment in environments:
        for name, value in environment.items():
            for key, content in value.items() if isinstance(value, dict) else ((name, value),):
                if content is not None:
                    found[key].add(str(content))
    return "; ".join(f"{name}: {', '.join(sorted(found[name]))}" for name in sorted(found))


def _attack_label(result: str, spec: TableSpec) -> str:
    return next(attack.label for attack in spec.attacks if attack.result == result)


def _listed(items: Iterable[str]) -> str:
    """Items in order; of many only the first."""
    ordered = sorted(items)
    more = len(ordered) - _MOST_LISTED
    return "; ".join(ordered[:_MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")
