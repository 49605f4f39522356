"""AutoAttack after `apgd`: only the rest is done, with the same verdicts, and only where all is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyautoattack
import pytest
import torch
from torch import nn

import bench
from bench import registry
from bench.data.dataset import Dataset, Split, to_float
from bench.evaluation.suites import SUITES, suites_named
from bench.jobs.make_record import Asked, begun_by
from bench.records.outcomes import unpack
from bench.records.record import Record
from bench.system.home import Home
from bench.system.signals import Interrupted, StopRequest

from .small import SUBJECT, evaluator
from .test_kept import StopAfter, network

N = 24


@pytest.fixture
def wide() -> Dataset:
    """Images that the network gets right but for two; in this ball APGD breaks some, and Square some more."""
    images = torch.randint(256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        labels = network()(to_float(images)).argmax(1)
    labels[:2] = (labels[:2] + 1) % 4
    split = Split(images, labels)
    return Dataset("small", split, split, ("a", "b", "c", "d"), eps=0.03)


def run(
    dataset: Dataset, suite: str, begun: Record | None = None, model: nn.Module | None = None, **options: Any
) -> Record:
    subject, stop = options.pop("subject", SUBJECT), options.pop("stop", None)
    made = evaluator(**options)
    made.stop = made.stop if stop is None else stop
    named = suites_named(suite.split(","))
    return made.evaluate(model or network(), dataset, subject, named, None, "record", None, begun)


def verdicts(record: Record) -> tuple[list[bool], dict[str, float]]:
    result = record.results["autoattack"]
    return unpack(result.final, N).tolist(), dict(result.components)


def passes(record: Record) -> int:
    assert record.checks is not None
    assert record.checks.attack_passes is not None
    return record.checks.attack_passes - N  # less those of the clean accuracy


@pytest.fixture
def quick(quick_autoattack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tenth of its queries, too."""
    real = pyautoattack.AutoAttack.__init__

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.square.n_queries = 100

    monkeypatch.setattr(pyautoattack.AutoAttack, "__init__", made)


@pytest.mark.usefixtures("quick")
def test_autoattack_does_only_what_apgd_has_left(wide: Dataset, tmp_path: Path) -> None:
    plain, first = run(wide, "autoattack"), run(wide, "apgd")
    shares = list(first.results["apgd"].components.values())
    assert list(first.results["apgd"].components) == ["clean", "apgd-ce", "apgd-t"]
    assert 0 < shares[-1] < shares[0] < 1
    rest = run(wide, "autoattack", begun=first)
    both = run(wide, "apgd,autoattack")
    assert verdicts(rest) == verdicts(both) == verdicts(plain)
    assert passes(plain) - passes(rest) > 0.8 * passes(first)
    # A sitting that is broken off goes on with the outcomes it began from; without them it begins anew.
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(wide, "autoattack", first, StopAfter(network(), stop, 12), stop=stop, kept=tmp_path)
    assert list(tmp_path.rglob("autoattack.rest.inner.safetensors"))
    assert verdicts(run(wide, "autoattack", first, kept=tmp_path)) == verdicts(plain)
    assert verdicts(run(wide, "autoattack", kept=tmp_path)) == verdicts(plain)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "what", ["weights", "images", "radius", "norm", "seed", "precision", "versions", "parameters", "nothing"]
)
def test_outcomes_of_anything_else_are_not_used(wide: Dataset, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(wide, "apgd")
    none = {"final": "AAAA"}  # every sample fooled: whoever begins from that finds nothing standing
    first = first.model_copy(update={"results": {"apgd": first.results["apgd"].model_copy(update=none)}})
    options: dict[str, Any] = {}
    if what == "weights":
        options["subject"] = SUBJECT.model_copy(update={"checkpoint": "cd" * 32})
    elif what == "images":
        wide = replace(wide, test=wide.test.first(N - 1))
    elif what == "radius":
        wide = replace(wide, eps=0.031)
    elif what == "norm":
        first = first.model_copy(update={"data": first.data.model_copy(update={"norm": "l2"})})
    elif what == "seed":
        options["seed"] = 1
    elif what == "precision":
        options["precision"] = "tf32"
    elif what == "versions":
        first.environment["packages"]["torch"] = "0.1"
    elif what == "parameters":
        kind = registry.load("attacks", "autoattack")
        monkeypatch.setattr(kind, "protocols", {"official": {"batch_size": 7}})
    record = run(wide, "autoattack", first, **options)
    assert (record.results["autoattack"].correct == 0) == (what == "nothing")


@pytest.mark.usefixtures("quick")
def test_the_record_of_apgd_is_found_by_whoever_evaluates(wide: Dataset, tmp_path: Path) -> None:
    """`bench.evaluate`, as `bench eval`, looks for it by the name that it has under the very conditions asked for."""

    def evaluated(suite: str, home: str, model: nn.Module | None = None, **options: Any) -> Record:
        return bench.evaluate(model or network(), wide, suite, home=tmp_path / home, save=True, name="small", **options)

    first, plain = evaluated("apgd", "begun"), evaluated("autoattack", "new")
    records = Home(tmp_path / "begun").records
    asked = Asked(first.subject, wide, suites_named(["autoattack"]))
    found = begun_by(asked, records)
    assert found is not None
    assert found.id == first.id
    rest = evaluated("autoattack", "begun")
    assert verdicts(rest) == verdicts(plain)
    assert passes(plain) - passes(rest) > 0.8 * passes(first)
    trained_again = first.subject.model_copy(update={"checkpoint": "cd" * 32})
    for other in (
        *(replace(asked, limit=N - 1), replace(asked, seed=1), replace(asked, protocol="paper")),
        *(replace(asked, dataset=replace(wide, eps=0.031)), replace(asked, dataset=replace(wide, norm="l2"))),
        *(replace(asked, attack_set={"norm": "l2"}), replace(asked, precision="tf32"), replace(asked, worst_case=True)),
        *(replace(asked, subject=trained_again), replace(asked, suite=suites_named(["square"]))),
        replace(asked, dataset=replace(wide, test=replace(wide.test, images=255 - wide.test.images))),
    ):
        assert begun_by(other, records) is None


def test_the_suite_says_what_it_is() -> None:
    assert registry.attack_class("apgd").label == "APGD-CE + APGD-T"
    assert "AutoAttack ensemble" not in SUITES["apgd"].description
