"""Where a result came from: a commit in a checkout, a release in an installed package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.system import provenance
from bench.version import __version__


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the harness ran from a package that pip had unpacked into this folder."""
    folder = tmp_path / "bench" / "system"
    folder.mkdir(parents=True)
    shutil.copy(provenance.__file__, folder)
    metadata = tmp_path / f"ard_bench-{__version__}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ard-bench\nVersion: {__version__}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    return tmp_path


def test_an_installed_package_names_its_release(installed: Path) -> None:
    assert provenance.harness() == {"bench": __version__, "git": None, "release": __version__}


def test_a_checkout_names_its_commit_and_no_release() -> None:
    assert provenance.harness()["release"] is None


@pytest.mark.parametrize("spoil", ["its version", "its place", "a source tree"])
def test_what_is_not_the_installed_package_is_no_release(installed: Path, spoil: str) -> None:
    (metadata,) = installed.glob("*.dist-info")
    if spoil == "its version":
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ard-bench\nVersion: 0.0.1\n")
    elif spoil == "its place":
        (installed / "elsewhere").mkdir()
        shutil.move(metadata, installed / "elsewhere" / metadata.name)
    else:
        (installed / "setup.cfg").write_text("")
    assert provenance.harness()["release"] is None


def test_a_copy_without_git_names_the_commit_it_is_told(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed / "setup.cfg").write_text("")
    monkeypatch.setenv("BENCH_COMMIT", "0123456789" * 4)
    assert provenance.harness() == {"bench": __version__, "git": "0123456789" * 4, "release": None}
    monkeypatch.setenv("BENCH_COMMIT", "main")
    with pytest.raises(BenchError, match=r"BENCH_COMMIT=main is no commit\.\nGive all 40 digits"):
        provenance.harness()
