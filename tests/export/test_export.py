"""`bench export`: files that compute what the run's network does, and a card that says what is known and no more."""

from __future__ import annotations

import builtins
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from torch import nn

from bench.data import load_dataset, to_float
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.export import formats, robustbench
from bench.models.checkpoints import load_model
from bench.runs.folder import RunFolder
from bench.runs.networks import network_of
from bench.system.home import Home
from bench.system.hub import HubFile
from bench.threat import eps_text

from ..helpers.commands import Bench
from ..helpers.homes import Contents, Find
from ..helpers.hub import Hub
from ..helpers.records import RecordMaker

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra `export` is not installed",
)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return load_dataset("digits", Path("data"))


@pytest.fixture(scope="module")
def ciard(trained: Path, runs: Find) -> str:
    """The id of the CIARD student's run."""
    return runs(trained, "_ciard_")[0].name


@pytest.fixture(scope="module")
def exported(bench: Bench, trained: Path, ciard: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the CIARD student as safetensors."""
    out = tmp_path_factory.mktemp("exported") / "new" / "folder"
    result = bench("export", ciard, "--format", "safetensors", "--out", out, home=trained)
    assert result.code == 0, result
    assert result.out.strip() == str(out)
    return out


def _original(home: Path, run: str, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network_of(RunFolder.of(Home(home), run))(images)


def _front(card: Path) -> dict[str, Any]:
    _, head, _ = card.read_text().split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_safetensors_hold_the_network_that_the_run_selected(
    exported: Path, trained: Path, ciard: str, dataset: Dataset
) -> None:
    network, spec = load_model(exported / "model.safetensors", None, 10, 1)
    images = to_float(dataset.test.images)
    with torch.no_grad():
        torch.testing.assert_close(network(images), _original(trained, ciard, images), rtol=0, atol=1e-6)
    assert spec == "digits-cnn"
    assert not {path.name for path in exported.iterdir()} - {"model.safetensors", "README.md", "model_info.json"}


@needs_onnx
def test_onnx_takes_images_between_0_and_1_whatever_the_normalisation(
    bench: Bench, tmp_path: Path, digits: tuple[str, ...], runs: Find, dataset: Dataset
) -> None:
    """A network with a normalisation in front: a file without it would see other images."""
    import onnx
    import onnxruntime

    assert bench("run", "--method", "natural", "--student", "digits-cnn@half", *digits, home=tmp_path).code == 0
    (run,) = runs(tmp_path)
    result = bench("export", run, home=tmp_path)
    assert result.code == 0, result
    folder = tmp_path / "results" / "exports" / run.name
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for n in (1, 2, 37):
        images = to_float(dataset.test.images[:n])
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), _original(tmp_path, run.name, images), rtol=0, atol=1e-5)
    properties = {each.key: each.value for each in onnx.load(folder / "model.onnx").metadata_props}
    assert properties["run"] == run.name
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mean"]) == json.loads(file.metadata()["std"]) == [0.5]
    assert "mean 0.5, standard deviation 0.5" in (folder / "README.md").read_text()
    assert "Not measured: there is no record" in (folder / "README.md").read_text()
    # A later export without ONNX must not leave a file that its card does not speak of.
    assert bench("export", run, "--format", "safetensors", home=tmp_path).code == 0
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "README.md", "model_info.json"}


def test_the_card_says_what_the_records_say(exported: Path, trained: Path, records: Find, ciard: str) -> None:
    text = (exported / "README.md").read_text()
    (record,) = (json.loads(path.read_text()) for path in records(trained, ciard))
    head = _front(exported / "README.md")
    (index,) = head["model-index"]
    metrics = {metric["name"]: metric["value"] for metric in index["results"][0]["metrics"]}
    for name, result in record["results"].items():
        assert metrics[f"accuracy, {name} (n = 16, official protocol, linf:0.125)"] == result["accuracy"]
        low, high = result["interval"]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {result['accuracy']:.2%} | {low:.2%} to {high:.2%} | 16 of 360 |" in row
    for fact in ("CC BY 4.0", "arXiv:2509.12633", "official variant", "demo recipe, 1 epoch", "AutoAttack was not run"):
        assert fact in text
    assert head["datasets"] == ["digits"]
    for flag in record["flags"]:
        assert flag.split(" (")[0] in text
    assert ("that failed" in text) == bool(record["flags"])
    assert str(trained) not in text


def test_hugging_face_reads_the_card(exported: Path) -> None:
    cards = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = cards.ModelCard.load(exported / "README.md")
    assert card.data.library_name == "ard-bench"
    assert {result.metric_type for result in card.data.eval_results} == {"accuracy"}
    assert len(card.data.eval_results) == 5


def test_what_was_not_measured_on_the_whole_test_set_is_null(exported: Path) -> None:
    info = json.loads((exported / "model_info.json").read_text())
    assert [info[key] for key in ("clean_acc", "autoattack_acc", "reported", "authors", "venue")] == [None] * 5
    assert (info["eps"], info["architecture"], info["dataset"]) == ("0.125", "digits-cnn", "digits")
    assert info["link"] == "https://arxiv.org/abs/2509.12633"
    assert info["additional_data"] is False
    assert "On the first 16 of 360 images, linf:0.125: clean " in info["footnote"]


def test_what_was_measured_on_the_whole_test_set_is_there(make_record: RecordMaker) -> None:
    part = make_record({"clean": 90, "autoattack": 40}, n=100, total=10_000)
    whole = make_record({"clean": 80, "autoattack": 33}, n=90, total=90)
    assert robustbench._accuracy((part, whole), "autoattack") == f"{100 * 33 / 90:.2f}"
    assert robustbench._accuracy((part,), "autoattack") is None
    assert eps_text(8 / 255) == "8/255"


def test_it_is_uploaded_to_a_repository_that_is_made_private(
    bench: Bench, trained: Path, ciard: str, hub: Hub, tmp_path: Path
) -> None:
    command = ("export", ciard, "--format", "safetensors", "--to", "hf:org/repo/ciard", "--out", tmp_path / "out")
    result = bench(*command, home=trained)
    assert result.code == 0, result
    (_, _), (commit, files) = hub.commits["org/repo"]
    assert files == {f"ciard/{path.name}": path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(files) == 3
    assert hub.private == {"org/repo"}
    assert ciard in hub.messages[0]
    assert f"{hub.url}/org/repo/commit/{commit}" in result.err
    teacher, _ = HubFile.parse("hf:org/repo/ciard/model.safetensors").fetch()
    assert load_model(teacher, None, 10, 1)[1] == "digits-cnn"


@pytest.mark.parametrize(
    ("to", "words"), [("hf:org/repo", "you are not logged in (hf auth login)"), ("hf:org", "Write hf:ORG/REPO")]
)
def test_a_hub_that_refuses_is_asked_before_anything_is_written(
    to: str, words: str, bench: Bench, trained: Path, ciard: str, hub: Hub, tmp_path: Path
) -> None:
    hub.refuses = True
    out = tmp_path / "out"
    result = bench("export", ciard, "--format", "safetensors", "--to", to, "--out", out, home=trained)
    assert words in result.mistake
    assert not out.exists()


def test_a_teacher_is_exported_by_its_folder(bench: Bench, trained: Path, runs: Find, tmp_path: Path) -> None:
    (teacher,) = runs(trained, "robust-teacher")
    result = bench("export", teacher, "--format", "safetensors", "--out", tmp_path / "out", home=trained)
    assert result.code == 0, result
    assert "as the robust teacher of students" in (tmp_path / "out" / "README.md").read_text()


def test_a_record_names_its_run(
    bench: Bench, trained: Path, records: Find, ciard: str, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = bench("export", records(trained, ciard)[0], "--format", "safetensors", "--out", out, home=trained)
    assert result.code == 0, result
    assert (out / "model_info.json").read_text() == (exported / "model_info.json").read_text()


def test_another_network_is_an_error_and_leaves_nothing(
    bench: Bench, trained: Path, ciard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = formats.FORMATS["safetensors"]

    def write_another(source: Any, path: Path) -> None:
        other = replace(source, network=network_of(RunFolder.of(Home(trained), ciard)))
        with torch.no_grad():
            next(other.network.parameters())[0] += 0.1
        form.write(other, path)

    monkeypatch.setitem(formats.FORMATS, "safetensors", replace(form, write=write_another))
    result = bench("export", ciard, "--format", "safetensors", "--out", tmp_path / "a" / "b", home=trained)
    assert "does not compute what" in result.mistake
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_survives_a_failed_one(
    bench: Bench, home: Path, ciard: str, runs: Find, contents: Contents
) -> None:
    (run,) = (path for path in runs(home, "_ciard_"))
    assert bench("export", ciard, "--format", "safetensors", home=home).code == 0
    folder = home / "results" / "exports" / ciard
    before = contents(folder)
    weights = safetensors.torch.load_file(run / "best.safetensors")
    with safetensors.safe_open(run / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    next(iter(weights.values())).add_(1)
    safetensors.torch.save_file(weights, run / "best.safetensors", metadata)
    mistake = bench("export", ciard, "--format", "safetensors", home=home).mistake
    assert "its weights are not those that were written into it" in mistake
    assert contents(folder) == before


def test_a_folder_with_other_things_is_left_alone(bench: Bench, trained: Path, ciard: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    result = bench("export", ciard, "--format", "safetensors", "--out", tmp_path, home=trained)
    assert "is not empty" in result.mistake
    assert (tmp_path / "README.md").read_text() == "mine"


def test_mistakes_name_what_is_right(bench: Bench, trained: Path, ciard: str) -> None:
    assert f"Did you mean '{ciard}'?" in bench("export", f"{ciard[:-2]}zz", home=trained).mistake
    assert "Did you mean 'onnx'?" in bench("export", ciard, "--format", "safetensors,onx", home=trained).mistake
    assert "names no format" in bench("export", ciard, "--format", ",", home=trained).mistake


def test_the_missing_extra_is_named(bench: Bench, trained: Path, ciard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else builtins.object())
    assert "pip install 'ard-bench[export]'" in bench("export", ciard, home=trained).mistake


class Branching(nn.Module):
    """Does one thing or another by its input, which no graph can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = x.flatten(1)[:, :10]
        return logits if x.sum() > 3 else -logits


class Pairs(nn.Module):
    """Takes two images and no other number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 64)[:, :10] + 0


@needs_onnx
@pytest.mark.parametrize(("network", "reason"), [(Branching(), "cannot be written"), (Pairs(), "cannot be run on")])
def test_a_network_that_cannot_be_onnx_is_named(network: nn.Module, reason: str, tmp_path: Path) -> None:
    config, folder = SimpleNamespace(student="odd-net"), SimpleNamespace(id="run")
    source: Any = SimpleNamespace(network=network, images=torch.rand(4, 1, 8, 8), metadata={}, config=config)
    source.folder, source.logits = folder, lambda images: torch.cat([network(pair) for pair in images.split(2)])
    form = formats.FORMATS["onnx"]

    def export() -> None:
        form.write(source, tmp_path / form.file)
        formats.agreement(source, form, tmp_path / form.file)

    with pytest.raises(BenchError, match=reason) as error:
        export()
    assert len(str(error.value).splitlines()) == 2


def test_a_card_may_state_the_accuracies_of_one_threat_alone(bench: Bench, home: Path, tmp_path: Path) -> None:
    run = next((home / "results" / "runs").glob("*_sat_demo_s0_*")).name
    assert bench("eval", "--suite", "fgsm", "--limit", 16, "--run", run, "--threat", "l2:0.5", home=home).code == 0
    for options, threats in ((("--threat", "l2:0.5"), {"l2:0.5"}), ((), {"l2:0.5", "linf:0.125"})):
        result = bench("export", run, "--format", "safetensors", "--out", tmp_path / "out", *options, home=home)
        assert result.code == 0, result
        card = (tmp_path / "out" / "README.md").read_text()
        assert set(re.findall(r"\| (l\w+:[\d.]+) \|", card)) == threats
        assert "Threat model of its training: L-infinity, eps = 0.125" in card
        assert json.loads((tmp_path / "out" / "model_info.json").read_text())["threat_model"] == "Linf"
    refused = bench("export", run, "--threat", "l1:3", home=home)
    assert (refused.code, "nothing was measured here under it" in refused.err) == (2, True)
