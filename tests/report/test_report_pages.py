"""The pages in a real browser: no error, no network, sorting and filtering, keyboard, phone, hostile names, speed."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.report import site
from bench.runs.folder import all_runs
from bench.system.home import Home

from ..helpers.places import ROOT
from ..helpers.records import RecordMaker
from .homes import keep, make_run

Watch = Callable[..., Any]

HARMLESS = {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
"""What the buttons of a chart may do: Plotly has others that send it to a server."""
HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
    "\"'><svg onload=window.hacked=1>",
    "<a href='javascript:window.hacked=1'>ARD</a>\u2028{{7*7}}",
    '=HYPERLINK("http://example.org","ARD")\u202e',
)


def column(page: Any, key: str) -> list[str]:
    """The texts of a column of the leaderboard, of the rows that are shown."""
    place = page.evaluate(f"document.querySelector('#leaderboard th[data-key={key}]').cellIndex")
    return [  # the number alone, without the interval beneath it
        row.evaluate(f"row => row.cells[{place}].firstChild.textContent")
        for row in page.query_selector_all("#leaderboard tbody tr:not([hidden])")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_all_pages_load_without_errors_and_without_a_network(
    demo_report: Path, watch: Watch, width: int, scheme: str
) -> None:
    with watch(width, color_scheme=scheme) as watched:
        for name in site.PAGES:
            watched.open(demo_report / f"{name}.html")
            page = watched.page
            for chart in page.query_selector_all(".chart"):
                assert chart.query_selector(".main-svg") is not None, name
            buttons = page.query_selector_all(".modebar-btn")
            assert {button.get_attribute("data-title") for button in buttons} <= HARMLESS
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert watched.errors == []
        assert watched.requested == []


def test_a_page_that_asks_the_network_would_be_noticed(tmp_path: Path, watch: Watch) -> None:
    file = tmp_path / "page.html"
    file.write_text("<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>", encoding="utf-8")
    with watch() as watched:
        watched.open(file)
        assert watched.requested == ["http://127.0.0.1:9/x.png"]
        assert any("nothing is not defined" in error for error in watched.errors)


def test_filters(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        assert set(column(page, "attack")) == {"PGD-SAT"}
        assert set(column(page, "student")) == {"digits-cnn"}
        first = column(page, "defense")
        assert page.inner_text("#leaderboard-count").startswith(f"{len(first)} of 210 rows, all of them: digits")
        assert page.is_hidden("#leaderboard-mixed")
        page.select_option("#content select[name=student]", "digits-mobile")
        page.select_option("#content select[name=attack]", "CW∞, transferred")
        assert set(column(page, "attack")) == {"CW∞, transferred"}
        assert set(column(page, "student")) == {"digits-mobile"}
        drawn = page.evaluate("document.getElementById('tradeoff').data.map((trace) => trace.name)")
        page.fill("#content input[name=search]", "ciard")
        assert column(page, "defense") == ["CIARD"]
        page.wait_for_function("document.getElementById('tradeoff').data.length === 1")
        assert drawn != ["CIARD"]
        page.select_option("#content select[name=attack]", "")
        assert len(column(page, "attack")) > 3
        assert "groups that do not compare" in page.inner_text("#leaderboard-mixed")
        page.click("button[type=reset]")
        assert column(page, "defense") == first


def test_sorting(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        robust = [float(text.rstrip("≈†‡")) for text in column(page, "robust")]
        assert robust == sorted(robust, reverse=True)
        page.click("th[data-key=defense] button")
        names = column(page, "defense")
        assert names == sorted(names, key=str.lower)
        page.click("th[data-key=defense] button")
        assert column(page, "defense") == names[::-1]
        page.click("th[data-key=hours] button")
        hours = [float(text) for text in column(page, "hours") if text != "–"]
        assert hours == sorted(hours, reverse=True)
        header = page.query_selector("th[data-key=hours]")
        assert header.get_attribute("aria-sort") == "descending"
        assert page.query_selector("th[data-key=defense]").get_attribute("aria-sort") is None


def test_everything_is_reached_by_keyboard(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "[document.activeElement.tagName, document.activeElement.name || document.activeElement.innerText,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            reached.append(tuple(focused[:2]))
            assert focused[2] != "none", focused  # what is focused is seen to be
            if focused[1] == "attack":
                page.keyboard.type("FGSM")
            if focused[1].startswith("Clean %"):
                page.keyboard.press("Enter")
                break
        assert {("SELECT", name) for name in ("dataset", "student", "attack", "protocol")} <= set(reached)
        assert ("INPUT", "search") in reached
        assert reached[0] == ("A", "Skip to the content")
        assert set(column(page, "attack")) == {"FGSM"}
        assert page.query_selector("th[data-key=clean]").get_attribute("aria-sort") == "descending"


def test_the_theme_can_be_chosen_and_stays(demo_report: Path, watch: Watch) -> None:
    with watch(color_scheme="light") as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")  # light
        page.click("#theme")  # dark
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        surface = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--surface').trim()")
        assert page.evaluate("document.getElementById('tradeoff').layout.paper_bgcolor") == surface
        watched.open(demo_report / "tables.html")
        assert page.inner_text("#theme span") == "dark"


def test_the_pair_of_figure_3_is_drawn_first_and_any_run_after_it(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "training.html")
        page = watched.page
        title = "document.getElementById('curves-{}').layout.title.text"
        assert [page.evaluate(title.format(side)) for side in ("left", "right")] == ["MTARD", "CIARD"]
        lines = page.evaluate(
            "document.getElementById('curves-right').data.filter((trace) => trace.yaxis === 'y')"
            ".map((trace) => [trace.name, ...trace.y])"
        )
        assert lines == [["student", 5, 10, 15], ["robust teacher", 60, 60, 60], ["clean teacher", 60, 60, 60]]
        page.select_option("#run-choice select[name=left]", index=2)
        page.select_option("#run-choice select[name=right]", "")
        assert page.evaluate(title.format("left")) == "Natural"
        assert page.is_hidden("#curves-right")


def test_classes_are_chosen_by_what_they_were_measured_on(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "classes.html")
        page = watched.page
        page.select_option("#class-choice select[name=Attack]", "AutoAttack")
        assert "AutoAttack" in page.inner_text("#classes-note")
        assert page.input_value("#class-choice select[name=Images]") == "50 of 360"
        page.select_option("#class-choice select[name=Student]", "digits-mobile")  # has no AutoAttack
        assert page.input_value("#class-choice select[name=Student]") == "digits-mobile"
        assert page.input_value("#class-choice select[name=Attack]") != "AutoAttack"
        assert watched.errors == []


def test_screenshots_show_the_page(demo_report: Path, watch: Watch, tmp_path: Path) -> None:
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light")):
        with watch(width, color_scheme=scheme) as watched:
            watched.open(demo_report / "index.html")
            picture = watched.page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        assert image.width == width
        assert image.height > 1500
        assert (sum(image.getpixel((5, 300))) < 128 * 3) == (scheme == "dark")  # type: ignore[arg-type]
        assert len(image.getcolors(1 << 24) or ()) > 100  # text, and the colours of a chart


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path, watch: Watch, make_record: RecordMaker) -> None:
    home = Home(tmp_path / "home")
    for i, name in enumerate(HOSTILE):
        record = make_record(label=name, model=name, dataset=HOSTILE[0], setting=name, flags=[name], method=f"m{i}")
        keep(home, record)
    make_run(home, "mtard", label=HOSTILE[0]), make_run(home, "ciard", label=HOSTILE[2])
    out = site.write_report(home, tmp_path / "out").parent
    with watch() as watched:
        page = watched.page
        for name in site.PAGES:
            watched.open(out / f"{name}.html")
            for select in page.query_selector_all("form select"):
                if select.is_visible():
                    select.select_option(index=0)
            for point in page.query_selector_all(".chart .nsewdrag")[:1]:
                point.hover()
            assert page.evaluate("window.hacked") is None, name
            assert page.query_selector_all("a[href^='javascript']") == []
            assert page.query_selector_all("main img, main svg[onload]") == []
        assert watched.errors == []
        assert watched.requested == []
        watched.open(out / "index.html")
        assert sorted(page.locator("#leaderboard tbody th").all_text_contents())[0].startswith("\"'><svg onload=")
        page.select_option("#content select[name=student]", "")
        page.select_option("#content select[name=schedule]", "")
        page.wait_for_function("document.getElementById('tradeoff').data.length === 4")
        legend = page.locator("#tradeoff .legendtext").all_text_contents()
        assert any(text.startswith("</script><script>window.hacked=1") for text in legend)
        assert any(text.startswith("<a href='javascript:") for text in legend)
    lines = (out / "tables" / "leaderboard.csv").read_text(encoding="utf-8").splitlines()
    assert any("'=HYPERLINK" in line for line in lines)
    assert not any(re.search(r'(^|,)"?=HYPERLINK', line) for line in lines)


@pytest.mark.slow
def test_a_home_of_500_records_is_small_and_quick(tmp_path: Path, watch: Watch) -> None:
    code = "import sys, pathlib, perf.growth as g; g.make_home(pathlib.Path(sys.argv[1]), 250, 500, 500)"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=True, timeout=200)
    for folder in all_runs(Home(tmp_path)):
        accuracy = {
            name: {"clean": 0.1234, "robust": 0.1234} for name in ("student", "robust teacher", "clean teacher")
        }
        terms = {f"term_{i}": 0.12345 for i in range(8)}
        lines = [
            json.dumps({"kind": "epoch", "epoch": epoch, "step": 9, "terms": terms, "accuracy": accuracy})
            for epoch in range(100)
        ]
        (folder.path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out = site.write_report(Home(tmp_path), tmp_path / "out").parent
    sizes = {path.name: path.stat().st_size for path in out.rglob("*") if path.is_file()}
    library = sizes.pop("plotly.min.js")
    assert library > 1_000_000
    assert sum(sizes.values()) < 5_000_000, sizes
    for name, ready in (
        ("index", "#leaderboard.ready tbody tr:not([hidden])"),
        ("classes", "#worst-classes.ready tbody tr:not([hidden])"),
    ):
        assert min(seconds_to_use(watch, out / f"{name}.html", ready) for _ in range(2)) < 2, name


def seconds_to_use(watch: Watch, file: Path, ready: str) -> float:
    """Time of the page's own thread until its table is filtered and its chart drawn, whatever else the machine does."""
    with watch() as watched:
        clock = watched.page.context.new_cdp_session(watched.page)
        clock.send("Performance.enable", {"timeDomain": "threadTicks"})
        watched.open(file)
        watched.page.wait_for_selector(ready)
        watched.page.wait_for_selector(".chart .main-svg")
        assert watched.errors == []
        metrics = clock.send("Performance.getMetrics")["metrics"]
    (seconds,) = [metric["value"] for metric in metrics if metric["name"] == "TaskDuration"]
    assert seconds > 0.01
    return float(seconds)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two colours, #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = (ROOT / "bench" / "report" / "templates" / "report.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root[^{]*\{([^}]*)", css)
    ]
    light, dark, dark_of_the_system = blocks
    assert dark == dark_of_the_system
    texts = [
        *((name, ground) for name in ("ink", "muted", "accent") for ground in ("bg", "surface", "raised")),
        *(("paper-ink", "paper-bg"), ("ink", "warn-bg"), ("ink", "good-bg"), ("warn", "warn-bg")),
        *(("warn", "surface"), ("good", "surface")),
    ]
    for theme in (light, dark):
        for name, ground in texts:
            assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
        for i in range(6):  # marks of charts
            assert contrast(theme[f"c{i}"], theme["surface"]) >= 3, i
