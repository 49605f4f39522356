"""Corruptions: the package's own images, a sample's own seed, and the published arrays as they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.corruption import Corruption, PublishedCorruption
from bench.attack import check_images
from bench.errors import BenchError
from bench.registry import attack_class
from bench.vocabulary import CORRUPTIONS, FURTHER_CORRUPTIONS

SEEDED = ("impulse_noise", "glass_blur")
"""Those that take their seed as an argument; glass_blur is compiled for seconds when it is first called."""


def images(n: int = 3, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0)) / 255


def _state() -> list[int]:
    state: Any = np.random.get_state()
    key: list[int] = state[1].tolist()
    return key


def no_model(x: Tensor) -> Tensor:
    raise AssertionError("a corruption looks at no model")


def labels(n: int = 3) -> Tensor:
    return torch.arange(n)


@pytest.mark.parametrize("kind", [kind for kind in (*CORRUPTIONS, *FURTHER_CORRUPTIONS) if kind != "glass_blur"])
def test_its_images_are_the_package_s(kind: str) -> None:
    package = pytest.importorskip("imagecorruptions")
    x, seeds = images(2), torch.tensor([7, 8])
    attack = Corruption(kind=kind, severity=2)
    state = _state()
    x_adv = attack(no_model, x, labels(2), noise=seeds)
    assert _state() == state, "the caller's random state is left alone"
    check_images(kind, attack.threat, x_adv, x)
    for image, made, seed in zip(x, x_adv, seeds.tolist(), strict=True):
        np.random.seed(seed)
        own: dict[str, Any] = {"seed": seed} if kind in SEEDED else {}
        bytes_ = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        expected = package.corrupt(bytes_, severity=2, corruption_name=kind, **own)
        assert np.array_equal((made.permute(1, 2, 0) * 255).round().byte().numpy(), expected)


@pytest.mark.parametrize("kind", ["gaussian_noise", "impulse_noise", "frost"])
def test_a_sample_s_seed_decides_whatever_its_batch(kind: str) -> None:
    pytest.importorskip("imagecorruptions")
    x, attack = images(4), Corruption(kind=kind)
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(1))
    assert noise is not None
    whole = attack(no_model, x, labels(4), noise=noise)
    parts = [attack(no_model, x[i : i + 1], labels(1), noise=noise[i : i + 1]) for i in range(4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, attack(no_model, x, labels(4), noise=noise + 1))


def test_what_it_cannot_corrupt_it_says() -> None:
    pytest.importorskip("imagecorruptions")
    with pytest.raises(BenchError, match=r"at least 32 x 32 pixels; these are 3 x 16 x 16\.\nEvaluate without"):
        Corruption()(no_model, images(1, 16), labels(1))
    with pytest.raises(BenchError, match=r"gaussian_nois.*gaussian_noise"):
        Corruption(kind="gaussian_nois")
    with pytest.raises(BenchError, match="severity = 6"):
        Corruption(severity=6)


def test_a_name_stands_for_a_kind_and_a_severity() -> None:
    fog, snow = attack_class("corruption-fog-2"), attack_class("published-corruption-snow-5")
    assert fog.for_protocol("official", 8 / 255).parameters() == {"kind": "fog", "severity": 2, "in_ball": False}
    assert snow().parameters() == {"kind": "snow", "severity": 5, "in_ball": False}
    assert fog.label == "Corruption: fog, severity 2"
    assert attack_class("corruption-fog-2") is fog
    for wrong in ("corruption-fogg-2", "corruption-fog-6", "corruption-fog"):
        with pytest.raises(BenchError, match=rf"{wrong}.*corruption-fog-3"):
            attack_class(wrong)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(BenchError, match=r"imagecorruptions-imaug.\nInstall it: pip install 'ard-bench\[unseen\]'"):
        Corruption()(no_model, images(1), labels(1))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    arrays = np.random.default_rng(0).integers(0, 256, (5 * 4, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "fog.npy", arrays)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(4), 5))
    return tmp_path


def test_published_arrays_are_read_by_severity(published: Path) -> None:
    x = images(3)
    attack = PublishedCorruption(kind="fog", severity=4, folder=str(published))
    x_adv = attack(no_model, x, labels(3))
    assert np.array_equal(
        (x_adv.permute(0, 2, 3, 1) * 255).round().byte().numpy(), np.load(published / "fog.npy")[12:15]
    )
    check_images("fog", attack.threat, x_adv, x)
    moved = published.rename(published.with_name("elsewhere"))
    known = PublishedCorruption(kind="fog", severity=4, folder=str(moved)).parameters()
    assert known == attack.parameters(), "what they hold identifies them, not where they lie"
    assert known.keys() == {"kind", "severity", "in_ball", "arrays"}


def test_arrays_of_other_images_are_refused(published: Path) -> None:
    attack = PublishedCorruption(kind="fog", folder=str(published))
    with pytest.raises(BenchError, match="other labels than the data set"):
        attack(no_model, images(3), labels(3).flip(0))
    with pytest.raises(BenchError, match="other labels"):
        attack(no_model, images(5), labels(5))
    with pytest.raises(BenchError, match=r"images are \(16, 16, 3\)"):
        attack(no_model, images(3, 16), labels(3))
    with pytest.raises(BenchError, match=r"snow.npy cannot be read"):
        PublishedCorruption(kind="snow", folder=str(published))(no_model, images(3), labels(3))
