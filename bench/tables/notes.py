"""The notes under a table: everything a reader must know to trust a number, from the records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from bench.records.wording import eps_text, protocol_text
from bench.stats import LEAST_SEEDS, LEVEL, TEST_NAMES
from bench.system.text import one_line
from bench.tables.headers import dataset_label
from bench.tables.lines import Measured, Published, by_group
from bench.tables.mismatches import contradictions, listed, mismatches, surrogates
from bench.tables.rivals import devices
from bench.tables.spec import TableSpec
from bench.tables.table import FLAGGED, TEST_SELECTED, UNPROVEN, Group, Table

_PROTOCOLS = {
    "official": "Official protocol: the attacks' parameters are those of the authors' released evaluation "
    "code (PGD-SAT with steps of 2/255, PGD-TRADES of 0.003, for eps = 8/255; steps scale with eps).",
    "paper": "Paper protocol: the attacks' parameters are those of the paper's text, by which PGD-SAT and "
    "PGD-TRADES are the same attack.",
    "worst case": "Worst case: robust means right on every iterate of a gradient attack, its start included; a sample "
    "was left alone once an iterate fooled the model.",
    "tf32": "tf32: a GPU rounded the factors of float32 products to 10 bits of mantissa.",
}


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


def paper_notes(spec: TableSpec, published: Iterable[Published]) -> Iterator[str]:
    """Where published numbers come from, and which of them contradict each other."""
    assert spec.paper is not None
    yield (
        f"The paper's numbers are those of {spec.paper.citation}, of {spec.paper.n:,} test images, "
        f"eps = {eps_text(spec.paper.eps)}; they were not measured here."
    )
    odd = list(contradictions(published, spec))
    if odd:
        yield f"W-R that is printed otherwise than the two numbers beside it give: {listed(odd)}."


def lead_notes(table: Table) -> Iterator[str]:
    """What the sign of an unproven lead means here, and by which tests."""
    leads = [(column, cell) for _, _, column, cell in table.cells() if cell.lead]
    if not leads:
        return
    yield (
        f"{UNPROVEN} Best, but not significantly better than the second best (at {LEVEL:.0%}, with Holm's correction "
        "over the best number's rivals in its column and section). Two that share the best place have no second."
    )
    if any(column.source == "measured" for column, _ in leads):
        yield (
            "bench compare tests two rows (with all their seeds) in the same way, but corrects over the comparisons of "
            "its command instead of these rivals: its verdict can differ from the sign here, the uncorrected p cannot."
        )
    measured = [cell for column, cell in leads if column.source == "measured"]
    tests = {cell.lead.test for cell in measured if cell.lead and cell.lead.test}
    if tests:
        yield f"Measured leads: {'; '.join(sorted(TEST_NAMES[test] for test in tests))}."
    if any(cell.seeds > 1 for cell in measured) and tests - {"welch"}:
        yield (
            f"Where a side has fewer than {LEAST_SEEDS} seeds the test is over samples, of each sample's mean over "
            "the seeds: such a lead is one of these networks, not of the defense."
        )
    if any(cell.lead and cell.lead.test is None for cell in measured):
        yield "A lead is not tested where attacks or surrogates differ between the two, or samples are not known."
    sizes = sorted({cell.evidence.n for column, cell in leads if column.source == "paper" and cell.evidence})
    if sizes:
        yield (
            f"Published leads: {TEST_NAMES['proportions']} of n = {', '.join(f'{n:,}' for n in sizes)}, as the paper "
            "gives no outcomes of single images; with the same images for all, the true p-values can be smaller."
        )


def quantity_notes(table: Table) -> Iterator[str]:
    """How to read worst class and cost, where they are shown."""
    cells = [(column, cell) for _, _, column, cell in table.cells() if cell.value is not None]
    if any(column.quantity == "worst_class" for column, _ in cells):
        yield (
            "Worst class: the lowest robust accuracy of a class. As a minimum over classes it is biased downward, the "
            "more the fewer samples a class has; its interval allows for that (exact bounds of the lowest true "
            "accuracy, from all classes; none in records that do not hold their numbers of samples)."
        )
    costs = [cell for column, cell in cells if column.quantity == "cost"]
    if costs:
        names = sorted(devices(costs))
        yield f"Cost: hours of training, without the teachers', on {'; '.join(names)}; the lowest is best."
        if len(names) > 1:
            yield "Costs on different devices do not compare: they are ranked only in columns with one device."


def measured_notes(table: Table, spec: TableSpec, lines: Sequence[Measured]) -> Iterator[str]:
    """Conditions, certainty, provenance and failed checks of what was measured.

    Args:
        table: the table, to say only what its cells need.
        spec: what it was built from.
        lines: those that count, of the datasets shown.
    """
    if not lines:
        yield "No evaluation record fits this table yet."
        return
    of_groups = by_group(lines)
    for group, own in of_groups:
        yield from _conditions(group, spec, own)
    words = {word for group, _ in of_groups for word in group.protocol.split(", ")}
    yield from (text for word, text in _PROTOCOLS.items() if word in words)
    yield from _certainty(table)
    yield from _seeds(table, lines)
    yield from _selection(table, lines)
    flags = {
        f"{line.place.row} on {dataset_label(line.place.group.dataset, spec)}: {flag}"
        for line in lines
        for flag in line.record.flags
    }
    if flags:
        yield f"{FLAGGED} Failed sanity checks of the evaluation: {listed(flags)}."
    yield f"Measured with {_environment(lines)}."


def left_out_note(records: Collection[str]) -> Iterator[str]:
    """Which records do not count because a newer one measured the same."""
    if records:
        yield f"Newer records of the same row and seed count in place of: {listed(records)}."


def _conditions(group: Group, spec: TableSpec, lines: Sequence[Measured]) -> Iterator[str]:
    """What one group was measured on, and what should not differ between its rows and does."""
    name = ", ".join(part for part in (dataset_label(group.dataset, spec), group.setting) if part)
    models = ", ".join(sorted({line.record.subject.model for line in lines}))
    crafted_on = surrogates(lines)
    schedules = {f"{line.place.row}: {line.record.subject.setting}" for line in lines}
    yield (
        f"{name}: {spec.subject} {models}; {protocol_text(group.protocol)}; "
        f"eps = {eps_text(group.eps)}; the first {group.n:,} of {group.total:,} test samples"
        + (f"; transferred images crafted on model {crafted_on}" if crafted_on else "")
        + ("." if group.setting else f"; settings: {listed(schedules)}.")
    )
    taught_by = _teachers(lines)
    if taught_by:
        yield f"{name}: teachers {listed(taught_by)}."
    for mismatch in mismatches(lines, spec):
        yield f"{name}: {mismatch.text}."


def _teachers(lines: Iterable[Measured]) -> set[str]:
    """The names of the teachers, with their role and the beginning of their hash; none of earlier versions' records."""
    subjects = {id(line.record): line.record.subject for line in lines}.values()
    return {
        f"{one_line(name)} ({role}, {one_line(subject.teachers[role][:12])})"
        for subject in subjects
        for role, name in subject.teacher_names.items()
        if role in subject.teachers
    }


def _certainty(table: Table) -> Iterator[str]:
    widths = [
        (high - low) / 2
        for _, _, column, cell in table.cells()
        if column.source == "measured" and column.quantity in ("clean", "robust") and cell.interval
        for low, high in [cell.interval]
    ]
    if widths:
        yield (
            f"The widest Wilson 95 % interval of an accuracy here is ± {max(widths):.2f} points; each cell's "
            "own is in the CSV (W-R: score interval)."
        )


def _seeds(table: Table, lines: Iterable[Measured]) -> Iterator[str]:
    known = sorted({line.seed for line in lines if line.seed is not None})
    if known:
        yield f"Training seeds: {', '.join(map(str, known))}."
    if any(cell.std is not None for _, _, _, cell in table.cells()):
        yield "a ± b (k): mean and sample standard deviation over k seeds."


def _selection(table: Table, lines: Iterable[Measured]) -> Iterator[str]:
    yield f"Checkpoint selection: {', '.join(sorted({line.record.subject.selection for line in lines}))}."
    if any(TEST_SELECTED in cell.signs for _, _, _, cell in table.cells()):
        yield f"{TEST_SELECTED} The checkpoint was chosen on the test set, which flatters it."


def _environment(lines: Iterable[Measured]) -> str:
    """All that the records say of their environment: `device: cpu; torch: 2.6.0, 2.7.0`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    each: dict[int, dict[str, Any]] = {id(line.record.environment): line.record.environment for line in lines}
    for environment in each.values():
        for name, value in environment.items():
            for key, content in value.items() if isinstance(value, dict) else ((name, value),):
                if content is not None:
                    found[key].add(str(content))
    return "; ".join(f"{name}: {', '.join(sorted(found[name]))}" for name in sorted(found))
