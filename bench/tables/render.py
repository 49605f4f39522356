"""A table as Markdown, LaTeX or CSV; its templates lie beside it."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.stats import TEST_NAMES
from bench.system import escape
from bench.tables.cell import Cell, Group
from bench.tables.pieces import pieces
from bench.tables.table import Column, Row, Section, Table

if TYPE_CHECKING:
    from jinja2 import Environment

    from bench.tables.plain import PlainTable

_MOST_COLUMNS = 12
_PROVENANCE = "# How the numbers of these tables came about"


def to_markdown(table: Table) -> str:
    """A table for GitHub's Markdown, in pieces, with its title and notes; what a piece's columns share is above it."""
    name = provenance_name(table.values, table.ending)
    return _markdown().get_template("table.md.j2").render(table=table, pieces=list(pieces(table)), provenance=name)


def provenance_name(values: str, ending: str = "") -> str:
    """The file beside tables of some kind of values, and some ending, that holds what their notes do not say."""
    return f"provenance{ending}{'' if values == 'measured' else f'-{values}'}.md"


def to_provenance(tables: Iterable[Table], before: str = "") -> str:
    """What is known of tables besides their notes, as Markdown; what is said of all of them stands once.

    Args:
        before: the file as it was; tables that it has and that are not given stay in it.
    """
    shared, *others = ([line for line in part.splitlines() if line] for part in (before or _PROVENANCE).split("\n## "))
    kept = {heading.partition(".")[0]: (heading, [*shared[1:], *lines]) for heading, *lines in others}
    for table in tables:
        heading, *lines = _markdown().get_template("provenance.md.j2").render(table=table).splitlines()
        kept[heading.partition(".")[0]] = (heading, lines)
    parts = [kept[name] for name in sorted(kept)]
    shared = [line for line in parts[0][1] if all(line in lines for _, lines in parts)] if len(parts) > 1 else []
    own = [
        "\n".join([f"\n## {heading}\n", *(each for each in lines if each not in shared)]) for heading, lines in parts
    ]
    return "\n".join([_PROVENANCE, *["", *shared] * bool(shared), *own, ""])


def to_latex(table: Table) -> str:
    """`table` environments to `\\input`, shrunk where wider than the line; very wide tables in parts."""
    return _latex().get_template("table.tex.j2").render(parts=table.split(_MOST_COLUMNS))


def to_latex_document(tables: Iterable[tuple[Table, Path]], name: str) -> str:
    """A document that shows tables which lie beside it.

    Args:
        tables: each with the file of its LaTeX.
        name: what the document's own file is called.
    """
    files = [(table.number, path.name) for table, path in tables]
    return _latex().get_template("tables.tex.j2").render(name=name, files=files)


def plain_to_markdown(tables: Iterable[PlainTable]) -> str:
    """Tables of texts for GitHub's Markdown."""
    return _markdown().get_template("plain.md.j2").render(tables=list(tables))


def plain_to_latex(tables: Iterable[PlainTable]) -> str:
    """Tables of texts as `table` environments to `\\input`, shrunk where wider than the line."""
    return _latex().get_template("plain.tex.j2").render(tables=list(tables))


def to_csv(table: Table) -> str:
    """Every cell on a line of its own, numbers in per cent, with its interval, seeds, flags and records."""
    stream = io.StringIO()
    lines = [_csv_line(table, *place) for place in table.cells()]
    writer = csv.DictWriter(stream, list(lines[0]) if lines else ["table"], lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: escape.csv(str(text)) for name, text in line.items() if text is not None})
    return stream.getvalue()


def to_json(table: Table) -> str:
    """A table as JSON: `table_content`."""
    return json.dumps(table_content(table), indent=1) + "\n"


def table_content(table: Table) -> dict[str, Any]:
    """A table in plain types: lists are lists, accuracies numbers in [0, 1], costs hours; no cell without number."""
    return {
        "table": table.number,
        "title": table.title,
        "values": table.values,
        "checkpoint_of": table.checkpoint_of,
        "cells": [_json_cell(*place) for place in table.cells() if place[-1].value is not None],
        "notes": [*([table.remark] if table.remark else []), *table.notes],
        "provenance": list(table.provenance),
    }


def _place(section: Section, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    """Where a cell stands and what it was measured on; of an empty one only the dataset is known."""
    place = column.group or section.group
    group = cell.group or Group(place.dataset if place else "")
    return {
        "source": column.source,
        "attack": column.attack or section.attack or "clean",
        "row": row.label,
        "dataset": group.dataset,
        "student": group.model,
        "setting": group.setting,
        "protocol": group.protocol,
        "n": group.n or None,
        "eps": group.eps or None,
        "norm": group.norm if group.n else None,
        "quantity": column.quantity,
    }


def _json_cell(section: Section, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    lead = cell.lead
    scale = 1 if cell.unit == "h" else 100

    def number(value: float | None) -> float | None:
        return None if value is None else value / scale

    return {
        **_place(section, row, column, cell),
        "value": number(cell.value),
        "std": number(cell.std),
        "interval": None if cell.interval is None else [number(bound) for bound in cell.interval],
        "seeds": cell.seeds,
        "unit": "h" if cell.unit == "h" else "share",
        "mark": cell.mark,
        "lead": None
        if lead is None
        else {"significant": lead.proven, "p_holm": lead.p, "test": lead.test, "rivals": lead.rivals},
        "over": sorted(cell.over),
        "selection": list(cell.selection),
        "flags": list(cell.flags),
        "records": list(cell.records),
    }


def _csv_line(table: Table, section: Section, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    low, high = cell.interval or (None, None)
    numbers = {"value": cell.value, "std": cell.std, "low": low, "high": high}
    return {
        "table": table.number,
        **_place(section, row, column, cell),
        **{name: None if number is None else f"{number:.4f}" for name, number in numbers.items()},
        "seeds": cell.seeds or None,
        "unit": cell.unit if cell.value is not None else "",
        "mark": cell.mark,
        **_csv_lead(cell),
        "over": "; ".join(sorted(cell.over)),
        "selection": "; ".join(cell.selection),
        "flags": "; ".join(cell.flags),
        "records": "; ".join(cell.records),
    }


def _csv_lead(cell: Cell) -> dict[str, str]:
    """Whether a best number is significantly better than the second best, in words: a CSV has no notes."""
    lead = cell.lead
    if lead is None:
        return {"lead": "", "lead_p": "", "lead_test": ""}
    said = "significant" if lead.proven else "not significant"
    return {
        "lead": said if lead.test else "not tested",
        "lead_p": "" if lead.p is None else f"{lead.p:.3g}",
        "lead_test": f"{TEST_NAMES[lead.test]}, Holm over {lead.rivals}" if lead.test else "",
    }


@cache
def _markdown() -> Environment:
    from jinja2 import Environment

    return Environment(finalize=lambda value: escape.markdown(str(value)), **_shared())


@cache
def _latex() -> Environment:
    from jinja2 import Environment

    environment = Environment(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=lambda value: escape.latex(str(value)),
        **_shared(),
    )
    environment.filters["wrap"] = _wrap
    return environment


def _shared() -> dict[str, Any]:
    """What both kinds of templates share. Their `finalize` escapes every expression, so none is forgotten."""
    from jinja2 import FileSystemLoader, StrictUndefined

    return {
        "loader": FileSystemLoader(Path(__file__).parent / "templates"),
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }


def _wrap(texts: Iterable[str], width: int) -> list[str]:
    """Texts as lines of about a width, each text on lines of its own; `n = 360` stays in one piece."""
    unbroken = (text.replace(" = ", "\u00a0=\u00a0") for text in texts)
    return [line for text in unbroken for line in textwrap.wrap(text, max(width, 18), break_on_hyphens=False)]
