"""What names stand for: ids, beginnings of them and of their hashes, methods, files from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.find import Narrowed, find_networks
from bench.errors import BenchError
from bench.records.files import write_record
from bench.runs.folder import find_run
from bench.system.home import Home
from bench.system.naming import chosen, short_names

from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.records import RecordMaker

SAT = [f"cifar10_resnet18_sat_official_s{seed}_{hashed}" for seed, hashed in enumerate(("a1b2c3d4", "a1b29999", "0f"))]
ARD = "cifar10_resnet18_ard_official_s0_77778888"
MINE = "cifar10_resnet18_mine_c0c0c0c0"


@pytest.fixture
def home(make_record: RecordMaker, tmp_path: Path) -> Home:
    """Three seeds of SAT, one of ARD, and a file from elsewhere that was measured twice."""
    home = Home(tmp_path)
    for seed, run in enumerate(SAT):
        write_record(make_record(run=run, seed=seed, checkpoint=f"{seed:064d}"), home.records)
    write_record(make_record(run=ARD, method="ard"), home.records)
    for suite in ("whitebox", "blackbox"):
        record = make_record(kind="checkpoint", method="mine", label="mine", seed=None)
        write_record(record.model_copy(update={"id": f"{MINE}__{suite}-official-n100"}), home.records)
    return home


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (SAT[0], SAT[:1]),
        ("a1b2c", SAT[:1]),
        ("0f", SAT[2:]),
        ("cifar10_resnet18_sat_official_s1", SAT[1:2]),
        ("sat", SAT),
        ("ard", [ARD]),
        ("mine", [MINE]),
        ("c0c0", [MINE]),
    ],
)
def test_a_name_finds(home: Home, name: str, found: list[str]) -> None:
    said: list[str] = []
    assert [network.name for network in find_networks([name], home, say=said.append)] == found
    assert said == ([] if name in found else [f"{name}: {', '.join(found)}"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a1b2", rf"'a1b2' stands for 2: {SAT[0]}, {SAT[1]}\.\nWrite more"),
        ("cifar10", r"'cifar10' stands for 5: .*, .*\.\n"),
        ("mne", r"Unknown run \(none of its records are here\) 'mne'\. Did you mean 'mine'\?\nKnown: "),
        ("", "stands for 5"),
    ],
)
def test_a_name_that_finds_none_or_several_is_refused(home: Home, name: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        find_networks([name], home)


def test_of_many_runs_the_close_one_is_named_and_the_others_are_not_listed() -> None:
    known = [f"cifar10_resnet18_sat_official_s{seed}_{seed:08x}" for seed in range(40)]
    with pytest.raises(BenchError) as caught:
        chosen("run", "cifar10_resnet18_sat_oficial_s7_00000007", known)
    assert f"Did you mean '{known[7]}'" in str(caught.value)
    assert "`bench status` lists all 40" in str(caught.value)
    assert known[20] not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "vgg16"}, "vgg16 on cifar10"),
        ({"dataset": "digits"}, "resnet18 on digits"),
        ({"setting": "short, 20 epochs"}, "short, 20 epochs: abcd$"),
    ],
)
def test_a_method_that_stands_for_more_than_seeds_says_for_what(
    home: Home, make_record: RecordMaker, change: dict[str, str], words: str
) -> None:
    other: dict[str, Any] = {"run": "x_y_sat_short_s0_abcd1234", **change}
    write_record(make_record(**other), home.records)
    with pytest.raises(BenchError, match="differ in more than the seed: ") as caught:
        find_networks(["sat"], home)
    what, cure = str(caught.value).split("\n")
    assert words.removesuffix("$") in what
    assert "resnet18 on cifar10, official, 300 epochs: a1b2c, a1b29, " in what
    assert "--student" in cure
    assert [network.name for network in find_networks(["abcd"], home)] == [other["run"]]
    narrowed = Narrowed(change.get("model"), change.get("dataset"))
    if narrowed != Narrowed():
        assert [network.name for network in find_networks(["sat"], home, narrowed=narrowed)] == [other["run"]]
        with pytest.raises(BenchError, match="'ard' has no record with --"):
            find_networks(["ard"], home, narrowed=narrowed)


def test_a_method_alone_is_the_defense_as_its_recipe_has_it(home: Home, make_record: RecordMaker) -> None:
    """A teacher that the method trained is no student of it either."""
    write_record(make_record(run="a_b_sat_o_s0_1111", overrides={"steps": 3}), home.records)
    write_record(make_record(run="a_b_robust-teacher_o_s0_2222", kind="teacher", role="robust"), home.records)
    assert [network.name for network in find_networks(["sat"], home)] == SAT


def test_short_names_are_the_shortest_that_stand_for_one_id() -> None:
    ids = [*SAT, ARD, "run-0", "face_resnet18_sat_official_s0_0123abcd", "cifar10_resnet18_ard_short_s0_face0000"]
    ids += ["cifar10_resnet18_mine_5555aaaa", "digits_resnet18_mine_5555aaaa"]  # one file on two data sets
    short = short_names(ids)
    assert [short[one] for one in ids[:6]] == ["a1b2c", "a1b29", SAT[2], "7777", "run-0", "0123"]
    assert short[ids[6]] == "face0"  # `face` is the beginning of an id, too
    assert [short[one] for one in ids[7:]] == ids[7:]
    assert {chosen("run", name, ids) for name in short.values()} == set(ids)


def test_methods_and_beginnings_of_ids_are_compared(bench: Bench, home: Home) -> None:
    result = bench("compare", "sat", "7777", home=home.root)
    assert result.code == 0, result
    assert result.err == f"sat: {', '.join(SAT)}\n7777: {ARD}\n"
    assert "SAT against ARD" in result.out
    assert all(run in result.out for run in (*SAT, ARD))
    narrowed = bench("compare", "sat", "mine", "--student", "vgg16", home=home.root)
    assert "'sat' has no record with --student vgg16; there is: resnet18 on cifar10" in narrowed.mistake


def test_every_command_that_takes_a_run_takes_the_beginning_of_its_hash(
    bench: Bench, trained: Path, runs: Find, tmp_path: Path
) -> None:
    (sat,), home = runs(trained, "_sat_"), Home(trained)
    short = short_names(path.name for path in runs(trained))[sat.name]
    assert find_run(home, short).path == sat
    assert find_run(home, str(sat)).path == sat
    known = bench("eval", "--suite", "whitebox", "--limit", 16, "--run", short, home=trained)
    assert known.code == 0, known
    assert "0 evaluated, 1 had the suite already" in known.err
    assert "stands for 4" in bench("eval", "--suite", "whitebox", "--run", "digits", home=trained).mistake
    exported = bench("export", short, "--format", "safetensors", "--out", tmp_path / "out", home=trained)
    assert exported.code == 0, exported
    assert sat.name in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
