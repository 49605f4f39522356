"""Weights on disk: the harness's own safetensors files, and the checkpoints that people already have.

A foreign file is never unpickled: PyTorch reads it with `weights_only=True` or not at all.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bench.data.dataset import Split, to_float
from bench.errors import BenchError
from bench.models import LONGEST_SPEC, build_model, normalises_itself, not_finite, split_spec, try_out
from bench.models.match import Misfit, Reading, bare, constants, fitting, identify, misfit
from bench.models.normalise import NONE, applicable, name_of, normalise, statistics
from bench.system.files import DIGEST, atomic_path, tensors_file
from bench.system.text import one_line

SPEC_KEY = "model_spec"
"""The metadata key that holds the model's spec, and by which the harness knows its own files."""

REQUIRED_METADATA = (SPEC_KEY, "num_classes", "in_channels")

_NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "student", "last")
_MOST_NESTS = 10
_OTHER_FILE = "Choose another file or another dataset."
_SAMPLE = 512
_BATCH = 128
_MARGIN = 0.01


class Loaded(NamedTuple):
    """A model from a file.

    Attributes:
        model: with the file's weights, in eval mode.
        spec: architecture and normalisation, `NAME` or `NAME@NORM`.
        accuracies: clean accuracy, 0 to 1, under each normalisation that was tried; empty where it was known.
        layout: how the file names its layers, where that is not how they are named here; "" where it is.
    """

    model: nn.Module
    spec: str
    accuracies: dict[str, float]
    layout: str = ""


def save_weights(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Write a model's state dict as safetensors; whoever reads meanwhile sees the old file or the new one.

    Equal weights and metadata give equal files. The metadata gains the weights' hash, by which damage is noticed.

    Args:
        metadata: what the file says about itself; at least the keys in `REQUIRED_METADATA`.

    Raises:
        ValueError: a required key is missing.
        BenchError: the file cannot be written.
    """
    absent = [key for key in REQUIRED_METADATA if key not in metadata]
    if absent:
        raise ValueError(f"metadata lacks {', '.join(absent)}")
    # Clones, because safetensors refuses tensors that share memory (tied weights) or are not contiguous.
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(tensors_file(tensors, metadata | {DIGEST: weights_hash(tensors)}))


def weights_hash(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of a model's or a state dict's names, dtypes, shapes and values.

    The same weights have the same hash in whichever file format, order, device or memory layout they come.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read weights, on the CPU, and the file's metadata (empty for PyTorch files).

    Safetensors is known by its content. Of foreign files, nests such as `{"state_dict": ...}` (of `best` and `last` the
    last), the `module.` prefix and the unused `sub_block1` of TRADES' WideResNets are taken off.

    Raises:
        BenchError: there is no such file, or it is truncated, damaged, no checkpoint, or holds Python objects.
    """
    try:
        if path.is_fifo():
            raise OSError("it is a pipe, which may never end")
        with path.open("rb") as stream:
            head = stream.read(9)
    except FileNotFoundError:
        raise BenchError(f"There is no checkpoint {path}.\nCheck the path.") from None
    except OSError as error:
        raise BenchError(
            f"Cannot read {path}: {error.strerror or error}.\nGive the path of a checkpoint file."
        ) from None
    if path.suffix == ".safetensors" or head[8:] == b"{":  # eight bytes for the header's length, then JSON
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrap(path, _read_torch(path)), {}
    _check_plain(path, state)
    if SPEC_KEY in metadata and DIGEST in metadata and metadata[DIGEST] != weights_hash(state):
        raise BenchError(
            f"{path} is damaged: its weights are not those that were written into it.\n"
            "Restore it, or train or export it again."
        )
    return (state if SPEC_KEY in metadata else bare(state)), metadata


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself, without its weights; `BenchError` where it is none."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _no_safetensors(path, error) from error


def load_model(path: Path, spec: str | None, num_classes: int, in_channels: int) -> tuple[nn.Module, str]:
    """Build the model a file belongs to and load its weights; torch's random generator stays where it was.

    Args:
        path: a file of `save_weights`, or any PyTorch or safetensors state dict.
        spec: `NAME` or `NAME@NORM`; None to go by the file's metadata or, for a foreign file, by its layers.
        num_classes, in_channels: the dataset's.

    Returns:
        The model, on the CPU in eval mode, its parameters still trainable; and its spec.

    Raises:
        BenchError: the file cannot be read, or fits no known architecture or not the given one (then with
            the name of one that fits).
    """
    loaded, _ = _load(path, spec, num_classes, in_channels)
    return loaded.model, loaded.spec


def load_and_normalise(
    path: Path,
    spec: str | None,
    num_classes: int,
    in_channels: int,
    train: Split,
    device: str | torch.device = "cpu",
) -> Loaded:
    """As `load_model`; and where neither spec nor metadata name a normalisation, choose it by accuracy.

    Args:
        train: training images to measure on; some 500 of them are used.
        device: where to measure, and where the returned model is.

    Raises:
        BenchError: as `load_model`; or the model cannot take images of this size.
    """
    loaded, is_ours = _load(path, spec, num_classes, in_channels)
    model = loaded.model.to(device)
    try_out(model, loaded.spec, train, num_classes)
    if is_ours or "@" in loaded.spec or normalises_itself(model):
        return loaded
    chosen, accuracies = choose_normalisation(model, train)
    normalised = normalise(model, chosen, in_channels).to(device)
    return Loaded(normalised, f"{loaded.spec}@{chosen}", accuracies, loaded.layout)


def choose_normalisation(model: nn.Module, train: Split) -> tuple[str, dict[str, float]]:
    """The normalisation that a model was trained with: the one under which it is right most often.

    Of several within a point of the best (on its training images a model is nearly always right), it is "none" if that
    is among them, else the one with the lowest cross-entropy.

    Args:
        model: in eval mode, without a normalisation of its own.
        train: training images; up to 512 of them, evenly spread, are used.

    Returns:
        Its name, and the clean accuracy, 0 to 1, under each.
    """
    parameter = next(model.parameters())
    positions = torch.linspace(0, len(train) - 1, min(_SAMPLE, len(train))).long()
    sample = train.take(positions).to(parameter.device)
    images = to_float(sample.images, parameter.dtype)
    accuracies, losses = {}, {}
    for name in applicable(images.shape[1]):
        mean, std = (value.to(images) for value in statistics(name, images.shape[1]))
        with torch.no_grad():
            logits = torch.cat([model(batch) for batch in ((images - mean) / std).split(_BATCH)])
        accuracies[name] = (logits.argmax(dim=1) == sample.labels).double().mean().item()
        losses[name] = F.cross_entropy(logits, sample.labels).item()
    best = max(accuracies.values())
    near = [name for name, accuracy in accuracies.items() if accuracy >= best - _MARGIN]
    return (NONE if NONE in near else min(near, key=losses.__getitem__)), accuracies


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise _no_safetensors(path, error) from error


def _no_safetensors(path: Path, error: Exception) -> BenchError:
    return BenchError(f"{path} is truncated or no safetensors file ({error}).\nCopy or download it again.")


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on formats that are refused below anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any origin make the reader raise nearly anything
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is not None or "TorchScript" in str(error):
            what = f"Python objects ({one_line(refused[1])})" if refused is not None else "a TorchScript program"
            raise BenchError(
                f"{path} holds {what}, not only weights; to read it could run foreign code.\n"
                "Where it was made, save the weights alone: torch.save(model.state_dict(), FILE)."
            ) from error
        raise BenchError(
            f"{path} is truncated or no PyTorch checkpoint.\n"
            "Copy or download it again, or give a file made by torch.save(model.state_dict(), FILE)."
        ) from error


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    """The state dict in a loaded file: the file itself, under one of `_NESTS`, or the only one that there is."""
    for _ in range(_MOST_NESTS):
        entries = content if isinstance(content, Mapping) else {}
        if _is_state(entries):
            return {key: value.detach() for key, value in entries.items()}
        known = [name for name in _NESTS if isinstance(entries.get(name), Mapping)]
        inner = known[:1] or [name for name, value in entries.items() if _is_state(value)]
        if len(inner) != 1:
            break
        content = entries[inner[0]]
    keys = one_line(", ".join(str(key)[:40] for key in list(entries)[:6]))
    what = f"the entries {keys}" if keys else f"a {type(content).__name__}"
    raise BenchError(
        f"{path} holds no state dict, but {what}.\n"
        "Save the weights alone: torch.save(model.state_dict(), FILE), or under the key 'state_dict'."
    )


def _is_state(content: Any) -> bool:
    """Whether something is a mapping of names to tensors, and not empty."""
    named = isinstance(content, Mapping) and content
    return bool(named) and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _check_plain(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse what no network's weights are: not finite, sparse, quantised, complex or empty tensors, odd names."""
    for key, value in state.items():
        plain = value.layout is torch.strided and not (value.is_quantized or value.is_complex() or value.is_meta)
        if not plain or key != one_line(key):
            raise BenchError(
                f"{path} holds {one_line(key)!r}, which is no layer's weights.\n"
                "Where it was made, save the weights alone: torch.save(model.state_dict(), FILE)."
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise not_finite(f"{path} has NaN or infinite weights, in {key}")


def _load(path: Path, spec: str | None, num_classes: int, in_channels: int) -> tuple[Loaded, bool]:
    """The model on the CPU, and whether the harness itself wrote the file."""
    state, metadata = read_state_dict(path)
    stored = metadata.get(SPEC_KEY)
    if stored is not None and stored != one_line(stored)[:LONGEST_SPEC]:
        raise BenchError(
            f"{path} calls its model {one_line(stored)[:LONGEST_SPEC]!r}, which none is called.\n{_OTHER_FILE}"
        )
    if spec is not None and stored is not None:
        _check_agreement(path, spec, stored)
    resolved = stored or spec or _infer(path, state, num_classes, in_channels)
    # Initialising weights that are replaced at once must not change what a seeded run draws next.
    with torch.random.fork_rng(devices=[]):
        model = build_model(resolved, num_classes, in_channels)
    reading = Reading(state)
    if stored is None:
        reading, problem = fitting(model, state, num_classes, in_channels)
    else:
        problem = misfit(model, state, num_classes, in_channels)
    if problem is not None:
        advice = _OTHER_FILE if problem.right_layers else _suggest(identify(state, num_classes, in_channels))
        raise BenchError(f"{path} does not fit {split_spec(resolved)[0]}: {problem.reason}.\n{advice}")
    fixed = constants(model)
    model.load_state_dict({key: value for key, value in reading.state.items() if key not in fixed}, strict=True)
    if reading.normaliser:
        model, resolved = _normalised_as_in_the_file(path, reading, model, resolved, in_channels)
    return Loaded(model.eval(), resolved, {}, reading.layout), stored is not None


def _normalised_as_in_the_file(
    path: Path, reading: Reading, model: nn.Module, spec: str, in_channels: int
) -> tuple[nn.Module, str]:
    """The model with the normalisation whose statistics the file holds beside its weights, and its spec."""
    mean, std = reading.normaliser["mean"], reading.normaliser["std"]
    own, (name, norm) = name_of(mean, std, in_channels), split_spec(spec)
    if own is None:
        raise BenchError(
            f"{path} normalises images by mean {_written(mean)} and standard deviation {_written(std)}, as no model "
            "here does.\nAdd one that does as a plug-in, or save the weights alone and name the normalisation."
        )
    if "@" not in spec:
        return normalise(model, own, in_channels), f"{name}@{own}"
    if norm != own:
        raise BenchError(f"{path} holds the normalisation {own}, not {norm}.\nName the model {name}@{own}.")
    return model, spec


def _written(values: Tensor) -> str:
    return str([round(value, 4) for value in values.flatten().tolist()])


def _check_agreement(path: Path, spec: str, stored: str) -> None:
    """A given spec may leave the normalisation to the file; what it does say must be what the file says."""
    name, norm = split_spec(spec)
    if name != split_spec(stored)[0] or ("@" in spec and norm != split_spec(stored)[1]):
        raise BenchError(f"{path} holds a {stored}, not a {spec}.\nName the model {stored}, or choose another file.")


def _infer(path: Path, state: dict[str, Tensor], num_classes: int, in_channels: int) -> str:
    """The one architecture whose layers a foreign file holds."""
    found = identify(state, num_classes, in_channels)
    fitting = [name for name, problem in found.items() if problem is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BenchError(f"{path} fits more than one model.\nName one of them: {' or '.join(fitting)}.")
    for name, problem in found.items():
        if problem is not None:
            raise BenchError(f"{path} holds a {name}, but {problem.reason}.\n{_OTHER_FILE}")
    raise BenchError(
        f"{path} fits no registered model: its first layer is {next(iter(state), 'missing')}.\n"
        "Name its model (timm:NAME for one of timm's), or add the architecture as a plug-in."
    )


def _suggest(found: dict[str, Misfit | None]) -> str:
    """What to do about a file that does not fit the given model, from what `identify` found."""
    for name, problem in sorted(found.items(), key=lambda item: item[1] is not None):
        return f"It holds a {name}{': name the model so' if problem is None else f', but {problem.reason}'}."
    return _OTHER_FILE
