"""The pages in a real browser: no error, no network, sorting and filtering, keyboard, phone, hostile names, speed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.report import site
from bench.runs.folder import all_runs
from bench.system.home import Home

from ..helpers.places import ROOT
from ..helpers.records import RecordMaker
from .homes import keep, make_run
from .watching import Watch

HARMLESS = {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
"""What the buttons of a chart may do: Plotly has others that send it to a server."""
MEASURE = (Path(__file__).parent / "measure.js").read_text(encoding="utf-8")
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
def test_all_pages_load_fit_and_can_be_read(demo_report: Path, watch: Watch, width: int, scheme: str) -> None:
    with watch(width, color_scheme=scheme) as watched:
        for name in site.PAGES:
            watched.open(demo_report / f"{name}.html")
            page = watched.page
            for chart in page.query_selector_all(".chart"):
                assert chart.query_selector(".main-svg") is not None, name
            buttons = page.query_selector_all(".modebar-btn")
            assert {button.get_attribute("data-title") for button in buttons} <= HARMLESS
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            found = page.evaluate(MEASURE, width == 1280 and name not in ("tables", "paper"))
            assert found.pop("looked") > 20, name
            assert found == {"low": [], "cut": [], "over": []}, name
        assert watched.errors == []
        assert watched.requested == []


def test_what_cannot_be_read_is_noticed(tmp_path: Path, watch: Watch) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        "<style>body { background: #fff; color: #000 } p::after { content: 'after'; opacity: 0.5 }"
        " ::placeholder { color: #999 } .scroll { width: 9em; overflow: hidden } td { white-space: nowrap }</style>"
        "<p style='color: #767676'>4.54</p><p style='color: #777'>4.48</p><b style='opacity: 0.5'>half</b>"
        "<div style='background: #0008'><i style='color: #333'>on grey</i></div>"
        "<svg><text fill='#999' y='9'>drawn</text></svg><input placeholder='typed'>"
        "<details><summary>more</summary><i style='color: #999'>inside</i></details>"
        "<div class='scroll' aria-label='wide'><table><tr><th scope='row'>name<td>a text of one long line</table>"
        "</div><div class='chart'><span class='legendtext'>one</span><span class='legendtext' style='margin: -1em'>two",
        encoding="utf-8",
    )
    with watch() as watched:
        watched.open(file)
        found = watched.page.evaluate(MEASURE, True)
    texts = [text for text, *_ in found["low"]]
    assert texts == ['"after"', "4.48", '"after"', "half", "on grey", "drawn", "typed", "inside"]
    assert [line.split(" wide:")[0] for line in found["cut"]] == [found["cut"][0], "names of"]
    assert found["cut"][0].startswith("wide: ")
    assert found["over"] == ["one over two"]


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
        assert page.inner_text("#leaderboard-count").startswith(f"{len(first)} of 215 rows, all of them: digits")
        assert page.is_hidden("#leaderboard-mixed")
        page.select_option("form[data-table=leaderboard] select[name=student]", "digits-mobile")
        page.select_option("form[data-table=leaderboard] select[name=attack]", "CW∞, transferred")
        assert set(column(page, "attack")) == {"CW∞, transferred"}
        assert set(column(page, "student")) == {"digits-mobile"}
        drawn = page.evaluate("document.getElementById('tradeoff').data.map((trace) => trace.name)")
        page.fill("form[data-table=leaderboard] input[name=search]", "ciard")
        assert column(page, "defense") == ["CIARD"]
        page.wait_for_function("document.getElementById('tradeoff').data.length === 1")
        assert drawn != ["CIARD"]
        page.select_option("form[data-table=leaderboard] select[name=attack]", "")
        assert len(column(page, "attack")) > 3
        assert "groups that do not compare" in page.inner_text("#leaderboard-mixed")
        page.click("form[data-table=leaderboard] button[type=reset]")
        assert column(page, "defense") == first


def ranks(page: Any) -> list[str]:
    return [name.get_attribute("data-rank") for name in page.query_selector_all("#leaderboard tbody th")]


def test_sorting_and_ranks(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        robust = [float(text.rstrip("≈†‡")) for text in column(page, "robust")]
        assert robust == sorted(robust, reverse=True)
        assert page.get_attribute("#leaderboard th[data-key=robust]", "aria-sort") == "descending"
        by_robust = {
            name: str(1 + robust.index(value)) for name, value in zip(column(page, "defense"), robust, strict=True)
        }
        assert ranks(page) == list(by_robust.values())
        shown = page.locator("#leaderboard tbody th").first.evaluate(
            "name => getComputedStyle(name, '::before').content"
        )
        assert shown == '"1"'
        page.click("#leaderboard th[data-key=defense] button")
        names = column(page, "defense")
        assert names == sorted(names, key=str.lower)
        assert ranks(page) == [by_robust[name] for name in names]  # no rank by name
        page.click("#leaderboard th[data-key=defense] button")
        assert column(page, "defense") == names[::-1]
        page.click("#leaderboard th[data-key=hours] button")
        hours = [float(text) for text in column(page, "hours") if text != "–"]
        assert hours == sorted(hours, reverse=True)
        assert ranks(page)[-1] == "1"  # the least is best
        assert page.get_attribute("#leaderboard th[data-key=hours]", "aria-sort") == "descending"
        assert page.get_attribute("#leaderboard th[data-key=defense]", "aria-sort") is None
        assert "Sorted by Training h, highest first. Ranks: by Training h" in page.inner_text("#leaderboard-count")
        clean = {
            name: float(text.rstrip("†‡"))
            for name, text in zip(*(column(page, k) for k in ("defense", "clean")), strict=True)
        }
        page.click("#leaderboard th[data-key=clean] button")
        page.fill("form[data-table=leaderboard] input[name=search]", "ard")
        found = column(page, "defense")
        assert 1 < len(found) < len(clean)  # the rank is among all that compare, not among those found
        assert ranks(page) == [str(1 + sum(other > clean[name] for other in clean.values())) for name in found]
        page.select_option("form[data-table=leaderboard] select[name=student]", "")
        groups = [row.get_attribute("data-group") for row in page.query_selector_all("#leaderboard tbody tr")]
        first = [rank for rank, group in zip(ranks(page), groups, strict=True) if group == groups[0]]
        assert first == sorted(first, key=int)
        assert len(set(groups)) > 1


def test_the_address_holds_filters_and_order(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        page = watched.page
        watched.open(demo_report / "index.html")
        first = column(page, "defense")
        page.select_option("form[data-table=leaderboard] select[name=attack]", "CW∞, transferred")
        filtered = column(page, "robust")
        page.click("#leaderboard th[data-key=clean] button")
        page.locator("form[data-table=leaderboard] input[name=search]").press_sequentially("ard")
        found = column(page, "defense")
        link = page.url
        page.go_back()  # all that was typed at once
        assert page.input_value("form[data-table=leaderboard] input[name=search]") == ""
        assert page.get_attribute("#leaderboard th[data-key=clean]", "aria-sort") == "descending"
        page.go_back()
        assert column(page, "robust") == filtered
        assert page.get_attribute("#leaderboard th[data-key=clean]", "aria-sort") is None
        page.go_back()
        assert column(page, "defense") == first
        assert "#" not in page.url
        page.go_forward()
        assert column(page, "robust") == filtered
        page.click("form[data-table=leaderboard] button[type=reset]")
        assert "#" not in page.url
        page.evaluate("location.hash = 'content'")  # an anchor says nothing of the tables
        assert column(page, "defense") == first
        page.goto(link)
        page.reload()
        assert column(page, "defense") == found
        assert set(column(page, "attack")) == {"CW∞, transferred"}
        assert page.get_attribute("#leaderboard th[data-key=clean]", "aria-sort") == "descending"
        nonsense = (
            f"{page.url.partition('#')[0]}#leaderboard.attack=no&leaderboard.sort=-no&no.x=1&leaderboard.__proto__=1"
        )
        page.goto(nonsense)
        page.reload()
        assert column(page, "defense") == first
        watched.open(demo_report / "classes.html")
        page.select_option("#class-choice select[name=Attack]", "FGSM")
        page.select_option("#worst-classes-form select[name=Attack]", "AutoAttack")
        assert set(page.evaluate("[...new URLSearchParams(location.hash.slice(1)).keys()]")) == {
            "classes.attack",
            "worst-classes.Attack",
        }
        page.reload()
        assert page.input_value("#class-choice select[name=Attack]") == "FGSM"
        assert page.input_value("#worst-classes-form select[name=Attack]") == "AutoAttack"
        assert watched.errors == []


def test_everything_is_reached_by_keyboard(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        reached = []
        for _ in range(80):
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
        assert page.query_selector("#leaderboard th[data-key=clean]").get_attribute("aria-sort") == "descending"


def test_the_overview_is_first_with_the_worst_of_all_attacks(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        page = watched.page
        watched.open(demo_report / "index.html")
        assert page.evaluate("document.querySelector('table').id") == "overview"
        headers = page.locator("#overview th:visible button").all_text_contents()
        assert headers[:4] == ["Defense", "Worst", "Clean", "FGSM"]
        assert "AutoAttack" not in headers  # not measured on all images
        assert page.get_attribute("#overview th[data-key=Worst]", "aria-sort") == "descending"
        rows = page.locator("#overview tbody tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].slice(6, -1).map((cell) => parseFloat(cell.textContent)))"
        )
        assert len(rows) == 15
        assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
        assert all(row[0] <= min(value for value in row if value == value) for row in rows)
        page.select_option("form[data-table=overview] select[name=Images]", "50 of 360 images")
        headers = page.locator("#overview th:visible button").all_text_contents()
        assert headers == ["Defense", "Worst", "Clean", "AutoAttack", "Seeds"]
        page.reload()
        assert page.locator("#overview th:visible button").all_text_contents() == headers
        assert page.inner_text("#leaderboard-count").startswith("15 of")  # it has a filter of its own
        assert watched.errors == []


def test_a_chart_keeps_its_height_in_another_window(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        watched.open(demo_report / "index.html")
        page = watched.page
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_function("document.getElementById('tradeoff').layout.legend.orientation === 'h'")
        assert page.evaluate("document.getElementById('tradeoff').clientHeight") > 400
        assert page.evaluate("document.querySelector('#tradeoff .main-svg').clientWidth") <= 390
        assert watched.errors == []


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
        assert [page.inner_text(f"#curves-{side}-name") for side in ("left", "right")] == ["MTARD", "CIARD"]
        lines = page.evaluate(
            "document.getElementById('curves-right').data.filter((trace) => trace.yaxis === 'y')"
            ".map((trace) => [trace.name, ...trace.y])"
        )
        assert lines == [["student", 5, 10, 15], ["robust teacher", 60, 60, 60], ["clean teacher", 60, 60, 60]]
        page.select_option("#run-choice select[name=left]", index=2)
        page.select_option("#run-choice select[name=right]", "")
        page.reload()
        assert page.inner_text("#curves-left-name") == "Natural"
        assert page.is_hidden("#curves-right")
        page.go_back()
        assert page.inner_text("#curves-right-name") == "CIARD"


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


def test_pictures_are_loaded_as_they_are_scrolled_to(demo_report: Path, watch: Watch) -> None:
    with watch(390) as watched:
        loaded: list[str] = []
        watched.page.on("request", lambda request: loaded.append(request.url) if "/examples/" in request.url else None)
        watched.open(demo_report / "examples.html")
        page = watched.page
        pictures = set(page.locator("main img").evaluate_all("pictures => pictures.map((picture) => picture.src)"))
        assert 0 < len(set(loaded)) < len(pictures)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function("[...document.images].slice(-3).every((image) => image.naturalWidth)")
        for place in range(0, page.evaluate("document.body.scrollHeight"), 2000):
            page.evaluate(f"scrollTo({{ top: {place}, behavior: 'instant' }})")
            page.wait_for_timeout(20)
        page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
        assert set(loaded) == pictures
        assert watched.errors == []


def test_charts_say_what_is_missing_without_plotly_and_all_else_works(demo_report: Path, watch: Watch) -> None:
    with watch() as watched:
        page = watched.page
        page.route("**/plotly.min.js", lambda route: route.abort())
        for name in ("index", "radius", "training"):
            watched.open(demo_report / f"{name}.html")
            notice = page.locator("section .notice", has_text="assets/plotly.min.js")
            assert notice.count() == 1
            assert "pip install 'ard-bench[report]'" in notice.inner_text()
            assert page.locator(".chart:visible").count() == 0
        watched.open(demo_report / "index.html")
        page.select_option("form[data-table=leaderboard] select[name=attack]", "FGSM")
        assert set(column(page, "attack")) == {"FGSM"}
        assert {error.rpartition(": ")[2] for error in watched.errors} == {"net::ERR_FAILED"}  # the script itself


def test_without_javascript_tables_and_examples_are_there(demo_report: Path, watch: Watch) -> None:
    with watch(java_script_enabled=False) as watched:
        for name in site.PAGES:
            watched.open(demo_report / f"{name}.html")
            assert watched.page.locator("noscript p", has_text="Without JavaScript").is_visible(), name
            assert watched.page.locator(".chart:visible, .filters:visible").count() == 0, name
            if name != "examples":
                assert watched.page.locator("table:visible tbody td, p.notice.good").count() > 0, name
        assert watched.errors == []


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
        page.select_option("form[data-table=leaderboard] select[name=student]", "")
        page.select_option("form[data-table=leaderboard] select[name=schedule]", "")
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
        watched.page.wait_for_selector(".chart .main-svg, .heat td")
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
