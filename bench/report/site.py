"""Writes the pages: `index.html` and what it leads to, all in one folder, none of it from a network."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bench.cost.profile import load_profiles
from bench.cost.table import cost_tables
from bench.errors import unknown_name
from bench.figures.radius import curves, grouped
from bench.records.index import folder_facts, home_records
from bench.records.record import Record
from bench.report import checks, classes, leaderboard, radius, training
from bench.report.examples import gallery
from bench.report.overview import facts as overview_facts
from bench.report.rows import Rows, number, of_texts
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder
from bench.system.files import atomic_path, write_text_atomically
from bench.system.garbage import no_collection
from bench.system.home import Home
from bench.system.second_process import LEAST, Helper
from bench.system.text import one_line
from bench.tables import Table, build_tables, load_specs, write_tables
from bench.tables.plain import PlainTable, plain_to_csv
from bench.tables.render import plain_to_latex, plain_to_markdown
from bench.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from bench.jobs.session import Session

Runs = Sequence[tuple[RunFolder, RunConfig]]

PAGES = {
    "index": "Leaderboard",
    "tables": "Tables",
    "radius": "Radius",
    "classes": "Classes",
    "training": "Training",
    "examples": "Examples",
    "costs": "Costs",
    "checks": "Checks",
    "paper": "Paper beside measured",
}
"""Each page's file, without suffix, and its name in the menu."""
ASSETS = ("report.css", "theme.js", "address.js", "tables.js", "charts.js", "classes.js")
_OVERVIEW = "overview"
FORMATS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX"}
MOST_PRINTED = 250
"""Rows of a table in Markdown and LaTeX, which are for print; CSV has all."""


@dataclass(frozen=True)
class Contents:
    """Everything of a home that the pages show.

    Attributes:
        records: of the best weights of each run.
        last: of the last ones, for the robust overfitting.
    """

    home: Home
    records: Sequence[Record]
    last: Sequence[Record]
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
        BenchError: an unknown dataset, a record or run that is not right, a folder that cannot be written.
    """
    plotly = plotly_file()
    many = home.records.is_dir() and len(os.listdir(home.records)) >= LEAST
    if many:
        folder_facts(home.records)  # what is new is checked once, before two processes read all
    # A second process makes the tables of a large home meanwhile; whatever keeps it from that, this one makes them.
    asked = json.dumps([str(home.root), datasets])
    with no_collection(), Helper("bench.report.site:tables_pages", [asked] if many else []) as helper:
        contents = _contents(home, datasets)
        pages = _pages(session, contents, examples)
        first = next(pages)  # the logs of runs are read for it, which may be damaged: nothing is written before
        for name in ASSETS:
            write_text_atomically(out / "assets" / name, (_templates() / name).read_text(encoding="utf-8"))
        if plotly is not None:
            with atomic_path(out / "assets" / "plotly.min.js") as temporary:
                shutil.copyfile(plotly, temporary)
        summary = _summary(contents)
        _write_page(out, summary, *first)
        del first
        # One page after the other, so that no more than one is in memory.
        for name, facts in pages:
            if name == "index":  # the last
                files = helper.results().get(asked) or _tables_files(contents)
                facts["overview"] = Markup(files.pop(_OVERVIEW))
                for path, text in files.items():
                    write_text_atomically(out / path, text)
                _remove_others(out / "rows", f"{_OVERVIEW}-*.js", {Path(path).name for path in files})
            _write_page(out, summary, name, facts)
            del facts
    return out / "index.html"


def tables_pages(asked: str) -> dict[str, str]:
    """As `_tables_files`, by another process; asked for is JSON of a home and datasets."""
    root, datasets = json.loads(asked)
    with no_collection():
        return _tables_files(_contents(Home(Path(root)), datasets))


def _tables_files(contents: Contents) -> dict[str, str]:
    """The files of the pages with tables, by path, and under `_OVERVIEW` what the first page shows of the overview."""
    overview, *tables = build_tables(
        [*contents.records, *contents.last], None, "measured", contents.datasets, contents.home.specs
    )
    published = _published(contents)
    shown = overview_facts(overview)
    with tempfile.TemporaryDirectory() as folder:
        out, summary = Path(folder), _summary(contents)
        _write_rows(out, shown["rows"])
        _write_page(out, summary, "tables", {"tables": tables})
        _write_page(out, summary, "paper", {"tables": published})
        write_tables([overview, *tables], "measured", ("csv", "markdown", "latex"), out / "tables")
        write_tables(published, "compare", ("csv", "markdown", "latex"), out / "tables")
        written = [path for path in sorted(out.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in written}
    html = template("overview").render(**_shared("index"), **shown) if overview.sections else ""
    return {**files, _OVERVIEW: html}


def _published(contents: Contents) -> list[Table]:
    """Beside measured numbers, of each data set that is shown, all that the paper has."""
    specs = load_specs(contents.home.specs)
    numbers = [number for number, spec in specs.items() if spec.paper]
    shown = None
    if contents.datasets is not None:
        known = [name for spec in specs.values() for name in spec.datasets]
        known += sorted({record.data.name for record in contents.records})
        shown = [name for name in dict.fromkeys(known) if name in contents.datasets]
    return build_tables(contents.records, numbers, "compare", shown, contents.home.specs)


def plotly_file() -> Path | None:
    """The chart library as Plotly's Python package brings it; None where that is not installed."""
    found = importlib.util.find_spec("plotly")
    places = (found.submodule_search_locations or []) if found else []
    for folder in places:
        file = Path(folder) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file
    return None


def _contents(home: Home, datasets: Sequence[str] | None) -> Contents:
    every, runs = home_records(home, None), training.runs_of(home, None)
    records, last = ([each for each in every if each.subject.checkpoint_of == which] for which in ("best", "last"))
    known = {record.data.name for record in records} | {config.data.name for _, config in runs}
    for name in datasets or ():
        if name not in known:
            raise unknown_name("dataset (none of its records or runs are here)", name, known)
    if datasets is None:
        return Contents(home, records, last, runs, None)
    shown, ends = ([each for each in some if each.data.name in datasets] for some in (records, last))
    own = [(run, config) for run, config in runs if config.data.name in datasets]
    return Contents(home, shown, ends, own, datasets)


def _pages(session: Session | None, contents: Contents, examples: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each page's name and what its template is given, but for those of tables; the one after the other; the first
    page is the last."""
    yield "training", _training(contents)
    yield "costs", _costs(contents)
    yield "checks", _checks(contents)
    yield "radius", _radius(contents)
    found = gallery(session, contents.runs, contents.records, examples)
    pictures = {picture.file: picture.png for picture in found.pictures}
    yield "examples", {"gallery": found, "wanted": examples if session else 0, "pictures": pictures}
    students = leaderboard.entries(contents.records)
    teachers = leaderboard.entries(contents.records, "teacher")
    yield "classes", _classes([*students, *teachers], contents, found.classes)
    yield "index", _index(students, teachers)


def _index(students: list[leaderboard.Entry], teachers: list[leaderboard.Entry]) -> dict[str, Any]:
    found = {"leaderboard": students, "teachers": teachers}
    return {
        "entries": students,
        "teachers": teachers,
        "rows": {name: Rows.of(name, leaderboard.to_rows(entries)) for name, entries in found.items()},
        "notes": leaderboard.READING,
        "downloads": {
            "leaderboard": [leaderboard.to_plain(students, "Leaderboard")],
            "teachers": [leaderboard.to_plain(teachers, "Teachers")],
        },
    }


def _classes(found: list[leaderboard.Entry], contents: Contents, names: dict[str, Sequence[str]]) -> dict[str, Any]:
    accuracies = classes.class_accuracies(found, {record.id: record for record in contents.records})
    table = classes.worst_table(accuracies, names)
    return {"chart": classes.chart(accuracies, names), "table": table, **_listed("worst-classes", table)}


def _radius(contents: Contents) -> dict[str, Any]:
    groups = grouped(curves(contents.records))
    table = radius.table(groups)
    rows = {"radii": Rows.of("radii", radius.to_rows(groups))}
    return {"chart": radius.chart(groups), "table": table, "rows": rows, "downloads": {"radii": [table]}}


def _training(contents: Contents) -> dict[str, Any]:
    table = training.table(contents.runs)
    pair = training.figure_3(contents.home, contents.runs)
    return {"runs": training.chart(contents.runs, pair), "pair": pair, "table": table, **_listed("runs", table)}


def _costs(contents: Contents) -> dict[str, Any]:
    profiles = [profile for profile in load_profiles(contents.home) if not profile.off]
    shown = [p for p in profiles if contents.datasets is None or p.dataset in contents.datasets]
    profiled, trained = cost_tables(shown), training.costs(contents.records)
    listed = _listed("training-costs", trained)
    if profiled:
        listed["downloads"]["costs"] = profiled
    return {"profiled": profiled, "trained": trained, **listed}


def _checks(contents: Contents) -> dict[str, Any]:
    table = checks.table(contents.records)
    failed = {check.key for row in table.rows if (check := checks.explained(row[-1]))}
    return {"checks": checks.CHECKS, "failed": failed, "table": table, **_listed("failed-checks", table)}


def _listed(name: str, table: PlainTable) -> dict[str, Any]:
    """A table's rows for its page, and the table to download."""
    return {"rows": {name: Rows.of(name, of_texts(table))}, "downloads": {name: [table]}}


def _write_page(out: Path, summary: dict[str, Any], name: str, facts: dict[str, Any]) -> None:
    """A page, the rows and pictures that it does not hold itself, and every table of it as CSV, Markdown and LaTeX."""
    facts = {"rows": {}, "pictures": {}, **facts}
    for file, png in facts["pictures"].items():
        with atomic_path(out / "examples" / file) as temporary:
            temporary.write_bytes(png)
    for rows in facts["rows"].values():
        _write_rows(out, rows)
    write_text_atomically(out / f"{name}.html", template(name).render(**_shared(name), summary=summary, **facts))
    for rows in facts["rows"].values():
        _remove_others(out / "rows", rows.files, [rows.file])
    if name == "examples":
        _remove_others(out / "examples", f"{'?' * 12}.png", facts["pictures"])
    renderers = {"csv": plain_to_csv, "md": plain_to_markdown, "tex": plain_to_latex}
    for title, tables in facts.get("downloads", {}).items():
        for suffix, render in renderers.items():
            shown = tables if suffix == "csv" else [_printed(table) for table in tables]
            write_text_atomically(out / "tables" / f"{title}.{suffix}", render(shown))


def _write_rows(out: Path, rows: Rows) -> None:
    if rows.file:
        write_text_atomically(out / "rows" / rows.file, rows.script)


def _remove_others(folder: Path, pattern: str, kept: Collection[str]) -> None:
    """Remove an earlier report's files, which no page leads to any more."""
    for path in folder.glob(pattern):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _printed(table: PlainTable) -> PlainTable:
    """A table with no more rows than are of use in print; it says what is left out."""
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


def template(name: str) -> Template:
    """The template of a page."""
    return _environment().get_template(f"{name}.html.j2")


def _shared(name: str) -> dict[str, Any]:
    """What every page's template is given."""
    plotly = plotly_file() is not None
    return {"page": name, "pages": PAGES, "formats": FORMATS, "version": __version__, "plotly": plotly}


def _distinct(rows: Iterable[Any], what: str | int) -> list[Any]:
    """What stands in a column of rows, or in an attribute of theirs, each once, in their order."""
    get = attrgetter(what) if isinstance(what, str) else itemgetter(what)
    return list(dict.fromkeys(map(get, rows)))


def _templates() -> Path:
    return Path(__file__).parent / "templates"


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
    environment.globals["number"] = number
    environment.filters["distinct"] = _distinct
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
