"""Files that were truncated, replaced or edited by hand are named, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Protocol

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.errors import BenchError
from bench.runs import resume
from bench.runs.folder import RunFolder
from bench.runs.networks import network_of

from ..helpers.commands import Bench, Result
from ..helpers.homes import Contents, Find, json_lines

NONSENSE = [b"", b"{", b"{}", b"[]", b"null", b'"x"', b'{"epochs": -1}', b"\xff\xfe\x00"]


class Use(Protocol):
    """use("file.pt", "wrn-34-10"): a command that reads the file as weights of that model."""

    def __call__(self, file: object, model: str = "") -> Result: ...


@pytest.fixture
def sat(home: Path, runs: Find) -> Path:
    (folder,) = runs(home, "_sat_")
    return folder


@pytest.fixture
def interrupted(sat: Path) -> Path:
    """The run as if it had stopped after its first epoch of two."""
    (sat / "summary.json").unlink()
    return sat


class TestRunFolder:
    @pytest.mark.parametrize("nonsense", NONSENSE)
    @pytest.mark.parametrize("name", ["config.json", "summary.json"])
    def test_nonsense_is_named_and_left_alone(
        self,
        bench: Bench,
        digits: tuple[str, ...],
        home: Path,
        sat: Path,
        contents: Contents,
        name: str,
        nonsense: bytes,
    ) -> None:
        (sat / name).write_bytes(nonsense)
        before = contents(home)
        run = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home)
        evaluation = bench("eval", "--suite", "whitebox", "--limit", 4, "--run", sat.name, home=home)
        for result in (run, evaluation):
            assert f"{sat / name}" in result.mistake
            assert "--restart" in result.mistake
        assert contents(home) == before

    def test_restart_repairs(self, bench: Bench, digits: tuple[str, ...], home: Path, sat: Path) -> None:
        checkpoint = json.loads((sat / "summary.json").read_text())["checkpoint"]
        for name in ("config.json", "summary.json", "metrics.jsonl", "best.safetensors"):
            (sat / name).write_text("{")
        assert bench("run", "--method", "sat", "--student", "digits-cnn", *digits, "--restart", home=home).code == 0
        assert json.loads((sat / "summary.json").read_text())["checkpoint"] == checkpoint
        assert bench("status", home=home).code == 0

    def test_an_edited_configuration_is_no_longer_this_run_s(self, bench: Bench, home: Path, sat: Path) -> None:
        config = json.loads((sat / "config.json").read_text())
        (sat / "config.json").write_text(json.dumps(config | {"epochs": 300}))
        words = f"{sat / 'config.json'} was changed: it describes the run"
        status = bench("status", home=home)
        assert (status.code, status.err.count(words)) == (0, 1)
        assert words in bench("eval", "--suite", "fgsm", "--run", sat.name, home=home).mistake

    @pytest.mark.parametrize("name", ["config.json", "summary.json", "environment.json"])
    def test_the_others_go_on_without_a_damaged_run(
        self, bench: Bench, home: Path, sat: Path, records: Find, tmp_path: Path, name: str
    ) -> None:
        (sat / name).write_text("{")
        page = ("report", "--out", tmp_path / "report")
        for command in (("status",), ("eval", "--suite", "fgsm", "--limit", 4), page):
            result = bench(*command, home=home)
            assert result.code == 0, result
            assert result.err.count(f"Left out: {sat / name}") == 1, result
            assert "Traceback" not in result.err
        assert [path.name.split("_")[2] for path in records(home, "__fgsm-")] == ["ciard"]
        for refused in (("eval", "--suite", "fgsm", "--run", sat.name), ("export", sat.name)):
            assert f"{sat / name}" in bench(*refused, home=home).mistake

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("summary.json", '"selected_on": "heldout"', '"selected_on": "test"'),
            ("summary.json", '"seconds": ', '"seconds": 1'),
            ("environment.json", '"device": "cpu"', '"device": "cpv"'),
            ("environment.json", " cores", " core{"),
        ],
    )
    def test_what_a_record_would_take_from_a_run_is_checked(
        self, bench: Bench, home: Path, sat: Path, records: Find, name: str, old: str, new: str
    ) -> None:
        before = [path.name for path in records(home)]
        text = (sat / name).read_text()
        assert old in text
        (sat / name).write_text(text.replace(old, new, 1))
        message = bench("eval", "--suite", "fgsm", "--limit", 4, "--run", sat.name, home=home).mistake
        assert f"{sat / name}" in message
        assert "its digest does not match" in message
        assert [path.name for path in records(home)] == before

    def test_what_an_earlier_version_wrote_has_no_digest_and_is_read(
        self, bench: Bench, home: Path, sat: Path, records: Find
    ) -> None:
        for name in ("summary.json", "environment.json"):
            content = json.loads((sat / name).read_text())
            del content["digest"]
            (sat / name).write_text(json.dumps(content))
        lines = json_lines(sat / "metrics.jsonl")
        for line in lines:
            del line["digest"]
        (sat / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = bench("eval", "--suite", "fgsm", "--limit", 4, "--run", sat.name, home=home)
        assert (result.code, "Left out" in result.err) == (0, False)
        assert RunFolder(sat).metrics() == lines

    @pytest.mark.parametrize("copied", [("best.safetensors", "summary.json"), ("best.safetensors",), ("summary.json",)])
    def test_the_weights_of_another_run_are_not_this_one_s(
        self, bench: Bench, home: Path, sat: Path, runs: Find, copied: tuple[str, ...]
    ) -> None:
        (ciard,) = runs(home, "_ciard_")
        for name in copied:
            shutil.copy(ciard / name, sat / name)
        assert str(sat / copied[-1]) in bench("eval", "--suite", "fgsm", "--run", sat.name, home=home).mistake

    def test_weights_and_summary_of_another_run_without_digests(self, home: Path, sat: Path, runs: Find) -> None:
        (ciard,) = runs(home, "_ciard_")
        shutil.copy(ciard / "best.safetensors", sat / "best.safetensors")
        summary = json.loads((ciard / "summary.json").read_text())
        del summary["digest"]
        (sat / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(BenchError, match=f"holds the weights of the run {ciard.name}"):
            network_of(RunFolder(sat))

    def test_an_edited_configuration_is_not_continued(
        self, bench: Bench, digits: tuple[str, ...], home: Path, interrupted: Path
    ) -> None:
        (interrupted / "config.json").write_text("{}")
        arguments = ("run", "--method", "sat", "--student", "digits-cnn", *digits)
        assert "is not valid" in bench(*arguments, home=home).mistake

    @pytest.mark.parametrize("content", NONSENSE)
    def test_progress_is_only_a_message(self, bench: Bench, home: Path, interrupted: Path, content: bytes) -> None:
        (interrupted / "progress.json").write_bytes(content)
        states = {run["id"]: run["state"] for run in json.loads(bench("status", "--json", home=home).out)}
        assert states[interrupted.name] == "interrupted"

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 5000])
    def test_a_damaged_state_is_not_continued(
        self, bench: Bench, digits: tuple[str, ...], home: Path, interrupted: Path, content: bytes
    ) -> None:
        (interrupted / "resume.pt").write_bytes(content)
        metrics = (interrupted / "metrics.jsonl").read_bytes()
        message = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home).mistake
        assert "resume.pt is damaged" in message
        assert "--restart" in message
        assert (interrupted / "metrics.jsonl").read_bytes() == metrics

    @pytest.mark.parametrize("content", [{}, {"student": 5}, {"student": {"x": torch.zeros(1)}}])
    def test_a_state_of_something_else_is_not_continued(
        self, bench: Bench, digits: tuple[str, ...], home: Path, interrupted: Path, content: dict[str, object]
    ) -> None:
        resume.save(interrupted, content)
        message = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home).mistake
        assert "does not fit this version" in message

    def test_changed_weights_are_noticed(self, bench: Bench, home: Path, sat: Path) -> None:
        (sat / "best.safetensors").write_bytes((sat.parent / sat.name / "last.safetensors").read_bytes()[:-4] + b"abcd")
        message = bench("eval", "--suite", "whitebox", "--limit", 4, "--run", sat.name, home=home).mistake
        assert f"{sat / 'best.safetensors'} is damaged" in message

    def test_a_truncated_checkpoint(self, bench: Bench, home: Path, sat: Path) -> None:
        whole = (sat / "best.safetensors").read_bytes()
        (sat / "best.safetensors").write_bytes(whole[:-100])
        message = bench("eval", "--suite", "whitebox", "--limit", 4, "--run", sat.name, home=home).mistake
        assert f"{sat / 'best.safetensors'} is truncated" in message

    def test_a_lost_summary_is_written_anew(
        self, bench: Bench, digits: tuple[str, ...], home: Path, sat: Path, contents: Contents
    ) -> None:
        before, summary = contents(home), json.loads((sat / "summary.json").read_text())
        (sat / "summary.json").unlink()
        result = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home)
        assert result.code == 0, result
        assert f"{sat / 'summary.json'} was missing; it was rebuilt" in result.err
        found = json.loads((sat / "summary.json").read_text())
        for key in ("checkpoint", "selected_epoch", "selected_on", "accuracy"):
            assert found[key] == summary[key]
        assert found["seconds"] <= summary["seconds"]
        name = str((sat / "summary.json").relative_to(home))
        after = contents(home)
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        assert changed <= {name, str((sat / "lock").relative_to(home))}
        evaluated = bench("eval", "--suite", "whitebox", "--limit", 16, "--run", sat.name, home=home)
        assert "1 had the suite already" in evaluated.err

    @pytest.mark.parametrize("also", ["metrics.jsonl", "best.safetensors", "the digest", "another run's"])
    def test_a_lost_summary_that_nothing_tells_is_asked_for(
        self, bench: Bench, digits: tuple[str, ...], home: Path, sat: Path, runs: Find, also: str
    ) -> None:
        (sat / "summary.json").unlink()
        if also == "the digest":
            save_file(load_file(sat / "best.safetensors"), sat / "best.safetensors", {"model_spec": "digits-cnn"})
        elif also == "another run's":
            shutil.copy(runs(home, "_ciard_")[0] / "best.safetensors", sat / "best.safetensors")
        else:
            (sat / also).unlink()
        files = ("best.safetensors", "last.safetensors", "metrics.jsonl", "config.json")
        before = {name: (sat / name).read_bytes() for name in files if (sat / name).exists()}
        message = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home).mistake
        assert f"{sat / 'summary.json'} is missing" in message
        assert "--restart" in message
        assert {name: (sat / name).read_bytes() for name in files if (sat / name).exists()} == before
        assert bench("run", "--method", "sat", "--student", "digits-cnn", *digits, "--restart", home=home).code == 0

    def test_weights_that_are_damaged_stop_no_other_run_s_evaluation(
        self, bench: Bench, home: Path, sat: Path, records: Find
    ) -> None:
        (sat / "best.safetensors").write_bytes((sat / "best.safetensors").read_bytes()[:-9])
        arguments = ("eval", "--suite", "fgsm", "--limit", 2)
        assert f"{sat / 'best.safetensors'} is truncated" in bench(*arguments, "--run", sat.name, home=home).mistake
        result = bench(*arguments, home=home)
        assert result.code == 0, result
        assert f"Left out: {sat / 'best.safetensors'} is truncated" in result.err
        (record,), (last,) = records(home, "__fgsm-"), records(home, "-last-n2")
        assert result.out.startswith(f"{record}\n{last}\n\n")

    def test_a_stray_file_among_the_runs(self, bench: Bench, home: Path, sat: Path) -> None:
        (sat.parent / "notes.txt").write_text("mine")
        (sat.parent / "empty").mkdir()
        assert bench("status", home=home).code == 0


class TestRecords:
    @pytest.mark.parametrize("nonsense", NONSENSE)
    def test_nonsense_is_named_and_left_out(self, bench: Bench, home: Path, records: Find, nonsense: bytes) -> None:
        record = records(home)[0]
        record.write_bytes(nonsense)
        result = bench("tables", "--table", 3, home=home)
        assert result.code == 0
        (line,) = result.err.splitlines()
        assert line.startswith(f"Left out: The record {record} ")
        assert (home / "results" / "tables" / "table3.md").exists()

    @pytest.mark.parametrize(
        "command",
        [
            "status",
            "tables --table 3 --format csv",
            "tables --table 3 --audit",
            "tables --table 3 --order cifar10",
            "teacher list",
            "figures --figure tradeoff",
            "report --examples 0",
            "sweep digits-demo --plan",
            "compare SAT CIARD",
            "compare SAT CIARD --all-seeds",
            "export CIARD --format safetensors",
        ],
    )
    def test_every_command_goes_on_without_a_damaged_record(
        self, bench: Bench, home: Path, records: Find, runs: Find, command: str, tmp_path: Path
    ) -> None:
        """One cut short, one of other bytes, one of a newer version; what there is without them stays to be seen."""
        (sat,) = records(home, "_sat_")
        folder = sat.parent
        (folder / "cut.json").write_bytes(sat.read_bytes()[:-500])
        (folder / "edited.json").write_bytes(sat.read_bytes().replace(b'"seed": 0', b'"seed": 1', 1))
        (folder / "newer.json").write_bytes(sat.read_bytes().replace(b'"schema_version": 1', b'"schema_version": 2', 1))
        names = {"SAT": runs(home, "_sat_")[0].name, "CIARD": runs(home, "_ciard_")[0].name}
        spec = tmp_path / "sweep.yaml"
        spec.write_text(
            "description: x\nruns:\n  - {methods: [sat], students: [digits-cnn], datasets: [digits], recipes: [demo], "
            "evaluations: [{suite: square}]}"
        )
        arguments = [names.get(word, str(spec) if word == "digits-demo" else word) for word in command.split()]
        result = bench(*arguments, home=home)
        assert result.code == 0, result
        left_out = [line for line in result.err.splitlines() if line.startswith("Left out: ")]
        assert [line.split(".json")[0].rsplit("/")[-1] for line in left_out] == ["cut", "edited", "newer"]

    def test_a_record_that_is_named_has_to_be_right(self, bench: Bench, home: Path, records: Find) -> None:
        (sat,), (ciard,) = records(home, "_sat_"), records(home, "_ciard_")
        sat.write_bytes(sat.read_bytes()[:-500])
        assert f"The record {sat} is not valid" in bench("compare", sat, ciard, home=home).mistake

    def test_validate_lists_all_that_is_wrong(self, bench: Bench, home: Path, records: Find) -> None:
        for record in records(home):
            record.write_bytes(b"{}")
        result = bench("results", "validate", home=home)
        assert result.code == 2
        assert sum(line.startswith("error: ") for line in result.out.splitlines()) == len(records(home))

    def test_one_changed_digit_is_noticed(self, bench: Bench, home: Path, records: Find) -> None:
        (record,) = records(home, "_sat_")
        text = record.read_text()
        record.write_text(text.replace('"seed": 0', '"seed": 1', 1))
        assert record.read_text() != text
        assert "digest does not match" in bench("tables", home=home).err

    def test_a_copy_counts_once(self, bench: Bench, home: Path, records: Find) -> None:
        (record,) = records(home, "_sat_")
        (record.parent / "copy.json").write_bytes(record.read_bytes())
        assert bench("tables", "--table", 3, home=home).code == 0
        assert "(2)" not in (home / "results" / "tables" / "table3.md").read_text()

    def test_a_damaged_record_of_a_teacher_stops_the_run_that_needs_it(
        self, bench: Bench, digits: tuple[str, ...], home: Path, records: Find
    ) -> None:
        (record,) = records(home, "robust-teacher")
        record.write_text("{}")
        message = bench("run", "--method", "ard", "--student", "digits-cnn", *digits, home=home).mistake
        assert str(record) in message


class TestCheckpointsFromElsewhere:
    """As a teacher of a run and as the model of an evaluation, the same files give the same answers."""

    @pytest.fixture(params=["teacher", "checkpoint"])
    def use(self, request: pytest.FixtureRequest, bench: Bench, digits: tuple[str, ...], home: Path) -> Use:
        def as_teacher(file: object, model: str = "") -> Result:
            named = f"robust={model + ':' if model else ''}{file}"
            return bench("run", "--method", "ard", "--student", "digits-cnn", *digits, "--teacher", named, home=home)

        def as_checkpoint(file: object, model: str = "digits-cnn") -> Result:
            options = ("--student", model, "--dataset", "digits", "--limit", 4)
            return bench("eval", "--suite", "fgsm", "--checkpoint", file, *options, home=home)

        return as_teacher if request.param == "teacher" else as_checkpoint

    @pytest.fixture
    def weights(self, sat: Path) -> dict[str, torch.Tensor]:
        return load_file(sat / "best.safetensors")

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and so on", b"\x10\x00\x00\x00\x00\x00\x00\x00{"])
    def test_no_checkpoint(self, use: Use, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "file.pt").write_bytes(content)
        assert f"{tmp_path / 'file.pt'} is truncated or no" in use(tmp_path / "file.pt").mistake

    def test_truncated(self, use: Use, tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
        torch.save(weights, tmp_path / "file.pt")
        (tmp_path / "file.pt").write_bytes((tmp_path / "file.pt").read_bytes()[:-1000])
        assert "is truncated" in use(tmp_path / "file.pt").mistake

    def test_python_objects_are_not_loaded(self, use: Use, tmp_path: Path) -> None:
        torch.save({"state_dict": Path("x")}, tmp_path / "file.pt")
        assert "holds Python objects" in use(tmp_path / "file.pt").mistake

    def test_something_else(self, use: Use, tmp_path: Path) -> None:
        torch.save({"epoch": 3}, tmp_path / "file.pt")
        assert "the entries epoch" in use(tmp_path / "file.pt").mistake

    def test_another_architecture(self, use: Use, sat: Path) -> None:
        message = use(sat / "best.safetensors", "digits-mobile").mistake
        assert "holds a digits-cnn, not a digits-mobile" in message

    def test_another_architecture_in_a_foreign_file(
        self, use: Use, tmp_path: Path, weights: dict[str, torch.Tensor]
    ) -> None:
        torch.save(weights, tmp_path / "file.pt")
        message = use(tmp_path / "file.pt", "digits-mobile").mistake
        assert "does not fit digits-mobile" in message
        assert "It holds a digits-cnn" in message

    def test_another_number_of_classes(self, use: Use, tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("linear.")]:
            weights[name] = torch.cat([weights[name]] * 10)
        torch.save(weights, tmp_path / "file.pt")
        assert "the file has 100 classes, the dataset 10" in use(tmp_path / "file.pt", "digits-cnn").mistake

    def test_images_of_another_size(self, use: Use, tmp_path: Path) -> None:
        timm = pytest.importorskip("timm")
        network = timm.create_model("vit_tiny_patch16_224", num_classes=10, in_chans=1)
        torch.save(network.state_dict(), tmp_path / "file.pt")
        message = use(tmp_path / "file.pt", "timm:vit_tiny_patch16_224").mistake
        assert "cannot take images of 1x8x8" in message
