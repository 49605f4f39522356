"""Parameters of the registered attacks under both protocols, and how they scale to another threat model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from attacks.fgsm import FGSM
from attacks.pgd import PGD
from bench import registry
from bench.attack import Attack

EPS = 8 / 255

TABLE: dict[str, dict[str, dict[str, Any]]] = {
    "fgsm": {"both": {"eps": EPS, "step_size": EPS, "steps": 1, "start": "none"}},
    "pgd-sat": {"both": {"eps": EPS, "step_size": 2 / 255, "steps": 20, "start": "uniform"}},
    "pgd-trades": {
        "official": {"eps": EPS, "step_size": 0.003, "steps": 20, "start": "uniform"},
        "paper": {"eps": EPS, "step_size": 2 / 255, "steps": 20, "start": "uniform"},
    },
    "cw-inf": {
        "official": {
            "eps": EPS,
            "step_size": 2 / 255,
            "steps": 30,
            "start": "none",
            "confidence": 50.0,
            "clamp_each_step": False,
        },
        "paper": {
            "eps": EPS,
            "step_size": 2 / 255,
            "steps": 30,
            "start": "none",
            "confidence": 0.0,
            "clamp_each_step": True,
        },
    },
    "square": {"both": {"eps": EPS, "queries": 100, "seed": 0}},
    "apgd": {"both": {"eps": EPS, "seed": 0, "batch_size": 500}},
    "autoattack": {"both": {"eps": EPS, "seed": 0, "batch_size": 500}},
    "autoattack-rand": {"both": {"eps": EPS, "seed": 0, "batch_size": 500}},
    "bim": {"both": {"eps": EPS, "step_size": 2 / 255, "steps": 10, "start": "none"}},
    "pgd-20": {"both": {"eps": EPS, "step_size": 2 / 255, "steps": 20, "start": "uniform"}},
    "t-pgd": {"both": {"eps": EPS, "step_size": 2 / 255, "steps": 20, "start": "gaussian"}},
    "dpgd": {"both": {"eps": EPS, "step_size": 2 / 255, "steps": 20, "start": "none"}},
}
LENGTHS = ("eps", "step_size")


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_parameters(name: str, protocol: Any) -> None:
    expected = TABLE[name].get(protocol) or TABLE[name]["both"]
    kind = registry.load("attacks", name)
    assert kind.for_protocol(protocol, EPS).parameters() == expected
    scaled = {key: value / 2 if key in LENGTHS else value for key, value in expected.items()}
    assert kind.for_protocol(protocol, EPS / 2).parameters() == pytest.approx(scaled)


@pytest.mark.parametrize("eps", [2 / 16, 0.13, 0.3, 4 / 255, 1.0])
def test_a_scaled_attack_has_exactly_the_radius_asked_for(eps: float) -> None:
    for name in TABLE:
        assert registry.load("attacks", name).for_protocol("official", eps).eps == eps
    assert FGSM().scaled_to(eps).parameters()["step_size"] == eps


def test_scaling_is_relative_to_the_attacks_own_radius() -> None:
    attack = PGD(eps=0.1, step_size=0.02, steps=7, start="gaussian").scaled_to(0.3)
    assert isinstance(attack, PGD)
    assert attack.eps == 0.3
    assert attack.step_size == pytest.approx(0.06)
    assert (attack.steps, attack.start) == (7, "gaussian")
    assert attack.scaled_to(0.3) == attack


def test_an_attack_of_ones_own_says_what_its_other_lengths_are() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Patch(Attack):
        side: float = 0.04
        size: int = 3
        lengths: ClassVar[tuple[str, ...]] = ("side", "absent")

    scaled = Patch().scaled_to(EPS / 4)
    assert scaled.parameters() == pytest.approx({"eps": EPS / 4, "side": 0.01, "size": 3})


def test_an_attack_whose_own_radius_scales_has_the_datasets_on_every_dataset() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wide(Attack):
        eps: float = 0.1

    for eps in (EPS, 0.1, 0.3):  # its own default is not taken for 8/255
        assert Wide.for_protocol("official", eps).eps == eps
