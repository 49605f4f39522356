"""Tables with more rows than a page holds: a file beside it has all of them, and nothing is lost without a script."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.records.files import read_records
from bench.report import rows, site
from bench.report.rows import Row, Rows
from bench.system.home import Home

from .homes import keep
from .watching import Watch

IN_PAGE = 50
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
ALL = "form[data-table=leaderboard] select[name={}]"
SHOWN = "#leaderboard tbody tr"
NAV = "nav[aria-label$=Leaderboard]"
PREVIOUS, NEXT = (f"{NAV} button:has-text('{name}')" for name in ("Previous", "Next"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, demo_records: Path) -> Iterator[Path]:
    """The folder of a report on the demo's records, one of them with a hostile name, of pages that hold 50 rows."""
    home = Home(tmp_path_factory.mktemp("long"))
    for record in read_records(demo_records):
        hostile = record.subject.method == "sat" and record.subject.model == "digits-mobile"
        changed = record.subject.model_copy(update={"label": HOSTILE} if hostile else {})
        keep(home, record.model_copy(update={"subject": changed}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MOST_IN_PAGE", IN_PAGE)
        yield site.write_report(home, home.root / "report").parent


@pytest.fixture(scope="module")
def page_alone(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page with what its tables need but for the rows, in a folder of its own; it opens in no time."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "assets").mkdir()
    for name in ("assets/address.js", "assets/tables.js", "assets/theme.js", "assets/report.css", "index.html"):
        shutil.copyfile(report / name, folder / name)
    return folder


@pytest.fixture
def page_with_rows(report: Path, page_alone: Path) -> Iterator[Path]:
    """The same with the rows beside it."""
    rows_beside = page_alone / "rows"
    rows_beside.symlink_to(report / "rows")
    yield page_alone
    rows_beside.unlink()


def content(file: Path) -> tuple[str, dict[str, Any]]:
    """The table that a file is of, and what it holds."""
    found = re.fullmatch(r"\(window\.benchRows \?\?= \{\}\)\[(.*?)\] = (.*);\n", file.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1]), json.loads(found[2])


def lines(report: Path, name: str = "leaderboard") -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_page_holds_the_first_rows_and_its_file_all_of_them(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    (address,) = re.findall(r'<script src="(rows/leaderboard-[^"]+)" defer></script>', html)
    name, found = content(report / address)
    defenses = [found["texts"][row[2]] for row in found["rows"]]
    assert name == "leaderboard"
    assert defenses == [str(rows.html(line["Defense"])) for line in lines(report)]
    table = html[html.index('id="leaderboard"') :]
    in_page = re.findall(r'data-group="(\d+)"><th scope="row">(.*?)</th>', table[: table.index("</table>")])
    assert in_page == [(str(row[0]), defense) for row, defense in zip(found["rows"], defenses, strict=True)][:IN_PAGE]
    assert f'data-total="{len(defenses)}"' in html
    assert len(set(found["texts"])) == len(found["texts"])


def test_a_table_that_fits_has_no_file() -> None:
    texts = [Row((rows.html(f"<{i}>"),)) for i in range(rows.MOST_IN_PAGE + 1)]
    fits, longer = Rows.of("runs", texts[1:]), Rows.of("runs", texts)
    assert (fits.in_page, fits.script, fits.file) == (texts[1:], "", "")
    assert (longer.in_page, longer.total) == (texts[:-1], len(texts))
    assert "<" not in longer.script


def test_the_same_rows_have_the_same_file_and_those_of_earlier_reports_are_removed(
    report: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    earlier = ("leaderboard-0123456789ab.js", "runs-0123456789ab.js")  # of another home, of runs that are gone
    for name in (*earlier, "notes.js"):
        (tmp_path / "rows" / name).touch()
    site.write_report(Home(report.parent), tmp_path)
    found = {path.name: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    assert found.pop("notes.js") == b""
    assert found == {path.name: path.read_bytes() for path in (report / "rows").iterdir()}


def test_without_a_script_the_first_rows_are_there_and_it_says_where_all_are(report: Path, watch: Watch) -> None:
    with watch(java_script_enabled=False) as watched:
        watched.open(report / "index.html")
        page = watched.page
        assert page.locator(SHOWN).count() == IN_PAGE
        link = page.locator("noscript a[href='tables/leaderboard.csv']")
        assert link.is_visible()
        assert f"the first {IN_PAGE} of {len(lines(report))} rows" in link.evaluate("a => a.parentElement.textContent")


def place(page: Any) -> str:
    return str(page.inner_text(f"{NAV} [role=status]"))


def show_all(page: Any) -> None:
    for name in ("dataset", "student", "attack", "protocol"):
        page.select_option(ALL.format(name), "")


def test_pages_sorting_and_filters_are_over_all_rows(report: Path, watch: Watch) -> None:
    every = lines(report)
    with watch() as watched:
        watched.open(report / "index.html")
        page = watched.page
        assert page.is_hidden(NAV)  # few enough of one attack
        show_all(page)
        assert page.inner_text("#leaderboard-count").startswith(f"{len(every)} of {len(every)} rows")
        assert place(page) == f"rows 1 to {IN_PAGE} of {len(every)}"
        assert f"{len(every)} rows are too many to tell apart" in page.inner_text("#tradeoff-note")
        seen = []
        while True:
            seen += page.locator(f"{SHOWN} th").all_text_contents()
            if page.get_attribute(NEXT, "aria-disabled") == "true":
                break
            page.click(NEXT)
        assert seen == [line["Defense"] for line in every]
        page.click(NEXT, force=True)  # there is no further page
        assert place(page).endswith(f"to {len(every)} of {len(every)}")
        page.click(PREVIOUS)
        page.click("#leaderboard th[data-key=clean] button")
        assert place(page).startswith("rows 1 to")
        best = sorted((float(line["Clean %"]) for line in every), reverse=True)[:IN_PAGE]
        shown = page.locator(f"{SHOWN} td:nth-child(6)").evaluate_all(
            "cells => cells.map((c) => c.firstChild.textContent)"
        )
        assert [float(text.rstrip("≈†‡")) for text in shown] == best
        page.fill("form[data-table=leaderboard] input[name=search]", every[-1]["Defense"])
        wanted = [line for line in every if every[-1]["Defense"].lower() in line["Defense"].lower()]
        assert page.inner_text("#leaderboard-count").startswith(f"{len(wanted)} of {len(every)} rows")
        assert watched.errors == []
        assert watched.requested == []


def test_pages_are_turned_by_keyboard(report: Path, page_with_rows: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(page_with_rows / "index.html")
        page = watched.page
        show_all(page)
        page.focus(PREVIOUS)
        page.keyboard.press("Tab")
        for key in ("Enter", "Space", *["Enter"] * 9):
            page.keyboard.press(key)
        assert place(page).startswith(f"rows {len(lines(report)) // IN_PAGE * IN_PAGE + 1} to")
        assert page.evaluate("document.activeElement.textContent") == "Next"  # the focus is kept where there is no more
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert place(page).startswith(f"rows {(len(lines(report)) // IN_PAGE - 1) * IN_PAGE + 1} to")


def test_hostile_names_from_the_file_do_nothing(page_with_rows: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(page_with_rows / "index.html")
        page = watched.page
        page.select_option(ALL.format("student"), "digits-mobile")
        assert HOSTILE in page.locator(f"{SHOWN} th").all_text_contents()
        show_all(page)
        page.fill("form[data-table=leaderboard] input[name=search]", "onerror")
        assert set(page.locator(f"{SHOWN} th").all_text_contents()) == {HOSTILE}
        assert page.evaluate("window.hacked") is None


def test_a_page_without_its_file_says_so(report: Path, page_alone: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(page_alone / "index.html")
        page = watched.page
        missing = len(lines(report)) - IN_PAGE
        assert page.locator(".notice", has_text=f"{missing} rows of this table are missing").is_visible()
        assert page.locator(SHOWN).count() > 0
