"""What a run's threat makes of a method's lengths, and which methods it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from attacks.bim import BIM
from attacks.loop import GradientAttack
from bench import registry
from bench.data.dataset import Split
from bench.errors import BenchError
from bench.jobs import train
from bench.jobs.train import Request
from bench.recipes import hyperparameters
from bench.recipes.training import Selection
from bench.runs.config import DataRef
from bench.threat import Threat
from bench.training.monitor import Monitor
from methods.adversarial import AdversarialDefense
from methods.sat import SAT

DATA = DataRef(name="cifar10", spec="cifar10", fingerprint="f" * 64, n=50_000, classes=10, in_channels=3, eps=8 / 255)


def under(text: str, asked: bool = True) -> DataRef:
    threat = Threat.parse(text)
    return DATA.model_copy(update={"norm": threat.norm, "eps": threat.eps, "asked": asked})


@pytest.mark.parametrize("method", [name for name in registry.names("methods") if name != "natural"])
@pytest.mark.parametrize(
    ("text", "eps", "step"),
    [("l2:0.5", 0.5, 15 / 255), ("l2:1", 1.0, 30 / 255), ("l1:12", 12.0, 3.0), ("l1:6", 6.0, 1.5)],
)
def test_every_defense_attacks_in_the_norm_of_its_run(method: str, text: str, eps: float, step: float) -> None:
    for variant in hyperparameters.method_class(method).variants:
        values = hyperparameters.resolve(method, variant, {"step_size": 0.007}, {}, Threat.parse(text))
        assert (values["eps"], values["step_size"]) == (pytest.approx(eps), pytest.approx(step))
        defense: Any = hyperparameters.make(method, values)
        attack = defense.inner_attack()
        assert (attack.norm, attack.eps, attack.step_size) == (text[:2], pytest.approx(eps), pytest.approx(step))


def test_what_the_user_sets_comes_last_and_natural_training_attacks_nothing() -> None:
    values = hyperparameters.resolve("sat", "paper", {}, {"step_size": 0.2}, Threat("l2", 1))
    assert values["step_size"] == 0.2
    assert hyperparameters.resolve("natural", "paper", {}, {}, Threat("l1", 12)) == {}


def test_of_l_infinity_no_run_says_the_norm() -> None:
    assert "norm" not in hyperparameters.resolve("sat", "paper", {}, {}, Threat("linf", 4 / 255))
    with pytest.raises(BenchError, match="the run's threat says in which norm"):
        hyperparameters.parse_settings("sat", ["norm=l2"])


def test_the_threat_is_part_of_a_runs_identity_however_it_was_asked_for() -> None:
    request = Request("sat", "resnet18")
    known = {text: train.configure(request, under(text), ()) for text in ("linf:8/255", "linf:4/255", "l2:8/255")}
    assert len({config.id for config in known.values()}) == 3
    assert train.configure(request, DATA, ()).id == known["linf:8/255"].id
    assert train.configure(request, under("l2:8/255", asked=False), ()).id == known["l2:8/255"].id
    assert known["linf:4/255"].setting.endswith("trained under linf:4/255")
    assert known["l2:8/255"].setting.endswith("trained under l2:8/255")
    assert "under" not in train.configure(request, under("linf:4/255", asked=False), ()).setting, "as earlier versions"


@dataclass(kw_only=True)
class OldInner(SAT):
    """One whose inner attack is as before there were norms."""

    def inner_attack(self) -> GradientAttack:
        return BIM(eps=self.eps, step_size=self.step_size, steps=self.steps)


@dataclass(kw_only=True)
class OldDefense(AdversarialDefense):
    """One that states other lengths than those that have a value in every norm."""

    width: float = 0.1

    label = "Old"
    source = "nowhere"
    lengths = ("eps", "step_size", "width")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OldInner, "mine cannot be made of these hyper-parameters: its inner attack"),
        (OldDefense, "mine cannot be trained under l2:0.5: it states no width for it"),
    ],
)
def test_a_defense_that_cannot_says_so_before_anything_begins(
    kind: type, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: kind if name == "mine" else load(group, name))
    request = Request("mine", "resnet18", recipe="demo")
    train.check(request)
    with pytest.raises(BenchError, match=said):
        train.check(replace(request, threat=Threat("l2", 0.5)))


def test_looks_of_training_are_under_the_runs_threat() -> None:
    split = Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    attacks: list[Any] = [
        Monitor(split, Selection(split="test", steps=10), threat, 0).attack
        for threat in (Threat(), Threat("linf", 4 / 255), Threat("l2", 1.0))
    ]
    assert [(each.norm, each.eps, each.steps) for each in attacks] == [
        *(("linf", 8 / 255, 10), ("linf", 4 / 255, 10), ("l2", 1.0, 10)),
    ]
    assert [each.step_size for each in attacks] == [pytest.approx(step) for step in (0.003, 0.0015, 0.25)]
