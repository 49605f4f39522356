"""The paper's numbers, in the same form as measured ones; they never share a column with them."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from bench.errors import BenchError
from bench.records.measurement import Quantity
from bench.tables.cell import Group
from bench.tables.lines import Place, Published
from bench.tables.spec import AttackSpec, PaperSpec, RowSpec, TableSpec


def paper_lines(spec: TableSpec) -> list[Published]:
    """A table's published numbers; none where the spec names no paper.

    Raises:
        BenchError: the CSV lacks a column, holds no number where one should be, or has a line twice.
    """
    return [] if spec.paper is None else list(_lines(spec, spec.paper))


def _lines(spec: TableSpec, paper: PaperSpec) -> Iterator[Published]:
    with paper.file.open(encoding="utf-8", newline="") as stream:
        published = list(csv.DictReader(stream))
    for dataset in spec.datasets:
        group = Group(dataset, f"as published in {paper.citation}", "paper", paper.n, paper.n, paper.eps)
        for position, row in enumerate(spec.rows):
            for attack in spec.attacks:
                line = _find(published, paper, row, attack, dataset)
                if line is None:
                    continue
                label = f"{row.label} ({_content(line, paper.model, paper)})" if paper.model else row.label
                place = Place(group, attack.result, label)
                about = ", ".join(_content(line, name, paper) for name in paper.about)
                yield Published(place, position, _numbers(line, paper, attack, dataset), about)


def _find(
    published: list[dict[str, str]], paper: PaperSpec, row: RowSpec, attack: AttackSpec, dataset: str
) -> dict[str, str] | None:
    """The one line of the CSV that is about a row, an attack and a dataset; None where there is none."""
    wanted = {name: _fill(text, attack, dataset) for name, text in paper.where.items()}
    wanted |= row.paper or {"defense": row.label}
    found = [line for line in published if all(_content(line, name, paper) == text for name, text in wanted.items())]
    if len(found) > 1:
        raise BenchError(f"{paper.file} has {len(found)} lines for {wanted}.\nKeep one, or make `where` narrower.")
    return found[0] if found else None


def _numbers(line: dict[str, str], paper: PaperSpec, attack: AttackSpec, dataset: str) -> dict[Quantity, float]:
    numbers: dict[Quantity, float] = {}
    for quantity, template in paper.values.items():
        text = _content(line, _fill(template, attack, dataset), paper)
        if not text:
            continue
        try:
            share = float(text) / 100
            if not 0 <= round(share * paper.n) <= paper.n:
                raise ValueError
        except (ValueError, OverflowError) as error:
            raise BenchError(
                f"{paper.file} has {text!r} where a percentage should be ({quantity}).\nRepair that line."
            ) from error
        numbers[quantity] = share
    return numbers


def _fill(template: str, attack: AttackSpec, dataset: str) -> str:
    return template.replace("{attack}", attack.paper).replace("{dataset}", dataset)


def _content(line: dict[str, str], name: str, paper: PaperSpec) -> str:
    if name not in line:
        raise BenchError(
            f"{paper.file} has no column {name!r}, which a table's spec asks for.\nIts columns: {', '.join(line)}."
        )
    return line[name]
