"""Which normalisation a file of weights was trained behind, where neither the file nor the user says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.data.dataset import Split, to_float
from bench.models import build_model
from bench.models.checkpoints import (
    choose_normalisation,
    load_and_normalise,
    save_weights,
)

from .weights import METADATA, write


class Threshold(nn.Module):
    """Says 1 where an image's mean is above its threshold, 0 elsewhere."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x: Tensor) -> Tensor:
        score = x.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-score, score], dim=1)


class TestChoosingANormalisation:
    def images(self, boundary: float, channels: int = 3) -> Split:
        """Grey images of one brightness each, labelled by whether it is above the boundary."""
        levels = torch.arange(0, 250, 5)
        images = levels.view(-1, 1, 1, 1).expand(-1, channels, 2, 2).to(torch.uint8)
        return Split(images, (levels / 255 > boundary).long())

    def test_the_most_accurate_one_wins(self) -> None:
        chosen, accuracies = choose_normalisation(Threshold(0.0), self.images(0.5))
        assert chosen == "half"
        assert accuracies["half"] == 1
        assert accuracies.keys() == {"none", "cifar10", "cifar100", "imagenet", "half"}

    def test_none_wins_unless_another_is_clearly_better(self) -> None:
        everything_above = self.images(-0.1)
        chosen, accuracies = choose_normalisation(Threshold(-10.0), everything_above)
        assert chosen == "none"
        assert set(accuracies.values()) == {1.0}

    def test_a_foreign_file_gets_one(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        images = torch.randint(0, 256, (200, 3, 8, 8), dtype=torch.uint8)
        model = build_model("digits-cnn@half", 10).eval()
        split = Split(images, model(to_float(images)).argmax(dim=1))
        path = write(tmp_path / "a.pt", model.state_dict())
        loaded = load_and_normalise(path, None, 10, 3, split)
        assert loaded.accuracies["half"] == 1
        expected = "digits-cnn@half" if loaded.accuracies["none"] < 0.99 else "digits-cnn@none"
        assert loaded.spec == expected

    def test_images_without_statistics_are_left_as_they_are(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("digits-cnn", 10, 4).state_dict())
        split = Split(torch.zeros(8, 4, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
        assert load_and_normalise(path, None, 10, 4, split).spec == "digits-cnn@none"

    @pytest.mark.parametrize("spec", ["digits-cnn@imagenet", "digits-cnn@none"])
    def test_an_explicit_one_is_not_measured(self, spec: str, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("digits-cnn", 10).state_dict())
        loaded = load_and_normalise(path, spec, 10, 3, self.images(0.5))
        assert (loaded.spec, loaded.accuracies) == (spec, {})

    def test_nor_is_one_that_the_file_names(self, model: nn.Module, tmp_path: Path) -> None:
        save_weights(tmp_path / "a.safetensors", model, METADATA)
        loaded = load_and_normalise(tmp_path / "a.safetensors", None, 10, 1, self.images(0.5, channels=1))
        assert (loaded.spec, loaded.accuracies) == ("digits-cnn@half", {})
