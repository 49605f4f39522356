"""The evaluator: outcomes that do not depend on how images are batched, and models left as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from attacks.cw_inf import CWInf
from attacks.pgd import PGDTRADES
from bench import evaluation, registry
from bench.attack import Attack, Outcome
from bench.data.dataset import Dataset, to_float
from bench.errors import BenchError
from bench.evaluation import attack_run
from bench.evaluation.attack_run import start_noise
from bench.evaluation.suites import Entry, Suite
from bench.evaluation.transfers import Surrogate
from bench.records.files import read_record, write_record
from bench.records.outcomes import unpack
from bench.records.record import Record
from bench.stats import wilson_interval
from bench.system.signals import Interrupted, StopRequest

from .small import BLACKBOX, SUBJECT, N, evaluate, evaluator, network

pytestmark = pytest.mark.usefixtures("all_in_one_batch")


def outcomes(record: Record) -> dict[str, tuple[str, str | None]]:
    return {name: (result.final, result.worst) for name, result in record.results.items()}


@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_outcomes_do_not_depend_on_the_batch_size(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    seen = []
    for batch_size in (250, 7, 1):
        monkeypatch.setattr(attack_run, "at_once", lambda *_, size=batch_size: size)
        record = evaluate(network(), dataset, protocol=protocol)
        assert {result.batch_size for result in record.results.values()} == {batch_size}
        seen.append(outcomes(record))
    assert seen[0] == seen[1] == seen[2]
    assert len({final for final, _ in seen[0].values()}) > 2  # the attacks do differ


def test_outcomes_do_not_depend_on_the_limit(dataset: Dataset) -> None:
    whole, part = evaluate(network(), dataset), evaluate(network(), dataset, limit=15)
    assert (part.data.n, part.data.total, whole.data.n) == (15, N, N)
    for name, result in part.results.items():
        assert (unpack(result.final, 15) == unpack(whole.results[name].final, N)[:15]).all()


def test_another_seed_gives_other_start_noise(dataset: Dataset) -> None:
    x, attack = to_float(dataset.test.images), evaluator().attack_named("pgd-sat", 8 / 255)

    def noise_of(images: Tensor, first: int, seed: int) -> Tensor:
        found = start_noise(attack, images, first, seed, "pgd-sat")
        assert found is not None
        return found

    noise = noise_of(x, 0, 0)
    assert torch.equal(noise, noise_of(x, 0, 0))
    assert torch.equal(noise[7:9], noise_of(x[7:9], 7, 0))  # it belongs to the sample
    assert not torch.equal(noise, noise_of(x, 0, 1))
    assert len(noise.unique()) > noise.numel() // 2
    assert start_noise(evaluator().attack_named("cw-inf", 8 / 255), x, 0, 0, "cw-inf") is None


def test_a_record_is_valid_and_says_what_was_measured(dataset: Dataset, tmp_path: Path) -> None:
    model = network()
    record = evaluate(model, dataset)
    assert read_record(write_record(record, tmp_path)).results == record.results
    assert list(record.results) == ["clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf"]
    clean = record.results["clean"]
    assert clean.accuracy == 0.9
    assert unpack(clean.final, N).tolist() == [i % 10 != 0 for i in range(N)]
    assert (clean.worst, clean.worst_accuracy, clean.parameters) == (None, None, {})
    labels = dataset.test.labels.numpy()
    right = unpack(clean.final, N)
    assert set(labels) == {0, 1, 2}
    assert clean.class_accuracy == [*(pytest.approx(right[labels == label].mean()) for label in range(3)), None, None]
    for name, result in record.results.items():
        final = unpack(result.final, N)
        assert (result.correct, result.accuracy) == (final.sum(), final.mean())
        assert result.interval == wilson_interval(result.correct, N)
        assert result.surrogate is None
        if name == "clean":
            continue
        assert result.worst is not None
        worst = unpack(result.worst, N)
        assert not (worst & ~final).any()
        assert result.worst_accuracy == worst.mean()
        assert result.parameters["eps"] == 8 / 255
        if result.parameters["start"] == "none":
            assert not (worst & ~right).any()  # the start, x itself, is one of the iterates
    assert any(result.worst != result.final for result in record.results.values())
    assert record.results["pgd-trades"].parameters["step_size"] == 0.003
    assert evaluate(model, dataset, protocol="paper").results["pgd-trades"].parameters["step_size"] == 2 / 255


def test_attacks_have_the_datasets_radius(dataset: Dataset) -> None:
    record = evaluate(network(), replace(dataset, eps=2 / 16))
    assert record.data.eps == 2 / 16
    for name, result in record.results.items():
        if name != "clean":
            assert result.parameters["eps"] == 2 / 16
    assert record.results["pgd-sat"].parameters["step_size"] == pytest.approx(2 / 16 / 4)
    assert record.results["pgd-sat"].accuracy < evaluate(network(), dataset).results["pgd-sat"].accuracy


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_as_it_was(dataset: Dataset, training: bool) -> None:
    model = network().train(training)
    model[1].train(not training)  # not all modules in the same mode
    model[0].weight.requires_grad_(False)  # nor all weights with the same flag
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [value.requires_grad for value in model.parameters()]
    record = evaluate(model, dataset)
    assert [module.training for module in model.modules()] == modes
    assert [value.requires_grad for value in model.parameters()] == flags
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert outcomes(record) == outcomes(evaluate(network(), dataset))  # evaluated in eval mode whatever it was in


def test_the_model_comes_back_as_it_was_after_an_error(dataset: Dataset) -> None:
    stop = StopRequest()
    stop.signal_number = 15
    model = network().train()
    with pytest.raises(Interrupted, match="what is computed is kept"):
        evaluate(model, dataset, stop=stop)
    assert all(module.training for module in model.modules())
    assert all(value.requires_grad for value in model.parameters())


def test_transferred_attacks_are_crafted_on_the_surrogate_once(dataset: Dataset) -> None:
    teacher = network(seed=1).train()
    statistics = teacher.state_dict()["1.running_mean"].clone()
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    surrogate = Surrogate(teacher, "cd" * 32, "small")
    ours = evaluator(speedups=frozenset())  # on the teacher itself, and not on a copy

    def run(model: nn.Module) -> Record:
        return ours.evaluate(model, dataset, SUBJECT, BLACKBOX, None, "record", surrogate)

    record = run(network())
    assert list(record.results) == ["clean", "transfer:pgd-trades", "transfer:cw-inf", "square"]
    assert len(calls) == 20 + 30
    assert teacher.training
    assert torch.equal(teacher.state_dict()["1.running_mean"], statistics)
    run(network(seed=2))
    assert len(calls) == 20 + 30
    for name in ("transfer:pgd-trades", "transfer:cw-inf"):
        assert record.results[name].surrogate == "cd" * 32
        assert record.results[name].worst is None
    assert record.results["square"].surrogate is None
    # The images are those of the attack on the teacher in eval mode, whoever is then shown them.
    x, y = to_float(dataset.test.images), dataset.test.labels
    attacks = {"transfer:cw-inf": CWInf(), "transfer:pgd-trades": PGDTRADES(step_size=0.003)}
    for name, attack in attacks.items():
        noise = start_noise(attack, x, 0, ours.seed, name)
        x_adv = attack(teacher.eval(), x, y, noise=noise)
        with torch.no_grad():
            right = network()(x_adv).argmax(1) == y
        assert (unpack(record.results[name].final, N) == right.numpy()).all()


def test_another_surrogate_or_other_images_are_not_mixed_up(dataset: Dataset) -> None:
    ours = evaluator()
    records = [
        ours.evaluate(
            network(), data, SUBJECT, BLACKBOX, None, "record", Surrogate(network(seed=seed), f"{seed}" * 64, "small")
        )
        for data in (dataset, replace(dataset, test=dataset.test.take(torch.arange(N).flip(0))))
        for seed in (0, 1)
    ]
    seen = [record.results["transfer:cw-inf"].final for record in records]
    assert len(set(seen)) == 4
    assert (unpack(seen[0], N) == unpack(seen[2], N)[::-1]).all()


def test_a_transfer_needs_a_surrogate(dataset: Dataset) -> None:
    with pytest.raises(BenchError, match="needs a surrogate"):
        evaluate(network(), dataset, BLACKBOX)


def test_an_attack_on_the_whole_set_gets_it_at_once_but_the_network_does_not(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def moved(x: Tensor) -> Tensor:
        return (x + 8 / 255 * (1 - 2 * x).sign()).clamp(0, 1)

    @dataclass(frozen=True, kw_only=True)
    class Negative(Attack):
        batch_size: int = 11
        label: ClassVar[str] = "Negative"
        source: ClassVar[str] = "none"
        whole_set: ClassVar[bool] = True
        white_box: ClassVar[bool] = False

        def run(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome:
            given.append(len(x))
            return Outcome(moved(x), components={"first": 0.5})

    monkeypatch.setattr(attack_run, "at_once", lambda *_: 16)
    real = registry.attack_class
    for module in (evaluation.evaluator, registry):
        monkeypatch.setattr(module, "attack_class", lambda name: Negative if name == "negative" else real(name))
    model, batches = network(), []
    model.register_forward_hook(lambda network, args, output: batches.append(len(args[0])))
    record = evaluate(model, dataset, Suite("own", "", (Entry("negative"),)), speedups=frozenset())
    assert given == [N]
    assert batches[:6] == [16, 16, 8, 16, 16, 8]
    result = record.results["negative"]
    assert (result.batch_size, result.components) == (11, {"first": 0.5})
    with torch.no_grad():
        right = network()(moved(to_float(dataset.test.images))).argmax(1) == dataset.test.labels
    assert (unpack(result.final, N) == right.numpy()).all()
