"""The paper's numbers, in the same form as measured ones; they never share a column with them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.stats.tests import wilson_interval
from bench.tables.cells import COLUMNS
from bench.tables.spec import AttackSpec, PaperSpec, RowSpec, TableSpec

if TYPE_CHECKING:
    from pandas import DataFrame


def paper_frame(spec: TableSpec) -> DataFrame:
    """A table's published numbers as a tidy frame (see `cells.COLUMNS`); empty where the spec names none.

    Raises:
        BenchError: the CSV lacks a column, holds no number where one should be, or has a line twice.
    """
    import pandas as pd

    lines = [] if spec.paper is None else list(_lines(spec, spec.paper))
    return pd.DataFrame(lines, columns=pd.Index(COLUMNS))


def _lines(spec: TableSpec, paper: PaperSpec) -> Iterator[dict[str, Any]]:
    with paper.file.open(encoding="utf-8", newline="") as stream:
        published = list(csv.DictReader(stream))
    conditions = {
        "setting": f"as published in {paper.citation}",
        "protocol": "paper",
        "n": paper.n,
        "total": paper.n,
        "eps": paper.eps,
        "fingerprint": "",
        "flags": [],
        "selection": "",
        "record": "",
    }
    for dataset in spec.datasets:
        for position, row in enumerate(spec.rows):
            for attack in spec.attacks:
                line = _find(published, paper, row, attack, dataset)
                if line is None:
                    continue
                label = f"{row.label} ({_content(line, paper.model, paper)})" if paper.model else row.label
                place = {"row": label, "position": position, "dataset": dataset, "attack": attack.result}
                yield conditions | place | _numbers(line, paper, attack, dataset)


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


def _numbers(line: dict[str, str], paper: PaperSpec, attack: AttackSpec, dataset: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for quantity, template in paper.values.items():
        text = _content(line, _fill(template, attack, dataset), paper)
        if not text:
            continue
        try:
            share = float(text) / 100
            interval = wilson_interval(round(share * paper.n), paper.n)
        except (ValueError, OverflowError) as error:
            raise BenchError(
                f"{paper.file} has {text!r} where a percentage should be ({quantity}).\nRepair that line."
            ) from error
        numbers[quantity] = share
        if quantity != "weighted":  # its interval would need the outcomes of each sample
            numbers[f"{quantity}_low"], numbers[f"{quantity}_high"] = interval
    return numbers


def _fill(template: str, attack: AttackSpec, dataset: str) -> str:
    return template.replace("{attack}", attack.paper).replace("{dataset}", dataset)


def _content(line: dict[str, str], name: str, paper: PaperSpec) -> str:
    if name not in line:
        raise BenchError(
            f"{paper.file} has no column {name!r}, which a table's spec asks for.\nIts columns: {', '.join(line)}."
        )
    return line[name]
