"""`--json`: plain JSON with keys that scripts can rely on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..helpers.commands import Bench
from ..helpers.places import DEMO, DOCS


def test_compare_prints_json_by_either_name(bench: Bench) -> None:
    runs = ["digits_digits-cnn_ciard_demo_s0_091acc2d", "digits_digits-cnn_sat_demo_s0_3666d965"]
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

    for command, kind in (("status", "status"), ("teacher list", "status"), ("results list", "results list")):
        rows = json.loads(bench(*command.split(), "--json", home=trained).out)
        assert {frozenset(row) for row in rows} == {frozenset(promised(f"bench {kind}"))}
    assert json.loads(bench("explain", "sat", "--json").out).keys() == promised("bench explain")
    table, *_ = json.loads(bench("tables", "--json", "--datasets", "digits", home=DEMO).out)
    assert table["table"] == "overview"
    assert table.keys() | table["cells"][0].keys() >= promised("bench tables")
    power = json.loads(bench("power", "--difference", 1, "--seeds", 3, "--images", 100, "--json", home=trained).out)
    assert power.keys() | power["plans"][0].keys() | power["plans"][0]["number"].keys() == promised("bench power")
    for kind in ("methods", "attacks", "models", "datasets", "loggers", "suites", "recipes", "sweeps", "speedups"):
        rows = json.loads(bench("list", kind, "--json", home=trained).out)
        assert rows
        assert all("name" in row for row in rows), kind
    assert all("number" in row for row in json.loads(bench("list", "tables", "--json", home=trained).out))


LISTS = {"teachers", "variants", "attacks", "flags", "suites", "over", "interval", "differences", "sides", "runs"}
ACCURACIES = {"accuracy", "worst_accuracy", "correct"}


def members(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of JSON, at any depth."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield key, value
        yield from members(value)
    for value in content if isinstance(content, list) else ():
        yield from members(value)


@pytest.mark.parametrize(
    "command",
    [
        *("status", "teacher list", "results list", "eval --suite whitebox --limit 16", "results validate"),
        *("list methods", "list suites", "list attacks", "compare sat ciard"),
    ],
)
def test_one_shape_for_all(bench: Bench, trained: Path, command: str) -> None:
    result = bench(*command.split(), "--json", home=trained)
    assert result.code == 0, result
    content = json.loads(result.out, parse_constant=pytest.fail)  # no NaN and no Infinity, which are no JSON
    if isinstance(content, list):
        assert len({tuple(row) for row in content}) == (1 if content else 0)
    for key, value in members(content):
        if key in LISTS:
            assert value is None or isinstance(value, (list, dict)), (key, value)
        if key in ACCURACIES:
            assert value is None or isinstance(value, int) or 0 <= value <= 1, (key, value)
        assert not isinstance(value, str) or not value.endswith("%"), (key, value)
