"""The overview: all that was measured, defenses in rows, attacks in columns, and all attacks at once in the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from bench.records.networks import WORST, with_worst
from bench.records.record import Record
from bench.records.wording import CORRUPTED, attack_text
from bench.tables.build import annotated, laid_out
from bench.tables.headers import under_threats
from bench.tables.spec import OVERVIEW, AttackSpec, RowSpec, TableSpec, read_spec, table_files
from bench.tables.table import Table, numbered
from bench.threat import Threat
from bench.vocabulary import Selected

TEACHERS = [RowSpec(label="Clean teacher", role="clean"), RowSpec(label="Robust teacher", role="robust")]


def build_overview(
    records: Iterable[Record],
    datasets: Sequence[str] | None = None,
    student: str | None = None,
    checkpoint_of: Selected = "best",
) -> Table:
    """The table of all test records: a section for each student and group of results that compare, then the teachers.

    A worst over fewer attacks than its section has is marked, and no rival of the others.

    Args:
        records: evaluation records of any students, teachers and files from elsewhere.
        datasets: only these; None for all.
        student: only networks of this architecture; None for all.
        checkpoint_of: of which network of its run a record is to be.
    """
    known = [
        record
        for record in records
        if record.data.split == "test" and (datasets is None or record.data.name in datasets)
        if student in (None, record.subject.model) and record.subject.stands_for(checkpoint_of)
    ]
    spec = overview_spec(known)
    of_teachers: dict[bool, list[Record]] = {False: [], True: []}
    for record in with_worst(known):
        of_teachers[record.subject.kind == "teacher"].append(record)
    students = laid_out(spec, of_teachers[False], checkpoint_of=checkpoint_of)
    teachers = laid_out(spec.for_teachers(TEACHERS), of_teachers[True], checkpoint_of=checkpoint_of)
    named = tuple(replace(each, label=f"Teachers: {each.label}") for each in teachers.table.sections)
    table = annotated([students, replace(teachers, table=replace(teachers.table, sections=named))])
    table = replace(table, number=OVERVIEW, stub=("Dataset", "Defense"))
    return table.part(sorted(numbered(table.sections)), table.sections)


@cache
def attack_labels() -> dict[str, str]:
    """Names of attacks for readers, by that of their result."""
    return {attack.result: attack.label for attack in read_spec(table_files("specs") / "overview.yaml").attacks}


def overview_spec(records: Sequence[Record]) -> TableSpec:
    """The overview's spec with the attacks of some records, in its order: as many as they have, and all of them."""
    spec = read_spec(table_files("specs") / "overview.yaml")
    labels = {attack.result: attack for attack in spec.attacks}
    measured = {attack for record in records for attack in record.results} - {"clean"}
    named = [attack for attack in spec.attacks if attack.result in measured]
    further = [
        AttackSpec(result=name, label=attack_text(name, attack_labels(), Threat()))
        for name in sorted(measured - set(labels))
        if not CORRUPTED.match(name)  # dozens, with a table of their own
    ]
    spec = spec.model_copy(update={"attacks": [*named, *further, labels[WORST]]})
    return under_threats(spec, ((name, record.data.threat) for record in records for name in record.results))
