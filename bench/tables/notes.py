"""What stands under a table, and what is known of it besides: everything a reader must know to trust a number.

Few notes, of what occurs in the table; the rest is its provenance. All of it comes from the records alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.records.networks import WORST
from bench.records.wording import is_own_parameter, protocol_text
from bench.stats import LEAST_SEEDS, LEVEL, TEST_NAMES
from bench.system.text import one_line
from bench.tables.cell import FLAGGED, PARTIAL, TEST_SELECTED, UNPROVEN, Cell, Group
from bench.tables.headers import dataset_label
from bench.tables.lines import Measured, Published, by_group
from bench.tables.mismatches import Mismatch, contradictions, listed, mismatches, surrogates
from bench.tables.rivals import devices
from bench.tables.spec import TableSpec
from bench.tables.table import Column, Table
from bench.threat import NORM_TEXT, eps_text

Amiss = Mapping[Group, Sequence[Mismatch]]
"""What keeps rows of each group from being compared."""
NOTHING = "No evaluation record fits this table yet."
_ACCESS = {"white-box": "White-box attacks", "black-box": "Black-box attacks", "any": "Attacks"}
_PROTOCOLS = {
    "official": "Official protocol: the attacks' parameters are those of the authors' released evaluation "
    "code (PGD-SAT with steps of 2/255, PGD-TRADES of 0.003, for eps = 8/255; steps scale with eps).",
    "paper": "Paper protocol: the attacks' parameters are those of the paper's text, by which PGD-SAT and "
    "PGD-TRADES are the same attack.",
    "worst case": "Worst case: robust means right on every iterate of a gradient attack, its start included; a sample "
    "was left alone once an iterate fooled the model.",
    "tf32": "tf32: a GPU rounded the factors of float32 products to 10 bits of mantissa.",
}


def find_amiss(spec: TableSpec, lines: Sequence[Measured]) -> Amiss:
    """What notes and provenance both are told."""
    return {group: list(mismatches(own, spec)) for group, own in by_group(lines)}


def notes(
    table: Table, spec: TableSpec, lines: Sequence[Measured], published: Sequence[Published], amiss: Amiss
) -> Iterator[str]:
    """The notes under a table, four at most: its quantities, its attacks, its signs, its seeds and what is amiss.

    Args:
        table: as it is shown.
        spec: what it was built from.
        lines: the measured ones that count, of the datasets shown.
        published: those of its paper that are shown.
        amiss: of these lines, by `find_amiss`.
    """
    cells = [(column, cell) for _, _, column, cell in table.cells() if cell.value is not None]
    if not cells:
        yield NOTHING
        return
    groups = (_quantities(table, spec, cells), _attacks(spec, lines, published), _signs(cells))
    for sentences in (*groups, (*_seeds(lines, cells), *_amiss(spec, amiss, published))):
        text = " ".join(sentences)
        if text:
            yield text


def _quantities(table: Table, spec: TableSpec, cells: Sequence[tuple[Column, Cell]]) -> Iterator[str]:
    if any(cell.mark for _, cell in cells):
        within = " within one attack" if spec.sections == "attacks" and len(table.sections) > 1 else ""
        yield f"Bold: best of a column{within}; underlined: second best."
    shown = {column.quantity for column, _ in cells}
    if "weighted" in shown:
        yield "W-R = (clean + robust) / 2."
    if any(column.attack == WORST for column, _ in cells):
        yield "Worst: right without attack and under every attack of the row."
    if "worst_class" in shown:
        yield "Worst class: the lowest robust accuracy of a class, biased downward."
    if "overfitting" in shown:
        yield "Robust overfitting: robust accuracy of the last checkpoint minus that of the best, in percentage points."
    costs = [cell for column, cell in cells if column.quantity == "cost"]
    if costs:
        names = sorted(devices(costs))
        ranked = "the lowest is best" if len(names) == 1 else "ranked only in columns with one device"
        yield f"Cost: training, without the teachers', on {'; '.join(names)}; {ranked}."


def _attacks(spec: TableSpec, lines: Sequence[Measured], published: Sequence[Published]) -> Iterator[str]:
    if lines:
        threats = sorted({line.place.group.threat for line in lines})
        bound = f"eps = {eps_text(threats[0].eps)}" if len(threats) == 1 else "eps"
        norms = " or ".join(text for norm, text in NORM_TEXT.items() if norm in {threat.norm for threat in threats})
        words = {word for line in lines for word in line.place.group.protocol.split(", ")}
        right = "on every iterate" if "worst case" in words else "on the attack's last iterate"
        yield f"{_ACCESS[spec.access]} within {bound} ({norms}) by one who knows the labels; robust: right {right}."
    if published and spec.paper:
        known = f"n = {spec.paper.n:,}, eps = {eps_text(spec.paper.eps)}"
        sources = dict.fromkeys(f"{line.place.row}: {line.about}" for line in published if line.about)
        if sources:
            yield f"Published numbers ({known}) are of several papers, not measured here. {'; '.join(sources)}."
        else:
            yield f"The paper's numbers are those of {spec.paper.citation} ({known}); they were not measured here."


def _signs(cells: Sequence[tuple[Column, Cell]]) -> Iterator[str]:
    signs = {sign for _, cell in cells for sign in cell.signs}
    if UNPROVEN in signs:
        yield (
            f"{UNPROVEN} Best, but not significantly better than the second best "
            f"({LEVEL:.0%}, Holm over its rivals in the column)."
        )
    if PARTIAL in signs:
        yield f"{PARTIAL} Over fewer attacks than others: too high beside them, and not ranked."
    if TEST_SELECTED in signs:
        yield f"{TEST_SELECTED} The checkpoint was chosen on the test set, which flatters it."
    if FLAGGED in signs:
        yield f"{FLAGGED} Sanity checks of the evaluation failed or were left out."


def _seeds(lines: Sequence[Measured], cells: Sequence[tuple[Column, Cell]]) -> Iterator[str]:
    known = sorted({line.seed for line in lines if line.seed is not None})
    if any(cell.std is not None for _, cell in cells):
        yield f"a ± b (k): mean and standard deviation over k of the training seeds {_range(known)}."
    elif known:
        yield f"Training seed{'s' * (len(known) > 1)} {_range(known)}."
    tests = {cell.lead.test for column, cell in cells if cell.lead and column.source == "measured"} - {None}
    if tests - {"welch"}:
        yield f"With fewer than {LEAST_SEEDS} seeds a lead is one of these networks, not of the defenses."


def _range(numbers: Sequence[int]) -> str:
    """`0, 2`, or `0–12` for all from the first to the last."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _amiss(spec: TableSpec, amiss: Amiss, published: Sequence[Published]) -> Iterator[str]:
    """In short what keeps rows from being compared; the provenance has it in full."""
    kinds = dict.fromkeys(each.kind for found in amiss.values() for each in found)
    if kinds:
        yield f"Not all rows of a column compare: their {', '.join(kinds)} differ."
    odd = len(list(contradictions(published, spec)))
    if odd:
        yield f"{odd} of the paper's W-R are not the mean of the two numbers beside them."


def provenance(
    table: Table,
    spec: TableSpec,
    lines: Sequence[Measured],
    published: Sequence[Published],
    amiss: Amiss,
    left_out: Collection[str],
) -> Iterator[str]:
    """All else that is known of a table: conditions, tests, certainty, checks and versions; arguments as of `notes`.

    Args:
        left_out: records that do not count because a newer one measured the same.
    """
    for group, own in by_group(lines):
        yield from _conditions(group, spec, own, amiss[group])
    words = {word for line in lines for word in line.place.group.protocol.split(", ")}
    yield from (text for word, text in _PROTOCOLS.items() if word in words)
    changed = sorted(filter(is_own_parameter, words))
    if changed:
        yield f"Set in place of the protocol's, where a header names it: {', '.join(changed)}."
    yield from _leads(table)
    yield from _certainty(table)
    odd = list(contradictions(published, spec))
    if odd:
        yield f"W-R that is printed otherwise than the two numbers beside it give: {listed(odd)}."
    if lines:
        yield _selection(lines)
    flags = {
        f"{line.place.row} on {dataset_label(line.place.group.dataset, spec)}: {flag}"
        for line in lines
        for flag in line.record.flags
    }
    if flags:
        yield f"Sanity checks of the evaluation: {listed(flags)}."
    if left_out:
        yield f"Newer records of the same row and seed count in place of: {listed(left_out)}."
    if lines:
        yield f"Measured with {_environment(lines)}."


def _selection(lines: Iterable[Measured]) -> str:
    """What chose the checkpoints, and how many looks they are the best of; records of earlier versions do not say."""
    subjects = [(line.place.row, line.record.subject) for line in lines]
    chosen_by = ", ".join(sorted({subject.selection for _, subject in subjects}))
    rows: defaultdict[int, set[str]] = defaultdict(set)
    for row, subject in subjects:
        if subject.looks:
            rows[subject.looks].add(row)
    best_of = [f"{looks} looks ({', '.join(sorted(rows[looks]))})" for looks in sorted(rows)]
    return f"Checkpoint selection: {chosen_by}{'; the best of ' if best_of else ''}{', of '.join(best_of)}."


def _leads(table: Table) -> Iterator[str]:
    """By which tests it was decided whether a lead is proven."""
    leads = [(column, cell) for _, _, column, cell in table.cells() if cell.lead]
    measured = [cell for column, cell in leads if column.source == "measured"]
    tests = {cell.lead.test for cell in measured if cell.lead and cell.lead.test}
    if tests:
        yield (
            f"Measured leads: {'; '.join(sorted(TEST_NAMES[test] for test in tests))}; at {LEVEL:.0%} after Holm's "
            "correction over the best number's rivals in its column and section. Two that share the best place have "
            "no second."
        )
    if any(cell.seeds > 1 for cell in measured) and tests - {"welch"}:
        yield (
            f"Where a side has fewer than {LEAST_SEEDS} seeds the test is over samples, of each sample's mean over "
            "the seeds."
        )
    if any(cell.lead and cell.lead.test is None for cell in measured):
        yield "A lead is not tested where attacks or surrogates differ between the two, or samples are not known."
    sizes = sorted({cell.evidence.n for column, cell in leads if column.source == "paper" and cell.evidence})
    if sizes:
        yield (
            f"Published leads: {TEST_NAMES['proportions']} of n = {', '.join(f'{n:,}' for n in sizes)}, as the paper "
            "gives no outcomes of single images; with the same images for all, the true p-values can be smaller."
        )


def _conditions(group: Group, spec: TableSpec, lines: Sequence[Measured], amiss: Sequence[Mismatch]) -> Iterator[str]:
    """What one group was measured on, and what should not differ between its rows and does."""
    name = ", ".join(part for part in (dataset_label(group.dataset, spec), group.setting) if part)
    models = ", ".join(sorted({line.record.subject.model for line in lines}))
    crafted_on = surrogates(lines)
    schedules = {f"{line.place.row}: {line.record.subject.setting}" for line in lines}
    yield (
        f"{name}: {'student' if group.model else 'teacher'} {models}; {protocol_text(group.protocol)}; "
        f"{group.threat.text}; the first {group.n:,} of {group.total:,} test samples"
        + (f"; transferred images crafted on model {crafted_on}" if crafted_on else "")
        + ("." if group.setting else f"; settings: {listed(schedules)}.")
    )
    taught_by = _teachers(lines)
    if taught_by:
        yield f"{name}: teachers {listed(taught_by)}."
    for mismatch in amiss:
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
    """How sure the numbers are, and what the worst class's is worth."""
    measured = [
        (column, cell) for _, _, column, cell in table.cells() if column.source == "measured" and cell.value is not None
    ]
    widths = [
        (high - low) / 2
        for column, cell in measured
        if column.quantity in ("clean", "robust") and cell.interval
        for low, high in [cell.interval]
    ]
    if widths:
        yield (
            f"The widest Wilson 95 % interval of an accuracy here is ± {max(widths):.2f} points; each cell's "
            "own is in the CSV (W-R: score interval)."
        )
    if any(column.quantity == "overfitting" for column, _ in measured):
        yield (
            "Robust overfitting: of one run's two checkpoints under the same attack on the same samples. Its interval "
            "in the CSV is the score interval over samples; over several seeds it is the mean of each one's."
        )
    if any(column.quantity == "worst_class" for column, _ in measured):
        yield (
            "Worst class: as a minimum over classes it is biased downward, the more the fewer samples a class has; its "
            "interval allows for that (exact bounds of the lowest true accuracy, from all classes; none in records "
            "that do not hold their numbers of samples)."
        )


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
