"""The evaluator: outcomes that do not depend on how images are batched, models left as they were, sanity flags."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from attacks.cw_inf import CWInf
from attacks.pgd import PGDTRADES
from bench import evaluation
from bench.attack import Attack, Outcome
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.evaluation import attack_run, sanity
from bench.evaluation.attack_run import start_noise
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import SUITES, Entry, Suite
from bench.evaluation.transfers import Surrogate
from bench.records.record import Record, Subject, read_record, unpack, write_record
from bench.stats import wilson_interval
from bench.system.console import Reporter
from bench.system.signals import Interrupted, StopRequest

N = 40
WHITEBOX, BLACKBOX = SUITES["whitebox"], SUITES["blackbox"]


@pytest.fixture(autouse=True)
def _all_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attack_run.FASTEST, "cpu", 250)


def network(seed: int = 0, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, classes)
        )
        model[1].running_mean.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Images that `network()` gets right but for every tenth; the last two classes have none."""
    images = torch.randint(256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        labels = network()(to_float(images)).argmax(1)
    labels[::10] = (labels[::10] + 1) % 4
    split = Split(images, labels)
    return Dataset("small", split, split, ("a", "b", "c", "d", "e"), eps=8 / 255)


SUBJECT = Subject(
    kind="checkpoint",
    run=None,
    method="file",
    label="file",
    overrides={},
    role=None,
    model="small",
    seed=None,
    recipe=None,
    setting="unknown",
    selection="unknown",
    checkpoint="ab" * 32,
)


def evaluator(stop: StopRequest | None = None, **options: Any) -> Evaluator:
    reporter = Reporter(Console(file=io.StringIO()))
    return Evaluator(
        torch.device("cpu"), options.pop("protocol", "official"), reporter, stop or StopRequest(), **options
    )


def evaluate(
    model: nn.Module, dataset: Dataset, suite: Suite = WHITEBOX, limit: int | None = None, **options: Any
) -> Record:
    surrogate = options.pop("surrogate", None)
    return evaluator(**options).evaluate(model, dataset, SUBJECT, suite, limit, "record", surrogate)


def outcomes(record: Record) -> dict[str, tuple[str, str | None]]:
    return {name: (result.final, result.worst) for name, result in record.results.items()}


@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_outcomes_do_not_depend_on_the_batch_size(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    seen = []
    for batch_size in (250, 7, 1):
        monkeypatch.setitem(attack_run.FASTEST, "cpu", batch_size)
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
    noise = start_noise(attack, x, 0, 0, "pgd-sat")
    assert noise is not None
    assert torch.equal(noise, start_noise(attack, x, 0, 0, "pgd-sat"))
    assert torch.equal(noise[7:9], start_noise(attack, x[7:9], 7, 0, "pgd-sat"))  # it belongs to the sample
    assert not torch.equal(noise, start_noise(attack, x, 0, 1, "pgd-sat"))
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
    statistics = teacher[1].running_mean.clone()
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
    assert torch.equal(teacher[1].running_mean, statistics)
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

    monkeypatch.setitem(attack_run.FASTEST, "cpu", 16)
    real = evaluation.evaluator.attack_class
    monkeypatch.setattr(
        evaluation.evaluator, "attack_class", lambda name: Negative if name == "negative" else real(name)
    )
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


@dataclass(frozen=True, kw_only=True)
class Strange(Attack):
    """Moves by `by` of eps; its iterates (of which it tells only if `tells`) by `iterate` of it."""

    by: float = 1.0
    iterate: float = 0.0
    tells: bool = False
    shows: bool = True
    spoilt: float | None = None

    label: ClassVar[str] = "Strange"
    source: ClassVar[str] = "nobody"
    white_box: ClassVar[bool] = False

    def moved(self, x: Tensor, by: float) -> Tensor:
        return torch.where(x > 0.5, x - by * self.eps, x + by * self.eps)

    def run(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        x_adv, iterate = self.moved(x, self.by), self.moved(x, self.iterate)
        if self.spoilt is not None:
            x_adv[-1, 0, 0, 0] = self.spoilt
        always = model(iterate).argmax(1) == y if self.tells else None
        return Outcome(x_adv, always, witnesses=iterate if self.tells and self.shows else None)


class Surviving(Strange):
    def survivors(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome | None:
        outcome = self.run(model, x, y)
        return Outcome(outcome.x_adv, model(outcome.x_adv).argmax(1) == y)


Register = Any


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> Register:
    """strange(kind, by=...): the suite of an attack called "strange", with these parameters."""
    real = evaluation.evaluator.attack_class

    def register(kind: type[Strange] = Strange, transfer: bool = False, **parameters: Any) -> Suite:
        @dataclass(frozen=True, kw_only=True)
        class Registered(kind):  # type: ignore[misc, valid-type]
            protocols: ClassVar[Any] = {"official": parameters}

        for module in (evaluation.evaluator, sanity):
            monkeypatch.setattr(module, "attack_class", lambda name: Registered if name == "strange" else real(name))
        return Suite("own", "", (Entry("strange", transfer),))

    return register


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"by": 1.01}, "0.0316863 away from their originals, beyond its eps = 0.0313725"),
        ({"spoilt": float("nan")}, "with NaN or infinite pixels"),
        ({"spoilt": float("inf")}, "with NaN or infinite pixels"),
        ({"spoilt": -0.001}, "outside \\[0, 1\\]"),
        ({"spoilt": 1.001}, "outside \\[0, 1\\]"),
        ({"tells": True, "iterate": 1.01}, "beyond its eps"),
        ({"tells": True, "shows": False}, "without `witnesses`"),
    ],
)
@pytest.mark.parametrize("worst_case", [False, True])
def test_an_attack_that_leaves_its_ball_or_the_images_gives_no_number(
    dataset: Dataset, strange: Register, parameters: dict[str, Any], problem: str, worst_case: bool, tmp_path: Path
) -> None:
    suite = strange(**parameters)
    with pytest.raises(BenchError, match=f"The attack strange .*{problem}"):
        evaluate(network(), dataset, suite, worst_case=worst_case, kept=tmp_path)
    assert not list(tmp_path.rglob("strange*"))  # nothing of it is kept for the next time


def test_what_stays_within_rounding_of_its_ball_is_recorded(dataset: Dataset, strange: Register) -> None:
    record = evaluate(network(), dataset, strange(tells=True, iterate=1 + 1e-6))
    assert record.results["strange"].worst is not None


def test_survivors_are_believed_by_their_images(dataset: Dataset, strange: Register) -> None:
    assert evaluate(network(), dataset, strange(Surviving), worst_case=True).results["strange"].worst is None
    with pytest.raises(BenchError, match=r"The attack strange .*beyond its eps"):
        evaluate(network(), dataset, strange(Surviving, by=1.5), worst_case=True)

    class Old(Strange):
        def survivors(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Any:
            return torch.ones_like(y, dtype=torch.bool)

    with pytest.raises(BenchError, match="The attack strange gives survivors that are no Outcome"):
        evaluate(network(), dataset, strange(Old), worst_case=True)


def test_an_attack_that_writes_into_its_images_hides_nothing(
    dataset: Dataset, strange: Register, tmp_path: Path
) -> None:
    class InPlace(Strange):
        def run(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome:
            y.copy_(model(x).argmax(1))
            return Outcome(x.copy_(self.moved(x, self.by)))

    surrogate = Surrogate(network(seed=1), "cd" * 32, "small")
    for transfer in (False, True):
        with pytest.raises(BenchError, match="beyond its eps"):
            evaluate(network(), dataset, strange(InPlace, transfer, by=2.0), surrogate=surrogate)
    fine = evaluate(network(), dataset, strange(InPlace)).results["strange"]
    assert fine.final == evaluate(network(), dataset, strange()).results["strange"].final


def test_transferred_images_are_checked_before_they_are_kept(
    dataset: Dataset, strange: Register, tmp_path: Path
) -> None:
    surrogate = Surrogate(network(seed=1), "cd" * 32, "small")
    with pytest.raises(BenchError, match=r"The attack transfer:strange .*beyond its eps"):
        evaluate(network(), dataset, strange(transfer=True, by=2.0), surrogate=surrogate, kept=tmp_path)
    assert not list((tmp_path / "transfers").glob("*"))


def test_an_attack_keeps_the_radius_it_does_not_declare_as_scaling(dataset: Dataset, strange: Register) -> None:
    class Fixed(Strange):
        lengths: ClassVar[tuple[str, ...]] = ()

    record = evaluate(network(), dataset, strange(Fixed, eps=0.2))
    assert record.data.eps == 8 / 255
    assert record.results["strange"].parameters["eps"] == 0.2
    assert "strange was run at its own eps = 0.2, not at the dataset's 0.03137" in record.flags
    with torch.no_grad():
        x = to_float(dataset.test.images)
        right = network()(Fixed(eps=0.2).moved(x, 1.0)).argmax(1) == dataset.test.labels
    assert (unpack(record.results["strange"].final, N) == right.numpy()).all()
    with pytest.raises(BenchError, match=r"beyond its eps = 0\.2"):
        evaluate(network(), dataset, strange(Fixed, eps=0.2, by=1.1))
    assert not any("own eps" in flag for flag in evaluate(network(), dataset, strange(eps=0.2)).flags)


def test_a_length_that_scales_takes_the_radius_with_it() -> None:
    """Before radii could stay, nobody had to name `eps` among the lengths."""

    @dataclass(frozen=True, kw_only=True)
    class Stepping(Strange):
        step_size: float = 2 / 255
        lengths: ClassVar[tuple[str, ...]] = ("step_size",)

    scaled = Stepping.for_protocol("official", 4 / 255)
    assert (scaled.eps, scaled.parameters()["step_size"]) == (4 / 255, pytest.approx(1 / 255))
    with pytest.raises(BenchError, match=r"has eps = 0.*\n"):
        type("Nothing", (Strange,), {"protocols": {"official": {"eps": 0.0}}}).for_protocol("official", 8 / 255)


def spoilt(value: float, where: str) -> nn.Module:
    model = network()
    with torch.no_grad():
        model.get_submodule("4" if where == "weight" else "1").state_dict()[where].view(-1)[0] = value
    return model


@pytest.mark.parametrize("where", ["weight", "running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(dataset: Dataset, where: str, value: float) -> None:
    with pytest.raises(BenchError, match=f"file has NaN or infinite weights, in .*{where}"):
        evaluate(spoilt(value, where), dataset)
    surrogate = Surrogate(spoilt(value, where), "cd" * 32, "small")
    with pytest.raises(BenchError, match="the surrogate small has NaN or infinite weights"):
        evaluate(network(), dataset, BLACKBOX, surrogate=surrogate)


class Broken(nn.Module):
    """NaN for what `where` says is so of an image: its mean, or how much of it lies between the levels of 8 bits."""

    def __init__(self, attacked_only: bool) -> None:
        super().__init__()
        self.network, self.attacked_only = network(), attacked_only

    def forward(self, x: Tensor) -> Tensor:
        between = (255 * x - (255 * x).round()).abs().flatten(1).amax(1) > 1e-3
        bad = between if self.attacked_only else x.flatten(1).mean(1) > 0.5
        return torch.where(bad[:, None], torch.nan, self.network(x))


@pytest.mark.parametrize(("attacked_only", "what"), [(False, "images of the test set"), (True, "the attack square")])
def test_outputs_that_are_no_numbers_are_refused(dataset: Dataset, attacked_only: bool, what: str) -> None:
    with pytest.raises(BenchError, match=f"file gives NaN or infinity for .*{what}"):
        evaluate(Broken(attacked_only), replace(dataset, eps=0.1), Suite("own", "", (Entry("square"),)))


def test_outputs_that_are_probabilities_are_flagged(dataset: Dataset) -> None:
    square = Suite("own", "", (Entry("square"),))
    for suite in (WHITEBOX, square):
        flags = evaluate(nn.Sequential(network(), nn.Softmax(1)), dataset, suite).flags
        assert any(flag.startswith("the outputs are probabilities") for flag in flags)
        assert not any("probabilities" in flag for flag in evaluate(network(), dataset, suite).flags)


def test_a_model_that_knows_nothing_is_flagged(dataset: Dataset) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 5) + x.flatten(1)[:, :1]

    labels = torch.arange(N) % 5
    balanced = replace(dataset, test=Split(dataset.test.images, labels))
    flags = evaluate(Constant(), balanced, Suite("own", "", (Entry("square"),))).flags
    assert "clean accuracy is 20.0%, not surely better than chance (20.0%)" in flags
    assert not any("chance" in flag for flag in evaluate(network(), dataset).flags)
