"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(after: str, language: str) -> str:
    """The first code block of a language after a place in the README."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found, f"no {language} block after {after!r}"
    return found.group(1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's defense, built as the package it says and installed into a folder of its own."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, so the package cannot be built without a download")
    folder = tmp_path_factory.mktemp("stranger")
    source, target = folder / "my_defense", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(_block("`my_defense/pyproject.toml`", "toml"), encoding="utf-8")
    (source / "my_defense.py").write_text(_block("`my_defense/my_defense.py`", "python"), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, timeout=120)
    return target


def _bench(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    environment.pop("BENCH_HOME", None)
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_defense_is_listed_and_trains_without_an_edit_here(installed: Path, tmp_path: Path) -> None:
    # A researcher's folder with packages of the same names as ours, which must not be taken for them.
    for name in ("methods", "attacks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n", encoding="utf-8")
    listed = _bench(installed, tmp_path, "list", "methods", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {"name": "mart-lite", "label": "MART-lite"}.items() <= _named("mart-lite", listed.stdout).items()

    line = next(line for line in README.splitlines() if line.startswith("bench run --method mart-lite"))
    trained = _bench(installed, tmp_path, *line.split()[1:], "--epochs", "1", "--limit-train", "200")
    assert trained.returncode == 0, trained.stderr
    config = json.loads((tmp_path / trained.stdout.strip() / "config.json").read_text(encoding="utf-8"))
    assert config["method"] == "mart-lite"
    assert config["hyperparameters"]["weight"] == 6.0


def test_without_the_package_the_name_is_unknown(tmp_path: Path) -> None:
    failed = _bench(tmp_path, tmp_path, "run", "--method", "mart-lite", "--student", "digits-cnn")
    assert failed.returncode == 2
    assert "Unknown method 'mart-lite'" in failed.stderr
    assert "Traceback" not in failed.stderr


def _named(name: str, listing: str) -> dict[str, str]:
    return next(row for row in json.loads(listing) if row["name"] == name)
