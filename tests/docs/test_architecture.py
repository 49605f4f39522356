"""The page on the architecture names every folder, and only files that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bench import registry

from ..helpers.places import DOCS, ROOT

PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
CODE = ("attacks", "bench", "methods", "perf")


def test_every_folder_has_its_sentence() -> None:
    packages = {path.parent.relative_to(ROOT) for top in CODE for path in (ROOT / top).rglob("__init__.py")}
    named = set(re.findall(r"^\| `([a-z/_]+)/` \|", PAGE, re.MULTILINE))
    assert named == {package.as_posix() for package in packages} | {"results", "tables"}


def test_the_layers_are_those_that_are_checked() -> None:
    shown = PAGE.split("```text\ncli\n")[1].split("```")[0].splitlines()
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    checked = re.search(r"^layers = \[\n(.*?)^\]", config, re.MULTILINE | re.DOTALL)
    assert checked is not None
    layers = re.findall(r'"(.+)"', checked[1])
    assert ["cli", *(line.replace(", ", " : ") for line in shown)] == layers


def test_the_harness_names_no_defense_and_no_attack() -> None:
    """But in the suites and the checks of them; `ciard` is also the kind of a schedule, which run ids have in them."""
    names = {*registry.names("methods"), *registry.names("attacks")} - {"score"}  # which is a word of statistics, too
    found = {
        (path.relative_to(ROOT).as_posix(), node.value)
        for path in (ROOT / "bench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    allowed = {"bench/evaluation/suites.py", "bench/evaluation/sanity.py"}
    assert {each for each in found if each[0] not in allowed} == {("bench/recipes/schedule.py", "ciard")}


def test_directly_in_bench_are_ten_modules_at_most() -> None:
    assert len(list((ROOT / "bench").glob("*.py"))) <= 10


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_files_of_the_code_that_a_page_names_exist(page: Path) -> None:
    named = set(
        re.findall(rf"`((?:{'|'.join(CODE)}|tests)/[a-z0-9_/]+\.[a-z0-9.]+)`", page.read_text(encoding="utf-8"))
    )
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
