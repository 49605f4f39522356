"""One threat from the command line to records, tables and comparisons, beside others and apart from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.records.files import read_record, write_record
from bench.records.record import Record
from bench.system.home import Home

from ..helpers.commands import Bench
from ..helpers.records import RecordMaker


def records(home: Path) -> dict[str, Record]:
    """By the part of the id that says how it was evaluated."""
    found = [read_record(path) for path in sorted(Home(home).records.glob("*_sat_*.json"))]
    return {record.id.partition("__")[2]: record for record in found}


def test_every_threat_of_a_network_has_a_record_of_its_own_and_none_is_measured_twice(bench: Bench, home: Path) -> None:
    run = next((home / "results" / "runs").glob("*_sat_demo_s0_*"))
    config = json.loads((run / "config.json").read_text())
    assert not {"norm", "asked"} & config["data"].keys(), "a run under the usual threat is as it was"
    asked = ("eval", "--suite", "fgsm", "--run", run.name, "--checkpoint-of", "best", "--limit", 16)
    for options in (("--eps", "1/16"), ("--threat", "l2:0.5"), ("--threat", "linf:2/16")):
        assert bench(*asked, *options, home=home).code == 0
    found = {how: str(record.data.threat) for how, record in records(home).items() if how.startswith("fgsm")}
    assert found == {
        "fgsm-official-eps0.0625-n16": "linf:0.0625",
        "fgsm-official-l2-eps0.5-n16": "l2:0.5",
        "fgsm-official-n16": "linf:0.125",
    }
    under_l2 = records(home)["fgsm-official-l2-eps0.5-n16"].results["fgsm"].parameters
    assert (under_l2["norm"], under_l2["eps"]) == ("l2", 0.5)
    again = bench(*asked, "--threat", "l2:1/2", home=home)
    assert "0 evaluated, 1 had the suite already" in again.err
    checked = bench("results", "validate", home=home)
    assert (checked.code, "0 errors, 0 warnings" in checked.out) == (0, True), checked


def test_a_run_under_another_threat_is_another_run_that_says_so(bench: Bench, home: Path) -> None:
    usual: tuple[str, ...] = (
        "run",
        "--method",
        "sat",
        "--student",
        "digits-cnn",
        "--dataset",
        "digits",
        "--recipe",
        "demo",
    )
    usual += ("--epochs", "1", "--limit-train", "60", "--batch-size", "30")
    folders = [
        bench(*usual, *threat, home=home)
        for threat in ((), ("--threat", "linf:2/16"), ("--threat", "l2:0.5"), ("--eps", "1/16"))
    ]
    assert {result.code for result in folders} == {0}, folders
    names = [Path(result.out.strip()).name for result in folders]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    config = json.loads((home / "results" / "runs" / names[2] / "config.json").read_text())
    values = config["hyperparameters"]
    assert (values["norm"], values["eps"], values["step_size"]) == ("l2", 0.5, 15 / 255)
    result = bench("eval", "--suite", "clean", "--run", names[2], "--limit", 16, home=home)
    assert result.code == 0, result
    assert "trained under l2:0.5, on the first 16 of digits" in result.out
    assert "L2, eps = 0.5:" in result.out, "without --threat it is attacked under what it was trained against"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threat", "l2:0.5", "--eps", "0.5"), "--threat l2:0.5 and --eps 0.5 both say how far"),
        (("--threat", "l3:0.5"), "Unknown norm 'l3'. Did you mean 'l1'?"),
        (("--threat", "0.5"), "The threat '0.5' names no radius."),
        (("--threat", "l2:x"), "The radius 'x' is no number."),
        (("--threat", "l2:0"), "The threat 'l2:0' moves no image."),
        (("--eps", "8"), "The threat linf has eps = 8."),
        (("--attack-set", "stepz=3"), "Unknown parameter of fgsm 'stepz'. Did you mean 'steps'?"),
        (("--attack-set", "steps"), "--attack-set 'steps' has no '='."),
        (("--attack-set", "steps=0"), "--attack-set steps=0: fgsm's steps takes int, above 0."),
        (("--attack-set", "steps=2.5"), "--attack-set steps=2.5: fgsm's steps takes int, above 0."),
        (("--attack-set", "eps=0.1"), "--attack-set eps=0.1: norm and radius are the threat."),
        (("--attack-set", "steps=3", "--attack-set", "steps=4"), "--attack-set steps=... is given twice."),
        (("--attack-set", "bim.steps=3"), "Unknown attack of the suite fgsm 'bim'."),
    ],
)
def test_a_mistake_is_one_clear_line(bench: Bench, trained: Path, options: tuple[str, ...], said: str) -> None:
    result = bench("eval", "--suite", "fgsm", "--limit", 16, *options, home=trained)
    assert result.code == 2
    assert result.err.startswith(f"Error: {said}"), result.err
    assert len(result.err.strip().splitlines()) == 2


def test_an_attacks_own_parameters_stand_apart_from_the_protocols(bench: Bench, home: Path) -> None:
    run = next((home / "results" / "runs").glob("*_sat_demo_s0_*")).name
    asked = ("eval", "--run", run, "--limit", 16, "--no-checks")
    for options in (
        ("--suite", "pgd-sat", "--attack-set", "steps=3", "--attack-set", "start=none"),
        ("--suite", "pgd-sat,fgsm", "--attack-set", "pgd-sat.steps=3", "--seed", 7),
    ):
        result = bench(*asked, *options, home=home)
        assert result.code == 0, result
    of_all = records(home)["pgd-sat-official-start-none-steps-3-unchecked-n16"]
    assert of_all.attack_set == {"steps": 3, "start": "none"}
    assert of_all.results["pgd-sat"].parameters["steps"] == 3
    of_one = records(home)["fgsm-pgd-sat-official-pgd-sat.steps-3-s7-unchecked-n16"]
    assert (of_one.seed, of_one.results["fgsm"].parameters["steps"]) == (7, 1)
    assert bench("results", "validate", home=home).code == 0
    shown = bench("tables", "--table", "overview", home=home)
    assert "official protocol but start = none, steps = 3" in shown.out
    listed = json.loads(bench("results", "list", "--method", "sat", "--json", home=home).out)
    assert len({json.dumps(row["attack_set"]) for row in listed}) == 3


def test_tables_and_lists_name_the_threat_and_take_one_alone(bench: Bench, home: Path) -> None:
    assert bench("eval", "--suite", "pgd-sat", "--limit", 16, "--threat", "l2:0.5", home=home).code == 0
    both = bench("tables", "--table", "overview", home=home).out
    assert "L2, eps = 0.5" in both
    assert "within eps (L∞ or L2)" in both
    only = bench("tables", "--table", "overview", "--threat", "l2:0.5", home=home).out
    assert "L2, eps = 0.5" in only
    assert "FGSM" not in only
    rows = json.loads(bench("results", "list", "--threat", "l2:0.5", "--json", home=home).out)
    assert {(row["norm"], row["eps"]) for row in rows} == {("l2", 0.5)}
    wrong = bench("results", "list", "--threat", "l1:3", home=home)
    assert (wrong.code, "nothing was measured here of that name" in wrong.err) == (2, True)


def test_a_comparison_across_threats_has_to_be_asked_for(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    for record in (
        make_record({"clean": 80, "pgd-sat": 50}, run="cifar10_resnet18_sat_official_s0_aaaa1111"),
        make_record(
            {"clean": 90, "pgd-sat": 70},
            run="cifar10_resnet18_ard_official_s0_bbbb2222",
            method="ard",
            norm="l2",
            eps=0.5,
        ),
    ):
        write_record(record, Home(tmp_path).records)
    refused = bench("compare", "aaaa1111", "bbbb2222", home=tmp_path)
    assert refused.code == 2
    assert "--across-threats" in refused.err
    asked = bench("compare", "aaaa1111", "bbbb2222", "--across-threats", home=tmp_path)
    assert asked.code == 0, asked
    assert "under different threats" in asked.out
    assert "linf:8/255" in asked.out
    assert "l2:0.5" in asked.out
    one = bench("compare", "aaaa1111", "bbbb2222", "--threat", "l2:0.5", home=tmp_path)
    assert (one.code, "was not measured under it" in one.err) == (2, True)


def test_clean_is_a_suite_that_looks_at_the_images_alone(bench: Bench, home: Path) -> None:
    run = next((home / "results" / "runs").glob("*_sat_demo_s0_*")).name
    assert bench("eval", "--suite", "clean", "--run", run, "--limit", 16, home=home).code == 0
    record = records(home)["clean-official-n16"]
    assert list(record.results) == ["clean"]
    assert record.checks is not None
    assert record.checks.passes == 0
