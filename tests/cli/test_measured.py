"""What was measured reaches the screen: `bench results list`, `bench status`, and the table of `bench eval`."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench.evaluation.suites import SUITES, strength
from bench.records.files import write_record
from bench.records.record import Record
from bench.runs.folder import find_run
from bench.stats import wilson_interval
from bench.system import locks
from bench.system.home import Home

from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.records import BLACKBOX, WHITEBOX, RecordMaker

RUN = "cifar10_resnet18_sat_official_s0_a1b2c3d4"
FLAG = "the gradient vanishes on 16 of 16 samples"


def at(record: Record, hour: int) -> Record:
    return record.model_copy(update={"created": f"2026-01-01T{hour:02d}:00:00+00:00"})


@pytest.fixture
def measured(make_record: RecordMaker, tmp_path: Path) -> Path:
    """A run under two suites, the newest; a teacher; two networks from elsewhere, one on fewer images."""
    fgsm = np.arange(100) % 2 == 0
    records = [
        at(make_record({"clean": 80, "fgsm": fgsm, "pgd-sat": 50}, run=RUN, flags=[FLAG]), 1),
        at(make_record({**BLACKBOX, "clean": 80}, run=RUN), 9),
        at(make_record(run="a_b_robust_c_s0_77778888", kind="teacher", role="robust", model="wrn-34-10"), 3),
        at(make_record(WHITEBOX, kind="checkpoint", method="mine", label="My Own", seed=None), 4),
        at(make_record({"clean": 9, "bim": 4}, n=10, kind="checkpoint", method="few", label="few", seed=None), 5),
    ]
    for record in records:
        write_record(record, Home(tmp_path).records)
    return tmp_path


def test_results_stand_from_weak_attacks_to_strong_ones_and_the_transferred_last() -> None:
    entries = [entry for suite in SUITES.values() for entry in suite.entries if "corruption" not in entry.attack]
    names = {"clean", "mine", *(entry.result for entry in entries)}
    assert sorted(names, key=strength) == [
        *("clean", "fgsm", "bim", "t-pgd", "pgd-20", "pgd-sat", "pgd-trades", "dpgd", "cw-inf", "apgd"),
        *("fmn", "geometric", "mine", "pgd-curve", "autoattack", "square", "transfer:pgd-trades", "transfer:cw-inf"),
        *("pgd-sat@l1", "pgd-sat@l2", "apgd@1.5x", "apgd@l1", "apgd@l2", "square@l1", "square@l2"),
    ]


def test_every_record_is_listed_networks_by_attacks_the_newest_first(bench: Bench, measured: Path) -> None:
    result = bench("results", "list", home=measured)
    assert result.code == 0, result
    # Networks that compare stand together, also where another one is newer than the second of them.
    shown = ["SAT ‡", "My Own", "few", "SAT, robust teacher"]
    places = [result.out.index(f"  {name} ") for name in shown]
    assert places == sorted(places)
    assert "resnet18, official, 300 epochs, on the first 100 of cifar10 (ffffffff), official protocol" in result.out
    head = re.split(r" {2,}", next(line for line in result.out.splitlines() if line.startswith("id")).strip())
    attacks = ["clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf", "square", "pgd-trades", "cw-inf", "worst"]
    assert head == ["id", "defense", "seed", *attacks]
    (line,) = (line for line in result.out.splitlines() if line.startswith("a1b2"))
    low, high = wilson_interval(80, 100)
    assert f"80.0 ±{50 * (high - low):.1f}" in line
    # Of the first 50, which PGD-SAT leaves, FGSM leaves every other; the transferred ones and Square leave more.
    low, high = wilson_interval(25, 100)
    assert line.rstrip().endswith(f"25.0 ±{50 * (high - low):.1f} (of 5)")
    assert result.out.endswith(f"Flag: {RUN}: {FLAG}\n")


def test_a_narrow_terminal_cuts_nothing(bench: Bench, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = bench("results", "list", home=measured).out
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    result = bench("results", "list", home=measured)
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.out)
    tables = [line for line in text.splitlines() if not line.startswith(("resnet18,", "wrn-34-10,", "Acc", "Flag"))]
    assert max(map(len, tables)) <= 80
    assert text.count("\nid ") > wide.count("\nid ")
    for part in {*re.findall(r"[\w.±:-]+", wide)}:
        assert part in text


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", [(RUN, 100), ("record-004", 10), ("record-003", 100), ("a_b_robust_c_s0_77778888", 100)]),
        ("--method sat --student resnet18", [(RUN, 100)]),
        ("--student wrn-34-10", [("a_b_robust_c_s0_77778888", 100)]),
        ("--method mine", [("record-003", 100)]),
        ("--attack bim", [("record-004", 10)]),
        ("--attack square --attack bim --dataset cifar10", [(RUN, 100), ("record-004", 10)]),
    ],
)
def test_filters(bench: Bench, measured: Path, options: str, found: list[tuple[str, int]]) -> None:
    rows = json.loads(bench("results", "list", *options.split(), "--json", home=measured).out)
    assert [(row["id"], row["n"]) for row in rows] == found
    asked = set(re.findall(r"--attack (\S+)", options))
    assert not asked or all(row["results"].keys() <= {"clean", "worst", *asked} for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--method sta", "Unknown method (nothing was measured here of that name) 'sta'. Did you mean 'sat'?"),
        ("--dataset cifar1", "Did you mean 'cifar10'?"),
        ("--attack autoattack", "Known: bim, clean, cw-inf, fgsm"),
        ("--json --csv", "--json and --csv are two forms."),
    ],
)
def test_what_was_not_measured_is_named(bench: Bench, measured: Path, options: str, words: str) -> None:
    assert words in bench("results", "list", *options.split(), home=measured).mistake


def test_scripts_get_numbers_lists_and_null(bench: Bench, measured: Path) -> None:
    row, few, *_ = json.loads(bench("results", "list", "--json", home=measured).out)
    assert (row["short"], row["kind"], row["role"], row["seed"], row["overrides"]) == ("a1b2", "student", None, 0, {})
    assert (row["flags"], few["flags"], few["seed"]) == ([FLAG], [], None)
    assert row["results"]["square"] == {
        "accuracy": 0.75,
        "interval": list(wilson_interval(75, 100)),
        "correct": 75,
        "worst_accuracy": None,
        "surrogate": None,
        "record": "record-001",
        "over": None,
    }
    worst = row["results"]["worst"]
    assert (worst["accuracy"], worst["record"]) == (0.25, None)
    assert worst["over"] == ["clean", "fgsm", "pgd-sat", "square", "transfer:cw-inf", "transfer:pgd-trades"]
    assert "worst" not in few["results"]

    lines = list(csv.DictReader(io.StringIO(bench("results", "list", "--csv", home=measured).out)))
    (line,) = (line for line in lines if (line["id"], line["attack"]) == (RUN, "worst"))
    assert (float(line["accuracy"]), line["over"].split()) == (0.25, worst["over"])
    assert [float(line["low"]), float(line["high"])] == worst["interval"]
    assert {line["seed"] for line in lines} == {"0", ""}


def test_an_empty_home_says_what_to_do(bench: Bench, tmp_path: Path) -> None:
    result = bench("results", "list", home=tmp_path)
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    assert "bench eval --suite whitebox" in result.out
    assert json.loads(bench("results", "list", "--json", home=tmp_path).out) == []
    assert bench("results", "list", "--csv", home=tmp_path).out == ""


def test_eval_ends_with_a_table_of_what_was_asked_for(bench: Bench, home: Path, records: Find) -> None:
    """Of one run anew, of the other from the record that is there."""
    (sat,) = records(home, "_sat_")
    sat.unlink()
    result = bench("eval", "--suite", "whitebox", "--limit", 16, home=home)
    assert result.code == 0, result
    path, blank, caption, head, *lines = result.out.splitlines()
    assert (Path(path), blank) == (sat, "")
    assert caption.startswith("digits-cnn, demo recipe, 1 epoch, first 100 training images, on the first 16 of digits")
    assert head.split() == ["id", "defense", "seed", *("clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf", "worst")]
    assert {line.split()[1] for line in lines[:2]} == {"SAT", "CIARD"}
    accuracies = [result["accuracy"] for result in json.loads(sat.read_text())["results"].values()]
    (line,) = (line for line in lines if line.split()[1:2] == ["SAT"])
    assert re.findall(r"([\d.]+) ±", line)[:-1] == [f"{100 * accuracy:.1f}" for accuracy in accuracies]


def test_eval_for_scripts(bench: Bench, home: Path, runs: Find, records: Find) -> None:
    run = runs(home, "_sat_")[0]
    rows = json.loads(bench("eval", "--suite", "fgsm", "--limit", 4, "--run", run.name, "--json", home=home).out)
    assert [each["checkpoint_of"] for each in rows] == ["best", "last"]
    row = rows[0]
    (path,) = records(home, "fgsm")
    assert (row["id"], row["n"], row["results"].keys()) == (run.name, 4, {"clean", "fgsm"})
    assert row["results"]["fgsm"]["record"] == path.stem
    assert row["results"]["fgsm"]["accuracy"] == json.loads(path.read_text())["results"]["fgsm"]["accuracy"]
    file = ("--checkpoint", run / "best.safetensors", "--student", "digits-cnn", "--dataset", "digits")
    (mine,) = json.loads(bench("eval", "--suite", "fgsm", "--limit", 4, *file, "--json", home=home).out)
    assert (mine["kind"], mine["label"], mine["seed"]) == ("checkpoint", "best", None)
    assert mine["results"]["fgsm"]["accuracy"] == row["results"]["fgsm"]["accuracy"]
    listed = json.loads(bench("results", "list", "--attack", "fgsm", "--json", home=home).out)
    assert [row["id"] for row in listed[:2]] == [mine["id"], run.name]


def test_status_shows_what_is_here_by_names_that_can_be_typed(
    bench: Bench, home: Path, measured: Path, runs: Find
) -> None:
    """Students, teachers, one in training among them, and files from elsewhere, with clean and lowest accuracy."""
    for record in (measured / "results" / "records").iterdir():
        record.rename(home / "results" / "records" / record.name)
    (teacher,) = runs(home, "robust-teacher")
    (teacher / "summary.json").unlink()
    (teacher / "progress.json").write_text('{"epoch": 2, "epochs": 9, "step": 1, "steps": 5, "seconds_left": 60}')
    with locks.held(teacher / "lock", "it is being trained"):
        out = bench("status", home=home).out
        found = json.loads(bench("status", "--json", home=home).out)
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert re.search(r"a1b2 +SAT ‡ +0 +evaluated +80.0% +25.0% worst of 5 +100 ", lines["a1b2"])
    assert re.search(r"record-004 +few +– +evaluated +90.0% +40.0% bim +10 ", lines["record-004"])
    shown = {each["id"]: each["short"] for each in found}
    assert re.search(r"TRADES, robust teacher +0 +running: epoch 2 of 9, 60 s left +", lines[shown[teacher.name]])
    for run in runs(home):
        assert lines[shown[run.name]].rstrip().endswith(f" {run.name}")
        assert find_run(Home(home), shown[run.name]).path == run
    kinds = [each["kind"] for each in found]
    assert kinds == ["student"] * 3 + ["teacher"] * 3 + ["checkpoint"] * 2
    (sat,) = (each for each in found if each["id"] == RUN)
    assert (sat["method"], sat["model"], sat["dataset"], sat["seed"]) == ("sat", "resnet18", "cifar10", 0)
    assert (sat["state"], sat["progress"], sat["n"], sat["flags"]) == ("evaluated", None, 100, [FLAG])
    assert sat["results"]["worst"]["accuracy"] == 0.25
