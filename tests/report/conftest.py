"""Homes to report on, and a browser that reaches no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.jobs.train import Request
from bench.system.home import Home

from .homes import EXAMPLES, make_run, session_of
from .watching import Watch, Watched


@pytest.fixture(scope="session")
def demo_report(tmp_path_factory: pytest.TempPathFactory, demo_records: Path) -> Path:
    """The folder of a report on the demo's records, the pair of Figure 3, and two runs with their weights."""
    from bench.evaluation.suites import suite_named
    from bench.jobs.evaluate import Evaluation
    from bench.jobs.train import train
    from bench.report.site import write_report

    home = Home(tmp_path_factory.mktemp("demo"))
    shutil.copytree(demo_records, home.records)
    for method in ("mtard", "ciard"):
        make_run(home, method)
    session = session_of(home)
    for method in ("natural", "sat"):
        asked = Request(
            method=method, student="digits-cnn", dataset="digits", recipe="demo", epochs=2, limit_train=400, seed=7
        )
        folder = train(session, asked)
        for suite in ("pgd-sat", "curve"):
            Evaluation(session, suite_named(suite), "official", limit=20).run(folder)
    return write_report(home, home.root / "report", examples=EXAMPLES, session=session).parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install -e '.[test]')")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs a browser: chromium or google-chrome (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        # As root, which containers often are, its sandbox cannot be set up.
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def watch(browser: Any) -> Watch:
    """watch(width=390): a page of a browser that reaches files alone; what it is denied is listed."""

    @contextmanager
    def opened(width: int = 1280, **options: Any) -> Iterator[Watched]:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        watched = Watched(page)

        def route(handler: Any) -> None:
            url = handler.request.url
            if url.startswith("file:"):
                handler.continue_()
            else:
                watched.requested.append(url)
                handler.abort()

        context.route(lambda url: not url.startswith(("data:", "blob:")), route)
        page.on("console", lambda message: watched.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        yield watched
        context.close()

    return opened
