"""The pages and the docstrings of the public contracts become a site, and no warning is let pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..helpers.places import DOCS

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install -e '.[docs]'")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does; the network is out of reach."""
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "doctrees"), str(source), str(out / "site")]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, *command], env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    folder = tmp_path_factory.mktemp("docs")
    result = build(DOCS, folder)
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "site"


def test_it_has_every_page_and_the_contracts(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert (site / f"{page.stem}.html").exists()
        assert page.stem == "index" or f'href="{page.stem}.html"' in index
    api = (site / "api.html").read_text(encoding="utf-8")
    names = (
        "bench.evaluate",
        "bench.training.TrainingStep",
        "bench.defense.Defense.loss",
        "bench.attack.Attack.run",
    )
    for name in (*names, "bench.records.Record", "bench.stats.mcnemar"):
        assert f'id="{name}"' in api
    assert "SHA-256 of all the rest" in api  # a record's fields are described, too


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert 'rel="stylesheet" href="http' not in text


@pytest.mark.parametrize(
    ("addition", "warning"),
    [
        ("[nowhere](no-such-page.md)", "no-such-page"),
        ("[a place](statistics.md#no-such-heading)", "no-such-heading"),
        ("```{eval-rst}\n.. autofunction:: bench.no_such_function\n```", "no_such_function"),
    ],
    ids=["page", "heading", "name"],
)
def test_a_link_or_a_name_that_leads_nowhere_fails_it(tmp_path: Path, addition: str, warning: str) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    shutil.copy(DOCS / "conf.py", source)
    shutil.copy(DOCS / "statistics.md", source)
    (source / "index.md").write_text(f"# Title\n\n```{{toctree}}\nstatistics\n```\n\n{addition}\n", encoding="utf-8")
    result = build(source, tmp_path)
    assert result.returncode != 0
    assert warning in result.stderr
