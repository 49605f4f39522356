"""The pages and the docstrings of the public contracts become a site, and no warning is let pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install -e '.[docs]'")

DOCS = Path(__file__).resolve().parents[2] / "docs"


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does; the network is out of reach."""
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "doctrees"), str(source), str(out / "site")]
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    return subprocess.run(
        [sys.executable, *command], env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=240
    )


def test_it_is_built_without_a_warning_and_has_every_page(tmp_path: Path) -> None:
    result = build(DOCS, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "site" / f"{page.stem}.html").exists()
        assert page.stem == "index" or f'href="{page.stem}.html"' in index
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    names = ("bench.evaluate", "bench.stepping.TrainingStep", "bench.defense.Defense.loss", "bench.attack.Attack.run")
    for name in (*names, "bench.records.Record", "bench.statistics.mcnemar"):
        assert f'id="{name}"' in api
    assert "SHA-256 of all the rest" in api  # a record's fields are described, too


def test_it_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    assert build(DOCS, tmp_path).returncode == 0
    for page in (tmp_path / "site").glob("*.html"):
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
