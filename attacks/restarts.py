"""A gradient attack from several starts: each from where the ones before have not fooled the model.

A sample that is fooled costs nothing more, nor does one whose iterates repeat: steps along signs soon go to and fro
between two images, and where the objective is the same in every step the rest of the way is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.attack import Model, Outcome

if TYPE_CHECKING:
    from attacks.loop import GradientAttack


def restarted(attack: GradientAttack, model: Model, x: Tensor, y: Tensor, noise: Tensor, track: bool) -> Outcome:
    """The outcome of a batch: of each sample that of the first start whose last iterate fools, else of the last one.

    Args:
        noise: of all starts, (B, restarts, C, H, W).
    """
    one = replace(attack, restarts=1)
    right, always = torch.ones_like(y, dtype=torch.bool), torch.ones_like(y, dtype=torch.bool)
    x_adv, witnesses = x.clone(), x.clone()
    for restart in range(attack.restarts):
        # All of them where samples of a batch are coupled, though what is decided stays so.
        left = torch.arange(len(y), device=y.device) if attack.couples_batch else right.nonzero(as_tuple=True)[0]
        if not right.any():
            break
        ascend = settled if attack.same_every_step else _plain
        outcome = ascend(one, model, x[left], y[left], noise[left, restart], track)
        with torch.no_grad():
            fooled = model(outcome.x_adv).argmax(1) != y[left]
        undecided = right[left]
        x_adv[left[undecided]] = outcome.x_adv[undecided]
        right[left] &= ~fooled
        if outcome.always_right is not None and outcome.witnesses is not None:
            shown = always[left] & ~outcome.always_right
            witnesses[left[shown]] = outcome.witnesses[shown]
            always[left] &= outcome.always_right
    return Outcome(x_adv, always, witnesses=witnesses) if track else Outcome(x_adv)


def settled(attack: GradientAttack, model: Model, x: Tensor, y: Tensor, noise: Tensor | None, track: bool) -> Outcome:
    """One pass of the attack, as `GradientAttack.run` makes it, without the steps whose results are known."""
    x_adv = attack.first(x, noise, None)
    right, witnesses = torch.ones_like(y, dtype=torch.bool), x.clone()
    moving = torch.arange(len(y), device=y.device)
    before, objective = None, attack.objective_for(model, x, y)
    for step in range(attack.steps):
        now = x_adv[moving]
        following, logits = attack.advance(model, now, x[moving], step, objective)
        if track:
            seen = (right[moving], witnesses[moving])
            if attack.may_leave_range(step):
                seen = attack.judged_as_saved(model, now, x[moving], y[moving], *seen)
            else:
                seen = _shown(seen[0] & (logits.argmax(1) != y[moving]), now, *seen)
            right[moving], witnesses[moving] = seen
        x_adv[moving] = following
        stays = _equal(following, now) | (_equal(following, before) if before is not None else False)
        before = now
        if stays.any():
            # To and fro from here on: after an odd number of further steps they are where they were before this one.
            x_adv[moving[stays]] = following[stays] if (attack.steps - step) % 2 else now[stays]
            moving, before = moving[~stays], before[~stays]
            if not len(moving):
                break
            objective = attack.objective_for(model, x[moving], y[moving])
    x_adv = attack.finish(x_adv)
    return Outcome(x_adv, right, witnesses=witnesses) if track else Outcome(x_adv)


def _plain(attack: GradientAttack, model: Model, x: Tensor, y: Tensor, noise: Tensor, track: bool) -> Outcome:
    return attack.run(model, x, y, noise=noise, track=track)


def _equal(images: Tensor, others: Tensor) -> Tensor:
    """Which are the very same, (B,)."""
    return (images == others).flatten(1).all(1)


def _shown(fooled: Tensor, images: Tensor, right: Tensor, witnesses: Tensor) -> tuple[Tensor, Tensor]:
    witnesses = witnesses.clone()
    witnesses[fooled] = images[fooled]
    return right & ~fooled, witnesses
