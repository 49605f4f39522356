"""What is not believed: attacks that leave their ball, survivors without images, outputs that are no numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import evaluation, registry
from bench.attack import Attack, Outcome, distance
from bench.compute.speedups import View, enabled
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.evaluation import sanity
from bench.evaluation.suites import Entry, Suite, suite_named
from bench.evaluation.target import view_of
from bench.evaluation.transfers import Surrogate
from bench.records.outcomes import unpack, unpack_radii

from .small import BLACKBOX, WHITEBOX, N, evaluate, network

pytestmark = pytest.mark.usefixtures("all_in_one_batch")


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
    real = registry.attack_class

    def register(kind: type[Strange] = Strange, transfer: bool = False, **parameters: Any) -> Suite:
        @dataclass(frozen=True, kw_only=True)
        class Registered(kind):  # type: ignore[misc, valid-type]
            protocols: ClassVar[Any] = {"official": parameters}

        for module in (evaluation.evaluator, sanity, registry):
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


def test_what_fools_a_copy_of_the_network_has_to_fool_the_network(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is wrong about everything, as rounding may make the folded one about an image."""
    suite = suite_named("pgd-sat")
    plain = [evaluate(network(), dataset, suite, worst_case=worst).results["pgd-sat"] for worst in (False, True)]

    def wrong_copy(model: nn.Module, speedups: Any) -> View | None:
        view = view_of(model, enabled())
        assert view is not None
        last = view.module.get_submodule("4")
        last.register_forward_hook(lambda module, images, logits: logits.roll(1, 1))
        return view

    monkeypatch.setattr(evaluation.evaluator, "view_of", wrong_copy)
    by_copy = [evaluate(network(), dataset, suite, worst_case=worst).results["pgd-sat"] for worst in (False, True)]
    # In the worst case the attack is then made on the network itself.
    assert by_copy[1].final == plain[1].final
    assert plain[1].correct > 0
    worst, final = (unpack(each or "", N) for each in (by_copy[0].worst, by_copy[0].final))
    assert worst.any()
    assert not (worst & ~final).any()


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

    class Nothing(Strange):
        protocols: ClassVar[Any] = {"official": {"eps": 0.0}}

    with pytest.raises(BenchError, match=r"has eps = 0.*\n"):
        Nothing.for_protocol("official", 8 / 255)


@dataclass(frozen=True, kw_only=True)
class Radial(Strange):
    """Says that its images are `said` of their distances from the originals; `wrong` says it in another way."""

    said: float = 1.0
    wrong: str = ""

    def run(self, model: Any, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        x_adv = self.moved(x, self.by)
        radii = self.said * distance(x_adv, x, self.norm)
        if self.spoilt is not None:
            x_adv[-1, 0, 0, 0] = self.spoilt
        if self.wrong == "shape":
            return Outcome(x_adv, radii=radii[:-1])
        if self.wrong == "kind":
            return Outcome(x_adv, radii=torch.ones_like(y))
        return Outcome(x_adv, radii=torch.full_like(radii, float(self.wrong)) if self.wrong else radii)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"said": 0.9}, "made images further from their originals than its radii say"),
        ({"wrong": "0"}, "made images further from their originals than its radii say"),
        *(({"wrong": wrong}, "gives radii that are no distances") for wrong in ("shape", "kind", "nan", "-0.1")),
        ({"spoilt": float("nan"), "by": 0.5}, "NaN or infinite pixels"),
    ],
)
def test_radii_are_believed_by_their_images(
    dataset: Dataset, strange: Register, parameters: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    suite = strange(Radial, **{"by": 4.0, **parameters})
    with pytest.raises(BenchError, match=f"The attack strange .*{problem}"):
        evaluate(network(), dataset, suite, kept=tmp_path)
    assert not list(tmp_path.rglob("strange*"))


def test_an_image_that_does_not_fool_is_none_that_was_found(dataset: Dataset, strange: Register) -> None:
    record = evaluate(network(), dataset, strange(Radial, by=4.0))
    result, clean = record.results["strange"], record.results["clean"]
    x, y = to_float(dataset.test.images), dataset.test.labels
    with torch.no_grad():
        fooled = network()(Radial(eps=dataset.eps).moved(x, 4.0)).argmax(1) != y
    assert 0 < fooled.sum() < N
    radii = unpack_radii(result.radii or "", N)
    assert (np.isfinite(radii) == fooled.numpy()).all()
    assert radii[fooled.numpy()] == pytest.approx(4 * dataset.eps, rel=1e-5)  # beyond eps: all count as right
    assert result.correct == N
    still = evaluate(network(), dataset, strange(Radial, by=0.0)).results["strange"]
    assert still.final == clean.final


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
