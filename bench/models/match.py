"""Which architecture a state dict belongs to, and in plain words why it does not belong to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench import registry
from bench.models import build_model
from bench.models.wide_resnet import name_from_weights

State = Mapping[str, Tensor]


class Misfit(NamedTuple):
    """Why a state dict does not fit a network.

    Attributes:
        reason: a clause for a message: "the file has 10 classes, the dataset 100".
        right_layers: whether only the number of classes or of image channels is another.
    """

    reason: str
    right_layers: bool


def constants(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that a network holds but does not save; some published files hold them all the same."""
    saved = network.state_dict().keys()
    return {name: buffer for name, buffer in network.named_buffers() if name not in saved}


def misfit(network: nn.Module, state: State, num_classes: int, in_channels: int) -> Misfit | None:
    """Compare names and shapes of a state dict with those of a network; None where they fit.

    Args:
        network: may be on the meta device.
        state: a network's weights.
        num_classes: the classes the network was built for.
        in_channels: the channels the network was built for.
    """
    own = network.state_dict()
    fixed = constants(network)
    # Files of PyTorch before 0.4.1 lack batch-norm's counter; load_state_dict sets it to 0.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own and key not in fixed]
    if missing or unknown:
        clauses = [f"lacks {_first(missing)}"] if missing else []
        clauses += [f"has {_first(unknown)} besides"] if unknown else []
        return Misfit(f"the file {' and '.join(clauses)}", False)
    differing = {key: (state[key].shape, own[key].shape) for key in own.keys() & state.keys()}
    differing = {key: shapes for key, shapes in differing.items() if shapes[0] != shapes[1]}
    if differing:
        return _explain_shapes(differing, num_classes, in_channels)
    altered = [key for key in fixed.keys() & state.keys() if not _same(fixed[key], state[key])]
    return Misfit(f"the file has other values for its constant {_first(altered)}", False) if altered else None


def identify(state: State, num_classes: int, in_channels: int) -> dict[str, Misfit | None]:
    """The architectures that have a state dict's layers, each with its misfit (None where all fits).

    Looks at every registered architecture with a fixed name and at `wrn-D-W`. Builds them without memory for
    their weights.
    """
    names = [name for name in registry.names("models") if "*" not in name]
    wide = name_from_weights(state)
    found: dict[str, Misfit | None] = {}
    for name in [*names, *([wide] if wide is not None and wide not in names else [])]:
        try:
            with torch.device("meta"):
                network = build_model(name, num_classes, in_channels)
        except Exception:  # a plug-in that cannot be built so must not stop the others
            continue
        problem = misfit(network, state, num_classes, in_channels)
        if problem is None or problem.right_layers:
            found[name] = problem
    return found


def _explain_shapes(differing: dict[str, tuple[torch.Size, torch.Size]], num_classes: int, in_channels: int) -> Misfit:
    classes, channels = set(), set()
    for key, (theirs, ours) in differing.items():
        if ours[:1] == (num_classes,) and _equal_but_for(0, theirs, ours):
            classes.add(theirs[0])
        elif ours[1:2] == (in_channels,) and _equal_but_for(1, theirs, ours):
            channels.add(theirs[1])
        else:
            return Misfit(f"its {key} has the shape {list(theirs)}, not {list(ours)}", False)
    clauses = [f"the file has {n} classes, the dataset {num_classes}" for n in sorted(classes)]
    clauses += [f"the file is for images of {n} channels, the dataset's have {in_channels}" for n in sorted(channels)]
    return Misfit("; ".join(clauses), True)


def _equal_but_for(axis: int, first: torch.Size, second: torch.Size) -> bool:
    return first[:axis] == second[:axis] and first[axis + 1 :] == second[axis + 1 :]


def _same(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape:
        return False
    return ours.is_meta or torch.allclose(ours, theirs.to(ours), atol=1e-4)


def _first(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
