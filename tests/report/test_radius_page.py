"""The page of accuracy over the radius: its numbers, its chart in a browser, and what it says without any."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench.figures.radius import curves, grouped
from bench.report import radius, site
from bench.report.classes import MOST_NETWORKS
from bench.stats import wilson_interval
from bench.system.home import Home

from ..helpers.records import RecordMaker
from .homes import keep
from .watching import Watch

EPS = 8 / 255
SPREAD = np.linspace(0.0, 2.5, 60) * EPS
"""Of sixty samples: the first is wrong without attack."""
GRID = np.ceil(np.round(4 * SPREAD / EPS, 6)) / 4 * EPS


@pytest.fixture
def home(tmp_path: Path, make_record: RecordMaker) -> Home:
    """Eight networks that compare, the farther the later, and one within L2."""
    home, names = Home(tmp_path / "home"), ("sat", "trades", "ard", "iad", "rslad", "mtard", "b-mtard", "ciard")
    for i, method in enumerate(names):
        scale = 0.5 + 0.1 * i
        checked = np.where(GRID > 2 * EPS, np.inf, GRID)
        keep(home, make_record(radii={"fmn": scale * SPREAD, "pgd-curve": checked}, n=60, method=method))
    far = np.where(np.arange(60) < 20, 0.1, np.inf)
    keep(home, make_record(radii={"fmn": far}, n=60, norm="l2", eps=0.5, label="<b>bold</b>"))
    return home


def test_the_table_and_the_chart_have_the_numbers_of_the_radii(home: Home) -> None:
    out = site.write_report(home, home.root / "out").parent
    html = (out / "radius.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((out / "tables" / "radii.csv").read_text(encoding="utf-8").splitlines()))
    by_defense = {row["Defense"]: row for row in rows}
    assert len(rows) == 9
    sat = by_defense["SAT"]
    found = (0.5 * SPREAD).astype(np.float32).astype(float)
    assert float(sat["Median radius"]) == pytest.approx(np.median(found), rel=5e-3)
    for share, name in ((0, "No attack %"), (0.5, "0.5 eps %"), (1, "1 eps %")):
        right = int((found > share * EPS).sum())
        low, high = (100 * bound for bound in wilson_interval(right, 60))
        assert sat[name] == f"{100 * right / 60:.2f} ({low:.1f} to {high:.1f})"
    assert float(sat["PGD, 1 eps %"]) == pytest.approx(100 * (GRID > EPS * 1.0001).mean(), abs=0.005)
    bold = by_defense["<b>bold</b>"]
    assert (bold["Median radius"], bold["Threat"], bold["PGD, 1 eps %"]) == ("beyond all found", "L2, eps = 0.5", "–")
    (text,) = re.findall(r'<script type="application/json" id="radius-data">(.*?)</script>', html, re.DOTALL)
    chart = json.loads(text)
    (many,) = (choice for choice in chart["choices"] if len(choice["networks"]) == 8)
    assert [network["name"] for network in many["networks"]][::7] == ["CIARD", "SAT"]  # the largest median first
    drawn = many["networks"][-1]
    assert drawn["right"] == [int((found > r).sum()) for r in np.linspace(0, 2 * EPS, len(drawn["right"]))]
    low, high = chart["intervals"][f"{drawn['right'][0]}/60"]
    assert (low, high) == tuple(round(100 * bound, 1) for bound in wilson_interval(drawn["right"][0], 60))
    assert len(drawn["checked"]) == 8


def test_no_more_networks_than_can_be_told_apart(make_record: RecordMaker) -> None:
    records = [make_record(radii={"fmn": SPREAD}, n=60, method=f"m{i}") for i in range(MOST_NETWORKS + 3)]
    groups = grouped(curves(records))
    (choice,) = radius.chart(groups)["choices"]
    assert (len(choice["networks"]), choice["left_out"]) == (MOST_NETWORKS, 3)
    assert len(radius.table(groups).rows) == len(records)


def test_without_radii_it_says_what_to_run(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path)
    keep(home, make_record())
    html = site.write_report(home, tmp_path / "out").with_name("radius.html").read_text(encoding="utf-8")
    assert "bench eval --suite curve" in html
    assert "charts.js" not in html


def test_unseen_threats_and_corruptions_are_on_the_page_of_tables(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path)
    counts = {"clean": 90, "apgd@l2:0.5": 40, "apgd@1.5x": 20, "geometric": 50}
    counts |= {f"corruption-{kind}-3": 60 for kind in ("snow", "frost")}
    keep(home, make_record(counts, parameters={"in_ball": False}))
    out = site.write_report(home, tmp_path / "out").parent
    html = (out / "tables.html").read_text(encoding="utf-8")
    for name in ("unseen", "corruptions"):
        assert f'<section class="table" id="{name}">' in html
        assert f'<a href="#{name}">{name.capitalize()}</a>' in html
        for suffix in site.FORMATS:
            assert f'href="tables/{name}.{suffix}"' in html
            assert (out / "tables" / f"{name}.{suffix}").is_file()
    assert "Table unseen" not in html


def test_the_curves_are_drawn_and_the_address_holds_which(home: Home, watch: Watch) -> None:
    out = site.write_report(home, home.root / "out").parent
    with watch() as watched:
        page = watched.page
        watched.open(out / "radius.html")
        lines = "document.getElementById('radius-chart').data.filter((trace) => trace.showlegend)"
        drawn = page.evaluate(f"{lines}.map((trace) => [trace.name])")
        first = page.input_value("#radius-choice select")
        assert [name for name, *_ in drawn] == ["&lt;b&gt;bold&lt;/b&gt; (beyond all found)"]
        page.select_option("#radius-choice select", index=1)
        page.reload()
        assert page.input_value("#radius-choice select") != first
        many = page.evaluate(f"{lines}.map((trace) => [trace.line.color, trace.line.dash].join())")
        assert len(set(many)) == len(many) == 8
        page.go_back()
        assert page.evaluate(f"{lines}.length") == 1
        assert watched.errors == []
        assert watched.requested == []
        page.select_option("#radii-form select[name=Threat]", "L2, eps = 0.5")
        assert page.locator("#radii tbody th").all_text_contents() == ["<b>bold</b>"]
