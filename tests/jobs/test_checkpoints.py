"""One `bench eval` of a run's best and last weights: nothing is attacked twice, nothing of one is lost by the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import bench as api
from bench.api.trained import Trained
from bench.data import load_dataset
from bench.evaluation.evaluator import Evaluator
from bench.models import build_model
from bench.models.checkpoints import read_metadata, save_weights
from bench.records.files import read_record
from bench.records.record import Record
from bench.runs.folder import RunFolder
from bench.sweep.done import Known, Standing
from bench.sweep.plan import Task, expand
from bench.sweep.spec import Changes, SweepSpec
from bench.system.home import Home
from bench.vocabulary import Evaluated, Selected

from ..helpers.commands import Bench
from ..helpers.homes import Find

FGSM = ("eval", "--suite", "fgsm", "--limit", 4, "--run")


@pytest.fixture
def sat(home: Path, runs: Find) -> Path:
    return runs(home, "_sat_")[0]


@pytest.fixture
def others(sat: Path) -> str:
    """The run's last weights are made others than its best, which one epoch's are not; their file's name."""
    network, file = build_model("digits-cnn", 10, 1), sat / "last.safetensors"
    network.load_state_dict({name: value * 0.5 for name, value in load_file(file).items()}, strict=True)
    save_weights(file, network, read_metadata(file))
    return str(file)


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which networks are attacked from here on."""
    seen: list[str] = []
    real = Evaluator.evaluate

    def evaluate(self: Evaluator, network: Any, dataset: Any, subject: Any, *arguments: Any) -> Record:
        seen.append(subject.checkpoint_of)
        return real(self, network, dataset, subject, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return seen


def of_fgsm(home: Path, records: Find) -> dict[str, Record]:
    found = [read_record(path) for path in (*records(home, "__fgsm-"), *records(home, "fgsm-official-last-"))]
    return {record.subject.checkpoint_of: record for record in found}


@pytest.mark.parametrize("first", ["both", "best", "last"])
def test_the_same_weights_are_attacked_once_whichever_comes_first(
    bench: Bench, home: Path, sat: Path, records: Find, attacked: list[str], first: str
) -> None:
    assert bench(*FGSM, sat.name, "--checkpoint-of", first, home=home).code == 0
    if first != "both":
        assert of_fgsm(home, records).keys() == {first}
    result = bench(*FGSM, sat.name, home=home)
    assert result.code == 0, result
    assert len(attacked) == 1
    found = of_fgsm(home, records)
    best, last = found["best"], found["last"]
    assert last.results == best.results
    assert (best.subject.selection, last.subject.selection) == ("heldout", "last")
    assert best.subject.checkpoint == last.subject.checkpoint
    again = bench(*FGSM, sat.name, home=home)
    assert "0 evaluated, 1 had the suite already." in again.err
    assert bench("results", "validate", home=home).code == 0


def test_other_weights_are_attacked_too_and_the_flag_of_before_means_both(
    bench: Bench, home: Path, sat: Path, records: Find, attacked: list[str], others: str
) -> None:
    assert others
    assert bench(*FGSM, sat.name, "--checkpoint-of", "best", home=home).code == 0
    assert attacked == ["best"]
    more = bench(*FGSM, sat.name, "--last", home=home)
    assert "1 evaluated, 1 had the suite already." in more.err
    assert attacked == ["best", "last"]
    found = of_fgsm(home, records)
    assert found["best"].subject.checkpoint != found["last"].subject.checkpoint


def test_last_weights_that_are_damaged_keep_nobody_from_the_best(
    bench: Bench, home: Path, sat: Path, records: Find
) -> None:
    (sat / "last.safetensors").write_bytes(b"nothing")
    result = bench("eval", "--suite", "fgsm", "--limit", 4, home=home)
    assert result.code == 0, result
    assert f"Left out: {sat / 'last.safetensors'}" in result.err
    assert len(records(home, "__fgsm-")) == 2
    assert [path.name.split("_")[2] for path in records(home, "fgsm-official-last-")] == ["ciard"]
    assert str(sat / "last.safetensors") in bench(*FGSM, sat.name, home=home).mistake
    assert bench(*FGSM, sat.name, "--checkpoint-of", "best", home=home).code == 0


def test_python_takes_either(home: Path, sat: Path, attacked: list[str], others: str) -> None:
    assert others
    folder = RunFolder(sat)
    summary, config = folder.summary(), folder.config()
    assert summary is not None
    best = build_model("digits-cnn", 10, 1)
    best.load_state_dict(load_file(sat / "best.safetensors"))
    run = Trained(sat.name, sat, best.eval(), summary, config, load_dataset("digits", home / "data"), Home(home))
    of: list[Selected] = ["best", "last"]
    found = [api.evaluate(run, suite="fgsm", limit=4, save=True, checkpoint_of=which) for which in of]
    assert attacked == ["best", "last"]
    assert [record.subject.checkpoint_of for record in found] == ["best", "last"]
    assert found[1].id in {path.stem for path in (home / "results" / "records").iterdir()}
    with pytest.raises(api.BenchError, match="has no best and no last weights"):
        api.evaluate(best, "digits", "fgsm", limit=4, checkpoint_of="last")
    with pytest.raises(api.BenchError, match="checkpoint_of='both': there are"):
        api.evaluate(run, suite="fgsm", checkpoint_of="both")  # type: ignore[arg-type]


def plan_of(run: RunFolder, which: Evaluated | None) -> tuple[Task, ...]:
    config = run.config()
    grid = {
        "methods": [config.method],
        "students": ["digits-cnn"],
        "datasets": ["digits"],
        "recipes": ["demo"],
        "epochs": 1,
        "limit_train": 100,
        "evaluations": [{"suite": "fgsm", "limit": 4}],
    }
    spec = SweepSpec.model_validate({"description": "one", "runs": [grid]})
    return expand(Changes(checkpoint_of=which).of(spec), str)


def test_a_sweep_is_done_with_the_best_alone_unless_it_asks_for_both(
    bench: Bench, home: Path, sat: Path, others: str
) -> None:
    assert others
    place, folder = Home(home), RunFolder(sat)

    def done(which: Evaluated | None) -> set[int]:
        return Standing(place, plan_of(folder, which), Known(place)).done()

    assert done(None) == {1}
    assert bench(*FGSM, sat.name, "--checkpoint-of", "best", home=home).code == 0
    assert (done(None), done("both"), done("last")) == ({1, 2}, {1}, {1})
    assert bench(*FGSM, sat.name, home=home).code == 0
    assert done("both") == done("last") == {1, 2}


def test_the_plan_s_commands_say_which_weights(sat: Path) -> None:
    folder = RunFolder(sat)
    words: dict[Evaluated | None, str] = {None: " --checkpoint-of best", "last": " --checkpoint-of last", "both": ""}
    for which, option in words.items():
        assert plan_of(folder, which)[1].line == f"bench eval --suite fgsm --limit 4{option} --run (that of 1)"


def test_results_are_listed_and_compared_of_either(
    bench: Bench, home: Path, sat: Path, runs: Find, others: str
) -> None:
    assert others
    assert bench("eval", "--suite", "fgsm", "--limit", 4, home=home).code == 0
    of: dict[Selected, str] = {"best": "", "last": " (last)"}
    for which, name in of.items():
        options = ("--method", "sat", "--checkpoint-of", which, "--json")
        rows = json.loads(bench("results", "list", *options, home=home).out)
        assert {row["checkpoint_of"] for row in rows} == {which}
        ids = (sat.name, runs(home, "_ciard_")[0].name)
        compared = bench("compare", *ids, "--checkpoint-of", which, home=home)
        assert compared.out.startswith(f"## SAT{name} against CIARD{name}\n"), compared
        assert {record.subject.checkpoint_of for record in api.load_records(home, checkpoint_of=which)} == {which}
