"""Which architecture a state dict belongs to, and in plain words why it does not belong to another.

Public code names the same layers differently; `LAYOUTS` lists how, and `readings` is every way to read a file by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench import registry
from bench.models import build_model, normalises_itself
from bench.models.wide_resnet import name_from_weights

State = Mapping[str, Tensor]

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before a network's names: no message speaks of it."""

UNUSED = "sub_block1."
"""What TRADES' WideResNets hold and never run."""

LAYOUTS: dict[str, tuple[tuple[str, str], ...]] = {
    # Also those of the CIFAR ResNets by which two-teacher methods take their clean teacher.
    "torchvision's ResNets": (
        (r"(layer\d+\.\d+)\.downsample\.", r"\1.shortcut."),
        (r"fc\.", "linear."),
    ),
    "ResNets whose block is a `residual_function`": (
        *((rf"conv{number}_x\.(\d+)\.shortcut\.", rf"layer{number - 1}.\1.shortcut.") for number in range(2, 6)),
        *(
            (rf"conv{number}_x\.(\d+)\.residual_function\.{place}\.", rf"layer{number - 1}.\1.{layer}.")
            for number in range(2, 6)
            for place, layer in enumerate(("conv1", "bn1", "relu", "conv2", "bn2"))
        ),
        (r"conv1\.0\.", "conv1."),
        (r"conv1\.1\.", "bn1."),
        (r"fc\.", "linear."),
    ),
    "a stem of its own": (
        (r"(?:stem|conv1)\.(?:0|conv)\.", "conv1."),
        (r"(?:stem|conv1)\.(?:1|bn)\.", "bn1."),
        (r"(.+)\.(?:downsample|shortcut)\.", r"\1.shortcut."),
        (r"(?:fc|classifier|linear)\.", "linear."),
    ),
    "a classifier of another name": ((r"(?:fc|classifier|head)\.", "linear."),),
    "WideResNets with `shortcut` and `linear`": (
        (r"(block\d\.layer\.\d+)\.(?:shortcut|downsample|conv_shortcut)(?:\.0)?\.", r"\1.convShortcut."),
        (r"(?:linear|classifier)\.", "fc."),
    ),
}
"""How public code names the layers of networks that are here under other names: pairs of a pattern, which a key begins
with, and what takes its place. The first pair that fits a key renames it; a key that none fits stays."""

_NORMALISERS = {"mean": "mean", "std": "std", "mu": "mean", "sigma": "std"}


class Reading(NamedTuple):
    """A way to read a file.

    Attributes:
        state: the weights under the names they have here.
        layout: how the file names its layers, for a message; "" where it does as we do.
        normaliser: mean and standard deviation of images that the file holds; none where it does not.
    """

    state: State
    layout: str = ""
    normaliser: Mapping[str, Tensor] = {}


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


def bare(state: State, wrappers: Sequence[str] = WRAPPERS) -> dict[str, Tensor]:
    """A state dict without the prefixes that modules around the network put before all names, and without `UNUSED`."""
    while prefix := next((each for each in wrappers if state and all(key.startswith(each) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith(UNUSED)}


def _within(state: State) -> Iterator[dict[str, Tensor]]:
    """A state dict as it is, then as each of the modules around the network would have it that hold nothing else."""
    while True:
        yield bare(state)
        outermost = next(iter(state), "").partition(".")[0] + "."
        if not all(key.startswith(outermost) for key in state) or outermost in ("", "."):
            return
        state = {key.removeprefix(outermost): value for key, value in state.items()}


def readings(state: State) -> Iterator[Reading]:
    """Every way to read a foreign state dict, the plainest first."""
    yield Reading(state)
    weights, normaliser = dict(state), dict[str, Tensor]()
    for key in state:
        kind = _NORMALISERS.get(key.rpartition(".")[2])
        if kind is not None:
            normaliser[kind] = weights.pop(key)
    if len(normaliser) != 2 or len(state) - len(weights) != 2:
        weights, normaliser = dict(state), {}
    for depth, inner in enumerate(_within(weights)):
        if inner.keys() != state.keys():
            yield Reading(inner, "names behind a prefix" if depth else "", normaliser)
        for layout, pairs in LAYOUTS.items():
            renamed = {_renamed(key, pairs): value for key, value in inner.items()}
            if renamed.keys() != inner.keys() and len(renamed) == len(inner):
                yield Reading(renamed, layout, normaliser)


def _renamed(key: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for pattern, name in pairs:
        found = re.match(pattern, key)
        if found is not None:
            return found.expand(name) + key[found.end() :]
    return key


def fitting(network: nn.Module, state: State, num_classes: int, in_channels: int) -> tuple[Reading, Misfit | None]:
    """The first reading of a state dict that fits a network, or else the best of them and why it does not fit."""
    best: tuple[Reading, Misfit | None] | None = None
    for reading in readings(state):
        if normalises_itself(network):  # what the file says of its normalisation has to be the network's own
            reading = Reading({**reading.state, **reading.normaliser}, reading.layout)
        problem = misfit(network, reading.state, num_classes, in_channels)
        if problem is None:
            return reading, None
        if best is None or (problem.right_layers and not (best[1] and best[1].right_layers)):
            best = reading, problem
    assert best is not None
    return best


def misfit(network: nn.Module, state: State, num_classes: int, in_channels: int) -> Misfit | None:
    """Compare names and shapes of a state dict with those of a network, maybe on the meta device; None: they fit."""
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

    Looks at every registered one with a fixed name, at `wrn-D-W` and `wrn-D-W-swish`, without memory for their weights.
    """
    names = [name for name in registry.names("models") if "*" not in name]
    wide = dict.fromkeys(name_from_weights(reading.state) for reading in readings(state))
    found: dict[str, Misfit | None] = {}
    for name in [*names, *(name for name in wide if name is not None and name.removesuffix("-swish") not in names)]:
        try:
            network = _skeleton(registry.find("models", name), name, num_classes, in_channels)
        except Exception:  # a plug-in that cannot be built so must not stop the others
            continue
        problem = fitting(network, state, num_classes, in_channels)[1]
        if problem is None or problem.right_layers:
            found[name] = problem
    return found


@lru_cache(maxsize=64)
def _skeleton(entry: EntryPoint, name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A network without memory for its weights; `entry`: what the name stands for, lest another be remembered."""
    with torch.device("meta"):
        return build_model(name, num_classes, in_channels)


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
