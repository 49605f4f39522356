"""Models from anywhere as networks: what they return is unwrapped, and what they compute tells them apart."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.attack import input_gradient
from bench.compute.seeding import generator, seeded
from bench.data.dataset import Split, to_float
from bench.defense import mode
from bench.errors import BenchError
from bench.evaluation.target import ready
from bench.models import try_out
from bench.system.text import kind_of

_LOOKED_AT = 4
"""Images that tell what a model is: so many as they are stored, and so many of noise."""
_FEW = 2
"""Images that tell what of an output has one row an image."""

Pick = Callable[[Any], Any]


class Called(nn.Module):
    """A function of images as a network; the networks it uses are put in eval mode with it, and tell where it is."""

    def __init__(self, function: Callable[[Tensor], Any], device: torch.device | None) -> None:
        super().__init__()
        self.function = function
        self.used = nn.ModuleList(dict.fromkeys(networks_in(function)))
        known = next(self.used.parameters(), None)
        if known is None or device is not None:
            self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        return self.function(x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Called:
        raise TypeError("a function's copy would use the same networks")


class Unwrapped(nn.Module):
    """A network whose logits are a part of what it returns."""

    def __init__(self, network: nn.Module, pick: Pick) -> None:
        super().__init__()
        self.network, self.pick = network, pick

    def forward(self, x: Tensor) -> Any:
        return self.pick(self.network(x))


def name_of(model: Any) -> str:
    """What records and tables call a model that has no other name: its class, or the function's name."""
    if isinstance(model, functools.partial):
        return name_of(model.func)
    named = model if inspect.isroutine(model) else type(model)
    return str(named.__qualname__).rpartition("<locals>.")[2].replace("<lambda>", "lambda")


def as_network(model: Any, name: str, samples: Split, classes: int, device: torch.device | None = None) -> nn.Module:
    """A model as a network that maps images in [0, 1], (B, C, H, W), to logits, (B, classes); tried out.

    Args:
        model: a network or a function. name: what to call it.
        samples: images it is to take. device: where a function computes that does not show its networks.

    Raises:
        BenchError: it is neither, fails on such images, or what it returns holds no logits, or several that could be.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise BenchError(f"model is the class {model.__name__}, not a network of it.\nMake one: {model.__name__}(...).")
    if not callable(model):
        raise BenchError(f"model is {kind_of(model)}, which gives no logits.\n{_cure(model)}")
    network = model if isinstance(model, nn.Module) else Called(model, device)
    if any(value.is_meta for value in network.parameters()):
        raise BenchError(f"{name} has no weights yet, on the device 'meta'.\nGive it some: .to_empty(device='cpu').")
    pick = _pick(_output(network, samples), min(_FEW, len(samples)), classes, name)
    network = network if pick is None else Unwrapped(network, pick)
    try_out(network, name, samples, classes)
    return network


def check_gradient(network: nn.Module, name: str, samples: Split) -> None:
    """A BenchError where no gradient comes back from a function's logits: gradient attacks would stand still."""
    with ready(network), torch.enable_grad():
        images = images_for(network, samples.first(_FEW)).requires_grad_()
        if network(images).requires_grad:
            return
    raise BenchError(
        f"No gradient comes back through {name}: it detaches its logits (torch.no_grad(), .detach(), NumPy).\n"
        "Compute them from the images by PyTorch alone, or choose an attack without gradients: suite='square'."
    )


def fingerprint(network: nn.Module, samples: Split, digits: int | None = None) -> str | None:
    """A digest of what a network computes on a few images, logits and gradients; None where it is not always the same.

    Weights do not tell a network from one that uses them otherwise: another temperature, another activation.

    Args:
        digits: significant ones that count; None: every bit, which another machine may compute otherwise.
    """
    try:
        first, second = (_digest(network, samples, digits) for _ in range(2))
    except RuntimeError:  # as the attacks will, with more to say
        return None
    return first if first == second else None


def _digest(network: nn.Module, samples: Split, digits: int | None) -> str:
    stored = images_for(network, samples.first(_LOOKED_AT))
    noise = torch.rand(stored.shape, generator=generator(0, "fingerprint"), dtype=torch.float64)
    images = torch.cat([stored, noise.to(stored)]).requires_grad_()
    with ready(network), seeded(stored.device, 0, "fingerprint"), torch.enable_grad():
        logits = network(images)
        labels = torch.arange(len(images), device=images.device) % logits.shape[1]
        gradient = input_gradient(F.cross_entropy(logits, labels, reduction="sum"), images)
    digest = hashlib.sha256()
    for values in (logits.detach(), gradient):
        plain = values.cpu().contiguous()
        if digits is None:
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(" ".join(f"{value:.{digits - 1}e}" for value in plain.flatten().tolist()).encode())
    return digest.hexdigest()


def networks_in(function: Any) -> Iterator[nn.Module]:
    """The networks that a function uses, as far as can be seen: its object, what it closes over, globals it names."""
    seen: set[int] = set()
    todo = [function]
    while todo:
        found = todo.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, nn.Module):
            yield found
        elif isinstance(found, functools.partial):
            todo += [found.func, *found.args, *found.keywords.values()]
        elif inspect.ismethod(found):
            todo += [found.__self__, found.__func__]
        elif inspect.isfunction(found):
            todo += _reached(found)
        elif found is function:
            todo += [*vars(found).values(), type(found).__call__] if hasattr(found, "__dict__") else []


def _reached(function: Any) -> list[Any]:
    """Networks and functions that a function closes over, has as defaults or names as globals."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
    named = {each.argval for each in dis.get_instructions(function.__code__) if each.opname == "LOAD_GLOBAL"}
    values = [*cells, *(function.__defaults__ or ()), *(function.__globals__.get(each) for each in sorted(named))]
    return [each for each in values if _may_use_networks(each, function)]


def _may_use_networks(value: Any, beside: Any) -> bool:
    """Whether to look for networks there: not in other people's functions, which lead through all of PyTorch."""
    own = inspect.isfunction(value) and value.__globals__ is beside.__globals__
    return own or isinstance(value, (nn.Module, functools.partial)) or inspect.ismethod(value)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def images_for(network: nn.Module, samples: Split) -> Tensor:
    """Images in [0, 1] as a network takes them: where it is, and in its precision."""
    parameter = next((each for each in network.parameters() if each.is_floating_point()), torch.empty(0))
    return to_float(samples.images.to(parameter.device), torch.promote_types(parameter.dtype, torch.float32))


def _output(network: nn.Module, samples: Split) -> Any:
    """What a network returns for the first images; a tensor of nothing where it fails, as `try_out` will say."""
    try:
        with mode(network, training=False), torch.no_grad():
            return network(images_for(network, samples.first(_FEW)))
    except Exception:  # whatever a stranger's network raises
        return torch.empty(0)


def _pick(output: Any, n: int, classes: int, name: str) -> Pick | None:
    """What takes the logits out of an output; None where it is them, or nothing that can be told apart."""
    if isinstance(output, Tensor):
        return None
    if isinstance(getattr(output, "logits", None), Tensor):
        return lambda found: found.logits
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return lambda found: found["logits"]
    if isinstance(output, (tuple, list)):
        fitting = [at for at, part in enumerate(output) if isinstance(part, Tensor) and part.shape == (n, classes)]
        if len(fitting) == 1:
            return lambda found: found[fitting[0]]
        which = f"{len(fitting)} tensors" if fitting else "no tensor"
        what, example = f"{kind_of(output)} with {which} of shape (B, {classes})", "model(x)[0]"
    elif isinstance(output, Mapping):
        what, example = f"a mapping of {', '.join(map(repr, output))}, and no 'logits'", "model(x)['KEY']"
    elif hasattr(output, "__array__"):
        raise BenchError(
            f"{name} returns {kind_of(output)}, and attacks need gradients.\nReturn the tensor that it was made of."
        )
    else:
        what, example = kind_of(output), "model(x).NAME"
    raise BenchError(
        f"{name} returns {what}.\nSay what of it the logits are, (B, {classes}): give lambda x: {example} as the model."
    )


def _cure(model: Any) -> str:
    if isinstance(model, str):
        return "A file: bench eval --checkpoint FILE; an architecture: bench.models.build_model(NAME, classes)."
    if isinstance(model, Mapping):
        return "Load the weights into their network, network.load_state_dict(weights), and give that."
    return "Give a torch.nn.Module, or a function from images in [0, 1], (B, C, H, W), to logits, (B, classes)."
