"""Tables from evaluation records: Markdown, LaTeX and CSV, without torch."""

from bench.tables.build import build_table
from bench.tables.spec import TableSpec, load_specs, read_spec
from bench.tables.table import Table
from bench.tables.write import FORMATS, build_tables, render_tables, write_tables

__all__ = [
    "FORMATS",
    "Table",
    "TableSpec",
    "build_table",
    "build_tables",
    "load_specs",
    "read_spec",
    "render_tables",
    "write_tables",
]
