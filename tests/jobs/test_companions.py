"""Networks of a method's own from a request to their files: architecture, first weights, what is refused and kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.compute.ranks import Ranks
from bench.cost.measure import flops_per_image
from bench.cost.workload import Images, Workload
from bench.data import load_dataset
from bench.defense import Companion
from bench.errors import BenchError
from bench.jobs import companions, train
from bench.jobs.train import Own, Request, configure, data_ref, new_network
from bench.models.checkpoints import load_model, weights_hash
from bench.runs.config import RunConfig
from bench.training.trainer import Trainer

from ..helpers.commands import Bench
from ..helpers.homes import Find, json_lines


def request(method: str, *settings: str, **more: Any) -> Request:
    return Request(method, "digits-cnn", "digits", "demo", settings=settings, **more)


def config(asked: Request, home: Path) -> RunConfig:
    return configure(asked, data_ref(asked, load_dataset("digits", home)), ())


def test_first_weights_follow_from_seed_and_name_alone(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    (peer, again, other), (guide,), none = (
        [companions.new(config(request(method, seed=seed), tmp_path), digits) for seed in seeds]
        for method, seeds in (("peeraid", (3, 3, 4)), ("lbgat", (3,)), ("adr", (3,)))
    )
    student = new_network(config(request("peeraid", seed=3), tmp_path), digits)
    found = [weights_hash(each) for each in (student, peer["peer"], again["peer"], other["peer"], guide["guide"])]
    assert found[1] == found[2]
    assert len(set(found)) == 4
    assert none == [{}]  # it begins as the student


def test_an_architecture_of_its_own_is_a_setting(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    (peer,) = companions.new(config(request("peeraid", "peer=digits-mobile"), tmp_path), digits).values()
    (guide,) = companions.new(config(request("lbgat"), tmp_path), digits).values()
    assert [type(network).__name__ for network in (peer, guide)] == ["MobileNetV2", "ResNet"]
    assert Companion().spec("wrn-34-10@cifar10") == "wrn-34-10@cifar10"
    assert Companion("resnet18").spec("wrn-34-10@cifar10") == "resnet18"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request("lbgat", "guide=digits-cn"), "Did you mean 'digits-cnn'"),
        (request("peeraid", "peer=digits-cnn@nothing"), "Unknown normalisation 'nothing'"),
        (request("peeraid", own=Own(student=nn.Linear(2, 2))), "no name builds Linear.\nName the student's, or"),
    ],
)
def test_what_nothing_builds_is_refused_before_anything_begins(asked: Request, words: str) -> None:
    with pytest.raises(BenchError) as caught:
        train.check(asked)
    assert words in str(caught.value)


def test_a_network_from_python_may_have_a_peer_that_is_named() -> None:
    own = Own(student=nn.Linear(2, 2))
    for method, setting in (("peeraid", ["peer=digits-cnn"]), ("lbgat", []), ("adr", [])):
        train.check(request(method, *setting, own=own))


def test_a_run_keeps_it_as_a_file_that_tells_what_it_is(bench: Bench, tmp_path: Path, runs: Find) -> None:
    options = ("--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo", "--epochs", 1, "--limit-train", 40)
    sets = ("guide=digits-mobile", "steps=1", "training.selection.steps=1")
    result = bench(
        "run", "--method", "lbgat", *options, *(part for each in sets for part in ("--set", each)), home=tmp_path
    )
    assert result.code == 0, result
    (folder,) = runs(tmp_path)
    assert {path.name for path in folder.glob("*.safetensors")} == {
        *("best.safetensors", "last.safetensors", "guide.safetensors"),
    }
    network, spec = load_model(folder / "guide.safetensors", None, 10, 1)
    assert (spec, type(network).__name__) == ("digits-mobile", "MobileNetV2")
    line = json_lines(folder / "metrics.jsonl")[-1]
    assert line["accuracy"].keys() == {"student", "guide"}
    assert {"loss", "mse_guide", "ce_guide", "kl_adv"} == line["terms"].keys()
    evaluated = bench(
        *("eval", "--checkpoint", folder / "guide.safetensors", "--dataset", "digits", "--suite", "fgsm", "--limit", 4),
        home=tmp_path,
    )
    assert evaluated.code == 0, evaluated


def test_its_operations_are_counted() -> None:
    """LBGAT's step is TRADES' and the guide forward and back; PeerAiD's peer comes twice, once without gradient."""
    digits = Images("digits", (1, 8, 8), 10, 1000)

    def counted(method: str, **settings: str) -> float:
        texts = tuple(f"{name}={value}" for name, value in settings.items())
        return flops_per_image(Workload(method, "digits-cnn", digits, "demo", variant="paper", settings=texts), 1)

    natural = counted("natural")  # one pass forward and back
    assert counted("lbgat") == pytest.approx(counted("trades") + natural)
    larger = Workload("natural", "digits-teacher", digits, "demo", variant="paper")
    assert counted("lbgat", guide="digits-teacher") == pytest.approx(counted("trades") + flops_per_image(larger, 1))
    assert Workload("peeraid", "digits-cnn", digits, "demo").companions == {"peer": "digits-cnn"}
    assert Workload("adr", "digits-cnn", digits, "demo").companions == {}


def test_weights_of_its_own_that_are_no_longer_finite_stop_the_run() -> None:
    good, bad = nn.Linear(2, 2), nn.Linear(2, 2)
    bad.weight.data[0, 0] = float("inf")
    state = SimpleNamespace(place=(1, 3), means=SimpleNamespace(read=lambda: {"loss": 1.0}))
    parts: dict[str, Any] = {"state": state, "student": good, "checked": (1, 0), "ranks": Ranks()}
    folder = SimpleNamespace(id="run")
    trainer: Any = SimpleNamespace(**parts, companions={"peer": bad}, folder=folder, _what_is_kept=lambda: "Nothing.")
    with pytest.raises(BenchError, match="no longer finite: the peer's weights"):
        Trainer._read_sums(trainer)
    trainer.companions = {"peer": good}
    assert Trainer._read_sums(trainer) == {"loss": 1.0}


def test_a_last_batch_that_it_cannot_be_trained_on_is_noticed_before() -> None:
    images = torch.zeros(5, 1, 4, 4, dtype=torch.uint8)
    student, peer = nn.Flatten(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))
    settings = SimpleNamespace(student="plain", batch_size=4)
    trainer: Any = SimpleNamespace(ranks=Ranks(), student=student, companions={"peer": peer}, config=settings)
    trainer.train = type("Images", (), {"images": images, "__len__": lambda self: 5})()
    with pytest.raises(BenchError, match="which peer cannot be trained on"):
        Trainer._check_last_batch(trainer, 1)
