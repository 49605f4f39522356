"""Tables from evaluation records: Markdown, LaTeX and CSV, without torch."""

from bench.tabulate.api import FORMATS, build_tables, render_tables, write_tables
from bench.tabulate.build import build_table
from bench.tabulate.spec import TableSpec, load_specs, read_spec
from bench.tabulate.table import Table

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
