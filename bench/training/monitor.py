"""How student and teachers stand during training: clean and robust accuracy on the selection split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import registry
from bench.attack import Attack
from bench.compute.ranks import ranks
from bench.compute.seeding import generator
from bench.data.dataset import Dataset, Split, to_float
from bench.data.holdout import hold_out
from bench.defense import Models, attacked, mode
from bench.evaluation.suites import LOOK
from bench.recipes.training import SQUARED, WORST_CLASS, Selection
from bench.stats import wilson_interval
from bench.system.signals import checked
from bench.threat import Threat
from bench.vocabulary import LINF_EPS

_BATCH = 500
_WARM_UP = 1 / 3
"""Share of the epochs after which a student should be above chance."""
_WARM_UP_STEPS = 200
"""Steps before which nothing is expected of it, however short the run."""


def split_for(dataset: Dataset, selection: Selection) -> tuple[Split, Split]:
    """(training images, images to look at) as a recipe's selection asks for them."""
    if selection.split == "test":
        return dataset.train, dataset.test.first(selection.limit)
    train, held_out = hold_out(dataset.train, held_out_of(len(dataset.train), selection))
    return train, held_out.first(selection.limit)


def held_out_of(n: int, selection: Selection) -> int:
    """How many of n training images a selection sets aside."""
    return 0 if selection.split == "test" else max(1, min(selection.hold_out, n // 5))


class Monitor:
    """Looks at the models with a PGD attack on the student, or two, as the recipe's selection says.

    Teachers are judged on the images that were crafted against the *student*, as in Figure 3 of the CIARD paper:
    what matters in training is what a teacher says of those.
    """

    def __init__(self, split: Split, selection: Selection, threat: Threat, seed: int) -> None:
        self.split = split
        self.seed = seed
        self.selection = selection
        pgd: type[Attack] = registry.load("attacks", LOOK)
        if threat.norm == "linf":
            step_size = selection.step_size * (threat.eps / LINF_EPS)
            self.attack = pgd(eps=threat.eps, steps=selection.steps, step_size=step_size)  # type: ignore[call-arg]
        else:  # of other norms a recipe states no step; the attack has its own there
            self.attack = pgd(steps=selection.steps).in_norm(threat.norm).scaled_to(threat.eps)  # type: ignore[call-arg]

    def look(self, models: Models, check_stop: Callable[[], None] = lambda: None) -> dict[str, dict[str, float]]:
        """Accuracies, 0 to 1: `{"student": {"clean": ..., "robust": ...}, "clean teacher": {...}, "peer": {...}}`.

        Where the selection asks for them, every network has those of `SQUARED` and `WORST_CLASS` too.

        Args:
            check_stop: called before every pass of the attack; what it raises ends the look.
        """
        networks = {"student": models.student} | {f"{role} teacher": net for role, net in models.teachers.items()}
        networks |= models.companions
        sizes = self.split.labels.bincount()
        right: dict[str, dict[str, Tensor]] = {name: {} for name in networks}
        device = self.split.images.device
        sources = {"robust": generator(self.seed, "monitor", device=device)}
        sources |= {SQUARED: generator(self.seed, "monitor", SQUARED, device=device)} if self.selection.also else {}
        for start in range(0, len(self.split), _BATCH):
            images = self.split.images[start : start + _BATCH]
            part = ranks().part(len(images))
            x, y = to_float(images[part]), self.split.labels[start : start + _BATCH][part]
            seen = {"clean": x}
            for kind, objective in self._objectives(y).items():
                noise = self.attack.start_noise(images.shape, to_float(images[:1]), sources[kind])
                with mode(models.student, training=False):
                    view = checked(attacked(models.student), check_stop)
                    seen[kind] = self.attack(view, x, y, noise=None if noise is None else noise[part], **objective)
            for name, network in networks.items():
                for kind, shown in seen.items():
                    hits = _right_by_class(network, shown, y, len(sizes))
                    right[name][kind] = right[name].get(kind, torch.zeros_like(sizes)) + hits
        return {name: self._accuracies(counts, sizes) for name, counts in right.items()}

    def _objectives(self, y: Tensor) -> dict[str, dict[str, Any]]:
        """By the name of its accuracy, each attack of a look; with an objective where it is not its own."""

        def squared_error(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
            return (logits.softmax(1) - F.one_hot(y, logits.shape[1])).square().sum()

        return {"robust": {}} | ({SQUARED: {"objective": squared_error}} if self.selection.also else {})

    def _accuracies(self, counts: Mapping[str, Tensor], sizes: Tensor) -> dict[str, float]:
        """Of this process's numbers of right samples by class, those over all of them."""
        totals = {kind: ranks().total(count) for kind, count in counts.items()}
        found = {kind: int(total.sum()) / len(self.split) for kind, total in totals.items()}
        if self.selection.by == "robust-and-worst-class":
            there = sizes > 0
            found[WORST_CLASS] = float((totals["robust"][there] / sizes[there]).min())
        return found


@torch.no_grad()
def _right_by_class(network: nn.Module, x: Tensor, y: Tensor, classes: int) -> Tensor:
    with mode(network, training=False):
        return y[network(x).argmax(1) == y].bincount(minlength=classes)


class CollapseWatch:
    """Notices, once a run, a student whose clean accuracy is chance: after having learned, or without ever learning.

    Chance is what Wilson's 95 % interval does not exclude. A student has learned when it is surely above twice that
    (above halfway to 1, where there are two classes): a single lucky look is no learning.
    """

    def __init__(self, chance: float, n: int) -> None:
        """chance: accuracy of guessing, 0 to 1; n: samples of a look."""
        self.chance, self.n = chance, n
        self.learned: tuple[float, int] | None = None
        self.ever_above = self.warned = False

    def judge(self, accuracy: float, epoch: int, share: float, steps: int) -> str | None:
        """The warning, if one is due.

        Args:
            accuracy: clean, 0 to 1. epoch: of this look.
            share: of the run that is done, 0 to 1. steps: likewise.
        """
        low, _ = wilson_interval(round(accuracy * self.n), self.n)
        above = low > self.chance
        self.ever_above |= above
        if low > min(2 * self.chance, (1 + self.chance) / 2):
            self.learned = (accuracy, epoch)
        late = share >= _WARM_UP and steps >= _WARM_UP_STEPS
        if above or self.warned or not (self.learned or (late and not self.ever_above)):
            return None
        self.warned = True
        now = f"the student's clean accuracy is {accuracy:.1%}, no better than chance ({self.chance:.1%})"
        if self.learned:
            return f"{now}, after {self.learned[0]:.1%} at epoch {self.learned[1]}. Its training has collapsed."
        return f"{now}, and was never better. It learns nothing: check data, learning rate and --set."

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume."""
        return {"learned": self.learned, "ever_above": self.ever_above, "warned": self.warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.learned, self.ever_above, self.warned = state["learned"], state["ever_above"], state["warned"]
