"""A home that grows stays quick: a small part of what `python -m perf.growth` measures."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ..helpers.places import ROOT

RUNS, RECORDS = 80, 400  # one or two seeds a row, whose leads are the dearest to test


@pytest.mark.slow
def test_status_and_tables_take_little_longer_than_in_an_empty_home() -> None:
    """The same machine at the same time, empty, is the measure, and of its times the quickest."""
    options = [
        "--command",
        "status",
        "--command",
        "tables",
        "--runs",
        str(RUNS),
        "--records",
        str(RECORDS),
        "--images",
        "1000",
        "--json",
    ]
    command = [sys.executable, "-m", "perf.growth", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    for name, seconds in json.loads(result.stdout).items():
        assert min(seconds["later"]) < 2 * seconds["empty"] + 1, (name, seconds)
        assert seconds["first"] < 2 * seconds["empty"] + 6, (name, seconds)
