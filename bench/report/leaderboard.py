"""The leaderboard: a row for each network and attack, and for each defense over its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from markupsafe import Markup

from bench.evaluation.suites import STRONGEST
from bench.records.measurement import Quantity
from bench.records.record import Record
from bench.records.wording import attack_text, seeds_text
from bench.report.rows import Row, html, number_and_bar, number_of_seeds
from bench.tables.cell import DASH, Cell, Group
from bench.tables.cells import averaged
from bench.tables.lines import Measured, newest, places, tidy
from bench.tables.overview import TEACHERS, attack_labels
from bench.tables.plain import PlainTable
from bench.tables.rivals import mark_rivals
from bench.tables.spec import AttackSpec, TableSpec

View = Literal["network", "mean", "both"]
"""A row is one network, or the mean over a defense's seeds; where there is one seed it is both."""

_COLUMNS: list[Quantity] = ["clean", "robust", "weighted", "worst_class", "cost"]


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    Attributes:
        label: the defense, with what was set otherwise than its recipe does.
        model: architecture of what was attacked.
        attack: its result's name in the records. attack_label: for readers.
        group: what rows must share to be compared, besides the model and the attack.
        seeds: training seeds behind the numbers; empty for a file from elsewhere.
        clean, robust, weighted, worst_class, cost: the numbers; robust ones are marked among their rivals.
    """

    label: str
    model: str
    attack: str
    attack_label: str
    group: Group
    view: View
    seeds: tuple[int, ...]
    clean: Cell
    robust: Cell
    weighted: Cell
    worst_class: Cell
    cost: Cell

    @cached_property
    def schedule(self) -> str:
        return schedule(self.group)

    @cached_property
    def samples(self) -> str:
        return samples(self.group)

    @property
    def seed_text(self) -> str:
        """`1 (0)`, `3 (0-2)`; a dash for a file from elsewhere."""
        return seeds_text(self.seeds) or DASH


def schedule(group: Group) -> str:
    """The setting, with what was reduced, and the bound of the attacks."""
    return "; ".join(text for text in (group.setting, group.threat.text) if text)


def samples(group: Group) -> str:
    """`360`, or `50 of 360` where only the first of the test images were attacked."""
    return f"{group.n:,}" if group.n == group.total else f"{group.n:,} of {group.total:,}"


def entries(records: Sequence[Record], subject: Literal["student", "teacher"] = "student") -> list[Entry]:
    """All rows, by dataset and model, those of all test images first, then by attack; then the most robust first."""
    of_models: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        if (record.subject.kind == "teacher") == (subject == "teacher"):
            of_models[record.subject.model].append(record)
    found: list[Entry] = []
    for model, own in sorted(of_models.items()):
        results = sorted({name for record in own for name in record.results if name != "clean"})
        if results:
            found += _of_one_model(own, model, results, subject)
    return sorted(_marked(found), key=_order)


def _of_one_model(
    records: Sequence[Record], model: str, attacks: Sequence[str], subject: Literal["student", "teacher"]
) -> Iterator[Entry]:
    spec = TableSpec(
        number=0,
        title="leaderboard",
        subject=subject,
        access="white-box",
        models={"default": model} if subject == "student" else {},
        datasets={"any": "any"},
        columns=_COLUMNS,
        attacks=[AttackSpec(result=name, label=name) for name in attacks],
        rows=TEACHERS if subject == "teacher" else [],
    )
    for _, lines in places(newest(tidy(records, spec))):
        several = len(lines) > 1
        yield _entry(model, lines, "mean" if several else "both")
        # Of each network of several seeds, what it was measured at itself.
        yield from (_entry(model, [line], "network") for line in lines if several)


def _entry(model: str, lines: Sequence[Measured], view: View) -> Entry:
    group, attack, label = lines[0].place
    seeds = tuple(line.seed for line in lines if line.seed is not None)
    cells = averaged(lines, _COLUMNS)
    numbers = [cells.get(quantity, Cell()) for quantity in _COLUMNS]
    return Entry(label, model, attack, attack_text(attack, attack_labels(), group.threat), group, view, seeds, *numbers)


def _marked(found: Iterable[Entry]) -> Iterator[Entry]:
    """Robust accuracies marked where they are best among what they compare with, as in the tables."""
    rivals: defaultdict[tuple[str, Group, str], list[Entry]] = defaultdict(list)
    for entry in found:
        if entry.view == "network":
            yield entry
        else:
            rivals[entry.model, entry.group, entry.attack].append(entry)
    for among in rivals.values():
        cells = mark_rivals([entry.robust for entry in among], "robust")
        yield from (replace(entry, robust=cell) for entry, cell in zip(among, cells, strict=True))


def _order(entry: Entry) -> tuple[object, ...]:
    rank = STRONGEST.index(entry.attack) if entry.attack in STRONGEST else len(STRONGEST)
    group = entry.group
    return (
        *(group.dataset, entry.model, group.n < group.total, rank, entry.attack, group.setting, group.protocol),
        *(-group.n, group.threat, group.fingerprint),
        *(-(entry.robust.value or 0), entry.label, entry.seeds),
    )


def to_rows(found: Iterable[Entry]) -> Iterator[Row]:
    """The rows as the page shows them; those that compare with each other have one group."""
    groups: dict[tuple[str, str, Group], int] = {}
    for entry in found:
        group = groups.setdefault((entry.model, entry.attack, entry.group), len(groups))
        yield Row(_cells(entry), entry.view, group)


def _cells(entry: Entry) -> tuple[Markup, ...]:
    flags = len(entry.robust.flags)
    return (
        *map(html, (entry.label, entry.group.dataset, entry.model, entry.attack_label)),
        number_and_bar(entry.robust),
        *map(number_of_seeds, (entry.clean, entry.weighted, entry.worst_class)),
        *map(html, (entry.samples, entry.seed_text)),
        number_of_seeds(entry.cost),
        *map(html, (entry.group.protocol, entry.schedule)),
        Markup(f'<a href="checks.html">{flags} flag{"s" * (flags > 1)}</a>' if flags else "no flags"),
    )


def to_plain(found: Iterable[Entry], title: str) -> PlainTable:
    """The rows as texts, for the downloads."""
    headers = (
        *("Defense", "Student", "Dataset", "Attack", "Protocol", "Schedule", "Seeds", "n"),
        *("Clean %", "Clean 95 %", "Robust %", "Robust 95 %", "W-R %", "W-R 95 %", "Worst class %", "Worst class 95 %"),
        *("Training h", "Selected on", "Failed checks"),
    )
    return PlainTable(title, headers, tuple(_texts(entry) for entry in found), READING)


READING = (
    "95 %: Wilson's interval of an accuracy, the score interval of W-R = (clean + robust) / 2, exact bounds of the "
    "lowest true accuracy of a class; a ± b (k): mean and sample standard deviation over k seeds, whose own intervals "
    "stand in the rows of the single networks.",
    "† the checkpoint was selected on the test set; ‡ sanity checks failed or were left out; ≈ best among its "
    "rivals, but not significantly better than the second best.",
    "n: test images attacked, counted from the first. "
    "Rows compare only within one dataset, student, attack, threat, protocol, schedule and set of images.",
)


def _texts(entry: Entry) -> tuple[str, ...]:
    numbers = (entry.clean, entry.robust, entry.weighted, entry.worst_class)
    return (
        *(entry.label, entry.model, entry.group.dataset, entry.attack_label, entry.group.protocol, entry.schedule),
        *(entry.seed_text, entry.samples),
        *(text for cell in numbers for text in (cell.text, interval_text(cell))),
        *(entry.cost.text, ", ".join(entry.robust.selection), "; ".join(entry.robust.flags)),
    )


def interval_text(cell: Cell) -> str:
    """`47.9 to 58.2`, or a dash."""
    return f"{cell.interval[0]:.1f} to {cell.interval[1]:.1f}" if cell.interval else DASH
