"""What README.md and docs/ show works as it stands there: every file, every command, every example."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest

from bench.records.files import read_records

from ..helpers.commands import Bench, Process
from ..helpers.places import DOCS, ROOT

FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
"""Pages that are no part of the site."""

PAGES = [*FRONT, *sorted(DOCS.glob("*.md"))]
PLUGINS = [DOCS / "add-a-defense.md", DOCS / "add-an-attack.md", DOCS / "extending.md"]
"""Pages that build and install a package; each has a test of its own below."""

Follow = Callable[[Path, Path], list[Any]]
Read = Callable[[Path], list[Any]]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in PLUGINS], ids=named)
def test_what_a_page_shows_runs(page: Path, reader: Path, follow: Follow) -> None:
    follow(page, reader)


@pytest.mark.slow
def test_the_defense_of_its_page_is_a_package_that_trains(
    reader: Path, follow: Follow, process: Process, tmp_path: Path
) -> None:
    # A researcher's folder with packages of the same names as ours, which must not be taken for them.
    for name in ("methods", "attacks"):
        (reader / name).mkdir()
        (reader / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n", encoding="utf-8")
    follow(DOCS / "add-a-defense.md", reader)
    (run,) = (reader / "results" / "runs").glob("*mart-lite*")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["method"], config["label"], config["hyperparameters"]["weight"]) == ("mart-lite", "MART-lite", 6.0)
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["terms"].keys() == {"loss", "ce_adv", "boosted_kl"}
    assert list((reader / "results" / "records").glob("*mart-lite*whitebox*.json"))

    options = ("run", "--method", "mart-lite", "--student", "digits-cnn", "--dataset", "digits")
    without = process(*options, cwd=tmp_path, module=True)
    assert "Unknown method 'mart-lite'" in without.mistake


@pytest.mark.slow
def test_the_attack_of_its_page_is_a_package_that_attacks(reader: Path, follow: Follow) -> None:
    done = follow(DOCS / "add-an-attack.md", reader)
    (listed,) = (each.out for each in done if each.command == ("bench", "list", "attacks"))
    assert "pgd-dlr" in listed
    assert any(each.command == ("python",) for each in done)  # the page's own check, which asserts
    for protocol, steps in (("official", 20), ("paper", 100)):
        paths = list((reader / "results" / "records").glob(f"*pgd-dlr-{protocol}*.json"))
        assert len(paths) == 4  # of two students the best and the last weights
        for path in paths:
            result = json.loads(path.read_text(encoding="utf-8"))["results"]["pgd-dlr"]
            assert result["parameters"]["steps"] == steps
            assert result["worst"] is not None


@pytest.mark.slow
def test_the_data_set_the_model_and_the_table_of_their_page_go_together(reader: Path, follow: Follow) -> None:
    shutil.rmtree(reader / "results")  # so that the page's own runs are the only ones
    done = {each.command: each.out for each in follow(DOCS / "extending.md", reader)}
    assert "my-npz:*" in done["bench", "list", "datasets"]
    assert "narrow-*" in done["bench", "list", "models"]
    runs = sorted(path.name.split("_")[:3] for path in (reader / "results" / "runs").iterdir())
    own = [["my-npz-blobs", "narrow-8", method] for method in ("sat", "trades")]
    assert runs == [["blobs", "net", "natural"], ["blobs", "net", "sat"], *own]
    records = list(read_records(reader / "results" / "records"))
    suites = {(record.data.name, record.subject.method): record.suite for record in records}
    assert suites == {
        **{("blobs", method): "fgsm,pgd-sat" for method in ("natural", "sat")},
        **{("my-npz:blobs", method): "whitebox" for method in ("sat", "trades")},
    }
    # The file holds the images that the notebook had.
    assert len({record.data.fingerprint for record in records}) == 1
    table = next((reader / "results" / "tables").glob("table9*.md")).read_text(encoding="utf-8")
    shown = {f"{100 * record.results['fgsm'].accuracy:.2f}" for record in records if record.suite == "whitebox"}
    assert all(number in table for number in shown)


def test_a_page_with_a_package_has_its_own_test(read: Read) -> None:
    installs = ("pip", "install", "./")
    found = [
        page
        for page in PAGES
        if any((*words[:2], words[-1][:2]) == installs for block in read(page) for words in block.commands)
    ]
    assert found == PLUGINS


@pytest.mark.parametrize("page", FRONT, ids=named)
def test_a_link_of_a_page_outside_the_site_leads_somewhere(page: Path) -> None:
    """Sphinx sees to those of the site."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in slugs, target


def test_every_shown_command_is_one_that_the_command_line_takes(bench: Bench, read: Read, instead: Any) -> None:
    """Also those that are run in small, or not at all: parsed as they are written, not invoked."""
    shown = {words for page in PAGES for block in read(page) for words in block.commands if "bench" in words}
    assert shown
    with patch.object(click.Command, "invoke", lambda self, context: None):
        for words in sorted(shown | {small for small in instead.small.values() if "bench" in small}):
            result = bench(*words[words.index("bench") + 1 :])
            assert result.code == 0, (shlex.join(words), result.err)


def test_what_is_run_in_place_of_a_command_has_its_options(instead: Any) -> None:
    for words, small in instead.small.items():
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= {word.partition("=")[0] for word in small}, shlex.join(words)
        assert words[:2] == small[:2], shlex.join(words)


def test_the_list_of_commands_has_none_that_no_page_shows(read: Read, instead: Any) -> None:
    shown = {words for page in PAGES for block in read(page) for words in block.commands}
    assert {shlex.join(words) for words in instead.small if words not in shown} == set()
    assert {shlex.join(words) for words in instead.not_run if words not in shown} == set()
    assert not instead.small.keys() & instead.not_run.keys()
