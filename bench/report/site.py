"""Writes the pages: `index.html` and what it leads to, all in one folder, none of it from a network."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bench.config import RunConfig
from bench.costs import cost_tables
from bench.errors import BenchError, unknown_name
from bench.files import atomic_path, write_text_atomically
from bench.garbage import no_collection
from bench.helping import LEAST, Helper
from bench.home import Home
from bench.known_records import home_records
from bench.profiles import load_profiles
from bench.records import Record
from bench.report import checks, classes, leaderboard, training
from bench.report.examples import gallery
from bench.runs import RunFolder
from bench.tabulate import Table, build_tables, load_specs, write_tables
from bench.tabulate.plain import PlainTable, plain_to_csv
from bench.tabulate.render import plain_to_latex, plain_to_markdown
from bench.tabulate.resources import table_files
from bench.tabulate.table import Cell
from bench.texts import one_line
from bench.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from bench.session import Session

Runs = Sequence[tuple[RunFolder, RunConfig]]

PAGES = {
    "index": "Leaderboard",
    "tables": "Tables",
    "classes": "Classes",
    "training": "Training",
    "examples": "Examples",
    "costs": "Costs",
    "checks": "Checks",
    "paper": "Paper beside measured",
}
"""Each page's file, without suffix, and its name in the menu."""
ASSETS = ("report.css", "theme.js", "tables.js", "charts.js")
FORMATS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX"}
MOST_PRINTED = 250
"""Rows of a table in Markdown and LaTeX, which are for print; CSV has all."""


@dataclass(frozen=True)
class Contents:
    """Everything of a home that the pages show."""

    home: Home
    records: Sequence[Record]
    runs: Runs
    datasets: Sequence[str] | None


def write_report(
    home: Home, out: Path, datasets: Sequence[str] | None = None, examples: int = 0, session: Session | None = None
) -> Path:
    """Write the site of a home and return its first page.

    Args:
        out: folder for the site, made if need be; files of an earlier report are replaced.
        datasets: show only these; None for all.
        examples: test images to show attacked for each defense whose weights are at hand.
        session: of this home; it attacks the examples. Without one there are none.

    Raises:
        BenchError: an unknown dataset, a record or run that is not right, no Plotly, a folder that cannot be written.
    """
    plotly = plotly_file()
    with no_collection():
        contents = _contents(home, datasets)
        pages = _pages(session, contents, examples)
        first = next(pages)  # the logs of runs are read for it, which may be damaged: nothing is written before
    for name in ASSETS:
        write_text_atomically(out / "assets" / name, (_templates() / name).read_text(encoding="utf-8"))
    with atomic_path(out / "assets" / "plotly.min.js") as temporary:
        shutil.copyfile(plotly, temporary)
    # A second process makes the tables of a large home meanwhile; whatever keeps it from that, this one makes them.
    asked = json.dumps([str(home.root), str(out), datasets])
    with Helper("bench.report.site:write_tables_pages", [asked] if len(contents.records) >= LEAST else []) as helper:
        summary = _summary(contents)
        # One page after the other, so that no more than one is in memory.
        _write_page(out, summary, *first)
        del first
        while True:
            with no_collection():
                page = next(pages, None)
            if page is None:
                break
            _write_page(out, summary, *page)
            del page
        if not helper.results():
            _write_tables_pages(out, summary, contents)
    return out / "index.html"


def write_tables_pages(asked: str) -> bool:
    """Write the pages with the tables of a home, in a process of its own; JSON of home, folder and datasets."""
    root, out, datasets = json.loads(asked)
    contents = _contents(Home(Path(root)), datasets)
    _write_tables_pages(Path(out), _summary(contents), contents)
    return True


def _write_tables_pages(out: Path, summary: dict[str, Any], contents: Contents) -> None:
    _write_page(out, summary, "tables", {"tables": _tables(contents, "measured")})
    _write_page(out, summary, "paper", {"tables": _tables(contents, "compare")})


def plotly_file() -> Path:
    """The chart library as Plotly's Python package brings it."""
    found = importlib.util.find_spec("plotly")
    places = (found.submodule_search_locations or []) if found else []
    for folder in places:
        file = Path(folder) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file
    raise BenchError("The report's charts need Plotly, which is not installed.\nInstall it: pip install plotly.")


def _contents(home: Home, datasets: Sequence[str] | None) -> Contents:
    records, runs = home_records(home), training.runs_of(home, None)
    known = {record.data.name for record in records} | {config.data.name for _, config in runs}
    for name in datasets or ():
        if name not in known:
            raise unknown_name("dataset (none of its records or runs are here)", name, known)
    if datasets is None:
        return Contents(home, records, runs, None)
    shown = [record for record in records if record.data.name in datasets]
    return Contents(home, shown, [(run, config) for run, config in runs if config.data.name in datasets], datasets)


def _pages(session: Session | None, contents: Contents, examples: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each page's name and what its template is given, but for those of tables; the one after the other."""
    yield "training", _training(contents)
    yield "costs", _costs(contents)
    yield "checks", _checks(contents)
    found = gallery(session, contents.runs, contents.records, examples)
    yield "examples", {"gallery": found, "wanted": examples if session else 0}
    students = leaderboard.entries(contents.records)
    teachers = leaderboard.entries(contents.records, "teacher")
    yield "index", _index(students, teachers)
    yield "classes", _classes([*students, *teachers], contents, found.classes)


def _index(students: list[leaderboard.Entry], teachers: list[leaderboard.Entry]) -> dict[str, Any]:
    groups = {(entry.model, entry.attack, entry.group): None for entry in students}
    return {
        "entries": students,
        "teachers": teachers,
        "groups": {key: number for number, key in enumerate(groups)},
        "notes": leaderboard.READING,
        "downloads": {
            "leaderboard": [leaderboard.to_plain(students, "Leaderboard")],
            "teachers": [leaderboard.to_plain(teachers, "Teachers")],
        },
    }


def _classes(found: list[leaderboard.Entry], contents: Contents, names: dict[str, Sequence[str]]) -> dict[str, Any]:
    accuracies = classes.class_accuracies(found, {record.id: record for record in contents.records})
    table = classes.worst_table(accuracies, names)
    return {"chart": classes.chart(accuracies, names), "table": table, "downloads": {"worst-classes": [table]}}


def _training(contents: Contents) -> dict[str, Any]:
    table = training.table(contents.runs)
    pair = training.figure_3(contents.home, contents.runs)
    return {"runs": training.chart(contents.runs, pair), "pair": pair, "table": table, "downloads": {"runs": [table]}}


def _costs(contents: Contents) -> dict[str, Any]:
    profiles = [profile for profile in load_profiles(contents.home) if not profile.off]
    shown = [p for p in profiles if contents.datasets is None or p.dataset in contents.datasets]
    profiled, trained = cost_tables(shown), training.costs(contents.records)
    downloads = {"training-costs": [trained], **({"costs": profiled} if profiled else {})}
    return {"profiled": profiled, "trained": trained, "downloads": downloads}


def _checks(contents: Contents) -> dict[str, Any]:
    table = checks.table(contents.records)
    failed = {check.key for row in table.rows if (check := checks.explained(row[-1]))}
    return {
        "checks": checks.CHECKS,
        "failed": failed,
        "table": table,
        "downloads": {"failed-checks": [table]},
    }


def _numbers(contents: Contents, values: str) -> list[int]:
    """The tables to show: all of the harness's and a user's own; beside the paper's, all it has published."""
    specs = load_specs(contents.home.specs)
    return [number for number, spec in specs.items() if spec.paper or values == "measured"]


def _tables(contents: Contents, values: str) -> list[Table]:
    numbers = _numbers(contents, values)
    return build_tables(contents.records, numbers, values, _columns(contents, values), contents.home.specs)


def _columns(contents: Contents, values: str) -> list[str] | None:
    """The datasets of tables: beside the paper's all it has, else those with records; None for a spec's own."""
    measured = sorted({record.data.name for record in contents.records})
    if values == "measured":
        return measured or None
    published = [name for spec in load_specs(contents.home.specs).values() for name in spec.datasets]
    known = dict.fromkeys([*published, *measured])
    return None if contents.datasets is None else [name for name in known if name in contents.datasets]


def _write_page(out: Path, summary: dict[str, Any], name: str, facts: dict[str, Any]) -> None:
    """A page, and every table of it as CSV, Markdown and LaTeX."""
    with atomic_path(out / f"{name}.html") as temporary:
        _template(name).stream(**_shared(name), summary=summary, **facts).dump(str(temporary), encoding="utf-8")
    renderers = {"csv": plain_to_csv, "md": plain_to_markdown, "tex": plain_to_latex}
    for title, tables in facts.get("downloads", {}).items():
        for suffix, render in renderers.items():
            shown = tables if suffix == "csv" else [_printed(table) for table in tables]
            write_text_atomically(out / "tables" / f"{title}.{suffix}", render(shown))
    if "tables" in facts:
        values = "compare" if name == "paper" else "measured"
        write_tables(facts["tables"], values, ("csv", "markdown", "latex"), out / "tables")


def _printed(table: PlainTable) -> PlainTable:
    """A table with no more rows than are of use in print; what is left out is said."""
    if len(table.rows) <= MOST_PRINTED:
        return table
    note = f"The first {MOST_PRINTED} of {len(table.rows):,} rows; the CSV has all."
    return replace(table, rows=table.rows[:MOST_PRINTED], notes=(note, *table.notes))


def _summary(contents: Contents) -> dict[str, Any]:
    """The line at the foot of every page; no clock in it, so that the same home gives the same pages."""
    created = sorted(record.created for record in contents.records)
    return {
        "records": len(contents.records),
        "runs": len(contents.runs),
        "newest": created[-1][:10] if created else "",
        "datasets": sorted({record.data.name for record in contents.records}),
    }


def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.html.j2")


def _shared(name: str) -> dict[str, Any]:
    """What every page's template is given."""
    return {"page": name, "pages": PAGES, "formats": FORMATS, "version": __version__}


def _number(cell: Cell) -> Markup:
    """A number with its interval, or its spread over seeds, beneath it; it stands in ten thousands of rows."""
    if cell.shown is None:
        return Markup('<span class="none">–</span>')
    text = cell.text if cell.std is None else cell.text.split(" ")[0] + cell.signs
    text = f'<span class="{cell.mark}">{text}</span>' if cell.mark else text
    if cell.interval:
        text += f"<small>{cell.interval[0]:.1f}–{cell.interval[1]:.1f}</small>"
    elif cell.std is not None:
        text += f"<small>± {cell.std:.2f}, {cell.seeds} seeds</small>"
    return Markup(text)


def _bar(cell: Cell) -> Markup | str:
    """The interval of an accuracy, drawn from 0 to 100."""
    if not cell.interval:
        return ""
    low, high = cell.interval
    return Markup(f'<i class="ci" style="--v:{cell.value:.1f};--l:{low:.1f};--h:{high:.1f}"></i>')


def _templates() -> Path:
    return table_files("templates") / "report"


@cache
def _environment() -> Environment:
    """Every expression is escaped, and invisible marks in names are dropped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_templates()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    environment.globals |= {"number": _number, "bar": _bar}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
