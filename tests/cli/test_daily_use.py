"""run, eval, tables, status, list and teacher as a user calls them, from training to tables."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from bench.runs.folder import RunFolder

from ..helpers.commands import Bench
from ..helpers.homes import Contents, Find, json_lines


class TestRun:
    def test_the_folder_tells_everything(self, trained: Path, runs: Find) -> None:
        (folder,) = runs(trained, "_ciard_")
        assert {path.name for path in folder.iterdir()} == {
            *("config.json", "environment.json", "metrics.jsonl", "summary.json"),
            *("best.safetensors", "last.safetensors", "robust-teacher.safetensors"),
        }
        config = json.loads((folder / "config.json").read_text())
        assert config["hyperparameters"]["eps"] == config["data"]["eps"]
        assert {teacher["role"] for teacher in config["teachers"]} == {"clean", "robust"}
        environment = json.loads((folder / "environment.json").read_text())
        assert {"git", "python", "packages", "device"} <= environment.keys()
        epoch = json_lines(folder / "metrics.jsonl")[-1]
        assert {"loss", "kl_nat", "kl_adv", "push"} <= epoch["terms"].keys()
        assert epoch["accuracy"].keys() == {"student", "clean teacher", "robust teacher"}
        assert epoch["accuracy"]["student"].keys() == {"clean", "robust"}

    def test_a_finished_run_says_so_and_changes_nothing(
        self, bench: Bench, digits: tuple[str, ...], home: Path, contents: Contents
    ) -> None:
        before = contents(home)
        result = bench("run", "--method", "ciard", "--student", "digits-cnn", *digits, home=home)
        assert result.code == 0
        assert "Already trained, nothing changed" in result.err
        assert contents(home) == before

    def test_restart_trains_anew_to_the_same_weights(
        self, bench: Bench, digits: tuple[str, ...], home: Path, runs: Find
    ) -> None:
        (folder,) = runs(home, "_sat_")
        before = json.loads((folder / "summary.json").read_text())
        (folder / "metrics.jsonl").unlink()
        assert bench("run", "--method", "sat", "--student", "digits-cnn", *digits, "--restart", home=home).code == 0
        after = json.loads((folder / "summary.json").read_text())
        assert after["checkpoint"] == before["checkpoint"]
        assert len(json_lines(folder / "metrics.jsonl")) == 1

    def test_every_option_reaches_the_configuration(self, bench: Bench, tmp_path: Path, runs: Find) -> None:
        options = "--method sat --student digits-mobile --dataset digits --recipe demo --epochs 2 --batch-size 50"
        further = "--seed 7 --device cpu --precision bf16 --limit-train 90 --set steps=3 --set eps=16/255"
        result = bench("run", *options.split(), *further.split(), home=tmp_path)
        assert result.code == 0, result
        (folder,) = runs(tmp_path)
        assert Path(result.out.strip()) == folder
        config = json.loads((folder / "config.json").read_text())
        assert (config["student"], config["recipe"], config["seed"]) == ("digits-mobile", "demo", 7)
        assert (config["epochs"], config["batch_size"], config["precision"]) == (2, 50, "bf16")
        assert config["data"]["n"] == 90
        assert config["overrides"] == {"steps": 3, "eps": 16 / 255}
        assert config["hyperparameters"]["steps"] == 3

    @pytest.mark.usefixtures("judged_by_few")
    def test_a_teacher_may_be_a_file(self, bench: Bench, digits: tuple[str, ...], home: Path, runs: Find) -> None:
        (robust,) = runs(home, "robust-teacher")
        arguments = ("run", "--method", "ard", "--student", "digits-cnn", *digits)
        plain = bench(*arguments, "--teacher", f"robust={robust}/best.safetensors", home=home)
        assert plain.code == 0, plain
        named = bench(*arguments, "--teacher", f"robust=digits-teacher:{robust}/best.safetensors", home=home)
        assert "Already trained" in named.err  # the same teacher makes the same run
        # The recipe's teacher is the same network, but not named by the user: another run in nothing that matters.
        assert "Already trained" in bench(*arguments, home=home).err

    @pytest.mark.usefixtures("judged_by_few")
    def test_a_robust_teacher_that_is_not_is_warned_about(
        self, bench: Bench, digits: tuple[str, ...], home: Path, runs: Find, records: Find
    ) -> None:
        (clean,) = runs(home, "clean-teacher")
        file = f"{clean}/best.safetensors"
        result = bench(
            *("run", "--method", "mtard", "--student", "digits-cnn", *digits),
            *("--teacher", f"robust={file}", "--teacher", f"clean={file}"),
            home=home,
        )
        assert result.code == 0, result
        assert "is not robust" in result.err
        # One file in two roles is evaluated once for each, so that both are in Table 2.
        assert len(records(home, "best_robust-teacher")) == len(records(home, "best_clean-teacher")) == 1


class TestEval:
    def test_all_finished_students_are_evaluated_once(self, bench: Bench, home: Path, records: Find) -> None:
        assert len(records(home, "n16")) == 2
        again = bench("eval", "--suite", "whitebox", "--limit", 16, home=home)
        assert "0 evaluated, 2 had the suite already" in again.err
        more = bench("eval", "--suite", "whitebox", "--limit", 8, "--protocol", "paper", home=home)
        assert "2 evaluated" in more.err
        made = [*records(home, "whitebox-paper-n8"), *records(home, "whitebox-paper-last-n8")]
        assert sorted(map(Path, more.out.splitlines()[:4])) == sorted(made)

    def test_one_run_and_transferred_attacks(self, bench: Bench, home: Path, runs: Find, records: Find) -> None:
        (sat,) = runs(home, "_sat_")
        assert bench("eval", "--suite", "blackbox", "--run", sat.name, "--limit", 4, home=home).code == 0
        (record,) = records(home, "blackbox")
        (robust,) = runs(home, "robust-teacher")
        teacher = json.loads((robust / "summary.json").read_text())["checkpoint"]
        results = json.loads(record.read_text())["results"]
        assert results["transfer:pgd-trades"]["surrogate"] == teacher
        assert results["square"]["surrogate"] is None

    def test_an_attack_s_name_is_a_suite_of_it_alone(self, bench: Bench, home: Path, records: Find) -> None:
        assert bench("eval", "--suite", "dpgd", "--limit", 4, "--dataset", "digits", home=home).code == 0
        assert json.loads(records(home, "_sat_")[0].read_text())["results"].keys() == {"clean", "dpgd"}

    def test_a_checkpoint_of_one_s_own(self, bench: Bench, home: Path, runs: Find) -> None:
        file = runs(home, "_sat_")[0] / "best.safetensors"
        arguments = ("eval", "--suite", "fgsm", "--checkpoint", file, "--student", "digits-cnn", "--dataset", "digits")
        result = bench(*arguments, "--limit", 8, home=home)
        assert result.code == 0, result
        record = json.loads(Path(result.out.splitlines()[0]).read_text())
        assert record["subject"]["kind"] == "checkpoint"
        assert record["data"]["n"] == 8
        assert "Already evaluated" in bench(*arguments, "--limit", 8, home=home).err

    def test_a_checkpoint_in_the_home_by_robustbench_s_name(self, bench: Bench, home: Path, runs: Find) -> None:
        (home / "models").mkdir()
        shutil.copy(runs(home, "_sat_")[0] / "best.safetensors", home / "models" / "Someone2026Better.pt")
        arguments = ("--suite", "fgsm", "--checkpoint", "robustbench:Someone2026Better", "--dataset", "digits")
        result = bench("eval", *arguments, "--limit", 8, home=home)
        assert result.code == 0, result
        subject = json.loads(Path(result.out.splitlines()[0]).read_text())["subject"]
        assert (subject["label"], subject["model"]) == ("Someone2026Better", "digits-cnn")
        other = ("--checkpoint", f"digits-cnn:{runs(home, '_sat_')[0]}/best.safetensors", "--student", "digits-mobile")
        assert "Say it once" in bench("eval", "--suite", "fgsm", *other, "--dataset", "digits", home=home).mistake

    def test_records_name_the_teachers(self, home: Path, records: Find) -> None:
        (record,) = records(home, "_ciard_")
        subject = json.loads(record.read_text())["subject"]
        assert subject["teacher_names"] == {"clean": "Natural digits-teacher", "robust": "TRADES digits-teacher"}
        assert subject["teachers"].keys() == {"clean", "robust"}

    def test_a_run_that_was_trained_anew_to_other_weights_is_not_taken_for_the_old_one(
        self, bench: Bench, home: Path, runs: Find
    ) -> None:
        (sat,) = runs(home, "_sat_")
        summary = RunFolder(sat).summary()
        assert summary is not None
        RunFolder(sat).finish(summary.model_copy(update={"checkpoint": "0" * 64}))
        message = bench("eval", "--suite", "whitebox", "--limit", 16, "--run", sat.name, home=home).mistake
        assert "other weights" in message

    def test_another_surrogate_is_not_taken_for_the_first(self, bench: Bench, home: Path, runs: Find) -> None:
        robust, clean = (runs(home, f"{role}-teacher")[0] / "best.safetensors" for role in ("robust", "clean"))
        arguments = ("eval", "--suite", "blackbox", "--limit", 4)
        assert bench(*arguments, "--teacher", f"robust={robust}", home=home).code == 0
        assert "2 had the suite already" in bench(*arguments, home=home).err
        assert "another surrogate" in bench(*arguments, "--teacher", f"robust={clean}", home=home).mistake


class TestTables:
    def test_the_records_numbers_are_in_markdown_and_latex(self, bench: Bench, home: Path, records: Find) -> None:
        assert bench("tables", home=home).code == 0
        folder = home / "results" / "tables"
        expected = {f"{name}.{suffix}" for name in ("overview", "table3", "table7") for suffix in ("md", "tex")}
        expected |= {"provenance.md", "tables.tex"}
        assert {path.name for path in folder.iterdir()} == expected
        markdown = (folder / "table3.md").read_text(encoding="utf-8").splitlines()
        latex = (folder / "table3.tex").read_text(encoding="utf-8")
        assert r"\toprule" in latex
        for label, name in (("SAT", "_sat_"), ("CIARD", "_ciard_")):
            (record,) = records(home, name)
            results = json.loads(record.read_text())["results"]
            clean = results["clean"]["accuracy"]
            for attack, shown in (("fgsm", "FGSM"), ("pgd-sat", "PGD-SAT")):
                robust = results[attack]["accuracy"]
                # Halves go up, as in the paper: 3.125 is 3.13.
                exact = (clean, robust, (clean + robust) / 2)
                expected_cells = [f"{math.floor(10_000 * value + 0.5 + 1e-6) / 100:.2f}" for value in exact]
                (row,) = (line for line in markdown if line.startswith(f"| {shown} | {label} |"))
                assert re.findall(r"[\d.]+", row) == expected_cells
                assert all(cell in latex for cell in expected_cells)

    def test_options(self, bench: Bench, home: Path, tmp_path: Path) -> None:
        options = "--table 3 --table 7 --values compare --format csv --format markdown --datasets cifar10,digits"
        assert bench("tables", *options.split(), "--out", tmp_path / "out", home=home).code == 0
        expected = {f"table{number}-compare.{suffix}" for number in (3, 7) for suffix in ("md", "csv")}
        expected |= {"provenance-compare.md"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == expected
        assert "CIFAR-100" not in (tmp_path / "out" / "table3-compare.md").read_text()

    def test_without_records_every_cell_is_a_dash(self, bench: Bench, tmp_path: Path) -> None:
        said = bench("tables", home=tmp_path)
        assert said.code == 0
        assert "No evaluation record fits this table yet." in said.out
        assert bench("tables", "--all-rows", home=tmp_path).code == 0
        for number in range(3, 9):
            text = (tmp_path / "results" / "tables" / f"table{number}.md").read_text(encoding="utf-8")
            lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
            heads = [line[:2] for line in lines if line[-1].strip() == "W-R"]
            rows = [line[1 if " Attack " not in heads[0] else 2 :] for line in lines if line[:2] not in heads]
            assert rows
            assert {cell.strip() for row in rows for cell in row} == {"–"}


class TestLooking:
    def test_status_tells_not_run_interrupted_trained_and_evaluated(
        self, bench: Bench, home: Path, runs: Find, records: Find
    ) -> None:
        (sat,), (ciard,) = runs(home, "_sat_"), runs(home, "_ciard_")
        (sat / "summary.json").unlink()
        (sat / "progress.json").write_text('{"epoch": 2, "epochs": 9, "step": 1, "steps": 5, "seconds_left": 60}')
        for record in records(home):
            if "_sat_" in record.name:
                record.unlink()
        found = {run["id"]: run for run in json.loads(bench("status", "--json", home=home).out)}
        assert found.keys() == {run.name for run in runs(home)}
        assert (found[sat.name]["state"], found[sat.name]["detail"]) == ("interrupted", "epoch 2 of 9")
        assert (found[sat.name]["progress"]["seconds_left"], found[sat.name]["results"]) == (60, None)
        assert (found[ciard.name]["state"], found[ciard.name]["suites"]) == ("evaluated", ["whitebox (n=16)"])
        for record in records(home):
            record.unlink()
        grid = bench("status", "--grid", home=home).out
        cells = dict(line.split(maxsplit=1) for line in grid.splitlines() if line.strip())
        assert cells["ciard"].strip() == "trained"
        assert cells["sat"].strip() == "interrupted: epoch 2 of 9"
        assert cells["trades"].strip() == "not run"
        assert "--grid is for readers" in bench("status", "--grid", "--json", home=home).mistake

    def test_status_of_an_empty_home_says_what_to_do_first(self, bench: Bench, tmp_path: Path) -> None:
        result = bench("status", home=tmp_path)
        assert result.code == 0
        nothing, first = result.out.splitlines()
        assert f"in {tmp_path / 'results'} yet" in nothing
        assert "bench run --method ciard --student resnet18" in first
        assert json.loads(bench("status", "--json", home=tmp_path).out) == []
        assert "resnet18 on cifar10" in bench("status", "--grid", home=tmp_path).out
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("methods", {"natural", "sat", "trades", "ard", "rslad", "mtard", "b-mtard", "dard", "ciard"}),
            ("attacks", {"fgsm", "pgd-sat", "pgd-trades", "cw-inf", "square", "autoattack", "dpgd"}),
            ("models", {"resnet18", "mobilenet_v2", "resnet20", "resnet56", "wrn-*-*", "wrn-70-16", "timm:*"}),
            ("datasets", {"digits", "cifar10", "cifar100", "parquet:*", "imagefolder:*", "tiny-imagenet"}),
            ("suites", {"whitebox", "blackbox", "autoattack", "full"}),
            ("recipes", {"paper", "official", "short", "demo"}),
            ("tables", {0, 2, 3, 4, 5, 6, 7}),
        ],
    )
    def test_list(self, bench: Bench, kind: str, expected: set[object]) -> None:
        rows = json.loads(bench("list", kind, "--json").out)
        assert expected <= {row.get("name", row.get("number")) for row in rows}
        assert not any(row.get("broken") for row in rows)
        text = bench("list", kind)
        assert text.code == 0
        assert all(str(name) in text.out for name in expected)

    def test_teachers_are_listed_with_their_accuracies(self, bench: Bench, trained: Path) -> None:
        rows = json.loads(bench("teacher", "list", "--json", home=trained).out)
        assert {row["role"] for row in rows} == {"clean", "robust"}
        assert all({"clean", "pgd-sat", "worst"} <= row["results"].keys() for row in rows)
        text = bench("teacher", "list", home=trained).out
        for row in rows:
            assert row["state"] == "evaluated"
            assert text.count(f"\n{row['short']} ") == 2  # where it stands, and what it was measured at
            assert f"{100 * row['results']['cw-inf']['accuracy']:.1f} ±" in text

    def test_a_teacher_that_is_there_is_not_trained_again(self, bench: Bench, home: Path, contents: Contents) -> None:
        before = contents(home)
        options = ["--role", "both", "--dataset", "digits", "--recipe", "demo", "--limit-train", "100"]
        result = bench("teacher", "train", *options, home=home)
        assert result.code == 0, result
        assert contents(home) == before
        assert len(result.out.splitlines()) == 2

    def test_help_without_a_command(self, bench: Bench) -> None:
        result = bench()
        assert result.code == 2
        assert "Commands:" in result.err
        assert len(result.err.splitlines()) > 5


class TestHome:
    def test_before_the_command_after_it_or_in_the_environment(
        self, bench: Bench, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "evaluated" in bench("status", home=trained).out
        assert "evaluated" in bench("--home", trained, "status").out
        monkeypatch.setenv("BENCH_HOME", str(trained))
        assert "evaluated" in bench("status").out
        assert "Nothing is trained or evaluated" in bench("status", home=tmp_path).out

    def test_the_current_folder_by_default(self, bench: Bench, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(trained)
        assert "evaluated" in bench("status").out
