"""A document set by a real TeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def set_by_latex(document: Path) -> str:
    """What pdflatex says of a document, which it must be able to set; skips where it is not installed."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", document.name],
        cwd=document.parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("the LaTeX package booktabs is not installed")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
