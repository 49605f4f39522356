"""How student and teachers stand during training: clean and robust accuracy on the selection split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench import registry
from bench.attack import Attack
from bench.data.dataset import LINF_EPS, Dataset, Split, to_float
from bench.data.holdout import hold_out
from bench.defense import Models, attacked, mode
from bench.recipe import Selection
from bench.seeding import generator

_BATCH = 500


def split_for(dataset: Dataset, selection: Selection) -> tuple[Split, Split]:
    """(training images, images to look at) as a recipe's selection asks for them."""
    if selection.split == "test":
        return dataset.train, dataset.test.first(selection.limit)
    n = max(1, min(selection.hold_out, len(dataset.train) // 5))
    train, held_out = hold_out(dataset.train, n)
    return train, held_out.first(selection.limit)


class Monitor:
    """Looks at the models with one PGD attack on the student.

    Teachers are judged on the images that were crafted against the *student*, as in Figure 3 of the CIARD paper:
    what matters in training is what a teacher says of those.
    """

    def __init__(self, split: Split, selection: Selection, eps: float, seed: int) -> None:
        self.split = split
        self.seed = seed
        pgd: type[Attack] = registry.load("attacks", "pgd-sat")
        scale = eps / LINF_EPS
        self.attack = pgd(eps=eps, steps=selection.steps, step_size=selection.step_size * scale)  # type: ignore[call-arg]

    def look(self, models: Models) -> dict[str, dict[str, float]]:
        """Accuracies, 0 to 1: `{"student": {"clean": ..., "robust": ...}, "clean teacher": {...}, ...}`."""
        networks = {"student": models.student} | {f"{role} teacher": net for role, net in models.teachers.items()}
        right = {name: {"clean": 0, "robust": 0} for name in networks}
        noise_source = generator(self.seed, "monitor", device=self.split.images.device)
        for start in range(0, len(self.split), _BATCH):
            x = to_float(self.split.images[start : start + _BATCH])
            y = self.split.labels[start : start + _BATCH]
            with mode(models.student, training=False):
                x_adv = self.attack(attacked(models.student), x, y, generator=noise_source)
            for name, network in networks.items():
                right[name]["clean"] += _count_right(network, x, y)
                right[name]["robust"] += _count_right(network, x_adv, y)
        return {name: {kind: n / len(self.split) for kind, n in counts.items()} for name, counts in right.items()}


@torch.no_grad()
def _count_right(network: nn.Module, x: Tensor, y: Tensor) -> int:
    with mode(network, training=False):
        return int((network(x).argmax(1) == y).sum())
