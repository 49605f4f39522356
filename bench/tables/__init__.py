"""Tables from evaluation records: Markdown, LaTeX and CSV, without torch."""

from bench.tables.build import build_table
from bench.tables.overview import build_overview
from bench.tables.render import table_content
from bench.tables.spec import TableSpec, load_specs, read_spec
from bench.tables.table import Table
from bench.tables.write import FORMATS, build_tables, check_formats, render_tables, write_tables

__all__ = [
    "FORMATS",
    "Table",
    "TableSpec",
    "build_overview",
    "build_table",
    "build_tables",
    "check_formats",
    "load_specs",
    "read_spec",
    "render_tables",
    "table_content",
    "write_tables",
]
