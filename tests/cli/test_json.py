"""`--json`: plain JSON with keys that scripts can rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..helpers.commands import Bench
from ..helpers.places import DEMO, DOCS


def test_compare_prints_json_by_either_name(bench: Bench) -> None:
    runs = ["digits_digits-cnn_ciard_demo_s0_f10fbc4d", "digits_digits-cnn_sat_demo_s0_2da58188"]
    short = bench("compare", *runs, "--json", home=DEMO)
    assert short.code == 0, short
    assert short.out == bench("compare", *runs, "--format", "json", home=DEMO).out
    assert json.loads(short.out).keys() == {"level", "sides", "answers", "contrasts", "left_out"}


def test_keys_that_scripts_rely_on(bench: Bench, trained: Path) -> None:
    """docs/monitoring.md promises them."""
    page = (DOCS / "monitoring.md").read_text()

    def promised(command: str) -> set[str]:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{command}"))
        return {code for code in re.findall(r"`([^`]+)`", row.split("|")[2]) if re.fullmatch(r"\w+", code)}

    (run, *_) = json.loads(bench("status", "--json", home=trained).out)
    assert run.keys() == promised("bench status")
    assert json.loads(bench("explain", "sat", "--json").out).keys() == promised("bench explain")
    table, *_ = json.loads(bench("tables", "--json", "--datasets", "digits", home=DEMO).out)
    assert table["table"] == "overview"
    assert table.keys() | table["cells"][0].keys() >= promised("bench tables")
    (teacher, *_) = json.loads(bench("teacher", "list", "--json", home=trained).out)
    assert promised("bench teacher list") <= teacher.keys()
    for kind in ("methods", "attacks", "models", "datasets", "loggers", "suites", "recipes", "sweeps", "speedups"):
        rows = json.loads(bench("list", kind, "--json", home=trained).out)
        assert rows
        assert all("name" in row for row in rows), kind
    assert all("number" in row for row in json.loads(bench("list", "tables", "--json", home=trained).out))
