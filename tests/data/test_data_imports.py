"""Importing bench.data stays light: what a single source needs is imported when that source is loaded."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torchvision", "pyarrow", "sklearn", "PIL", "rich")


def test_importing_the_package_imports_no_source() -> None:
    code = f"import sys, bench.data; print(*sorted(set(sys.modules) & set({HEAVY})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
