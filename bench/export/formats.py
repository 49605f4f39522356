"""The formats there are: how each is written, and how it is run again for the check.

Normalisation is part of what is exported: every file takes images in [0, 1], any number of them at a time.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.export.source import Source
from bench.models.checkpoints import SPEC_KEY, load_model, save_weights
from bench.system.text import one_line
from bench.version import __version__

TOLERANCE = 1e-4
"""Largest difference of a logit that counts as the same, relative to the largest logit where that is above 1."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        file: the file's name.
        write: writes a network to a path.
        load: reads the file again: images in [0, 1], (n, C, H, W), to logits, (n, classes).
        needs: packages of the extra `export`.
    """

    file: str
    write: Callable[[Source, Path], None]
    load: Callable[[Source, Path], Run]
    needs: tuple[str, ...] = ()

    def check_installed(self) -> None:
        """A `BenchError` that names the extra where a package is missing."""
        missing = [package for package in self.needs if find_spec(package) is None]
        if missing:
            raise BenchError(
                f"{self.file} needs {' and '.join(missing)}, not installed.\n"
                "Install the extra: pip install 'ard-bench[export]'. Or export with --format safetensors."
            )


@dataclass(frozen=True)
class Agreement:
    """How an exported file compares with the original: images compared, and the largest difference of a logit."""

    n: int
    difference: float


def agreement(source: Source, form: Format, path: Path) -> Agreement:
    """Compare an exported file with the original on test images, in batches of several sizes.

    Raises:
        BenchError: another class on some image, or logits further apart than `TOLERANCE`.
    """
    images = source.images
    expected, run = source.logits(images), form.load(source, path)
    first, others = images[:1], images[1:].split(100)
    try:
        found = torch.cat([run(batch) for batch in (first, *others)])
    except Exception as error:  # whatever the other runtime raises
        raise BenchError(
            f"{form.file} cannot be run on batches of {len(first)} and {len(others[0])}: {_first_line(error)}.\n"
            "Nothing was exported. Choose another --format."
        ) from error
    difference = (found - expected).abs().max().item()
    other_class = int((found.argmax(1) != expected.argmax(1)).sum())
    if other_class or not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise BenchError(
            f"{form.file} does not compute what {source.folder.id} does: logits differ by up to {difference:.3g}, the "
            f"class on {other_class} of {len(images)} test images.\n"
            "Nothing was exported. Try another --format, or other versions of PyTorch and ONNX Runtime."
        )
    return Agreement(len(images), difference)


def _first_line(error: BaseException) -> str:
    return one_line((str(error) or type(error).__name__).splitlines()[0])[:200].rstrip(".")


def _write_safetensors(source: Source, path: Path) -> None:
    data, (mean, std) = source.config.data, source.normalisation
    own = {SPEC_KEY: source.config.student, "num_classes": str(data.classes), "in_channels": str(data.in_channels)}
    save_weights(path, source.network, source.metadata | own | {"mean": json.dumps(mean), "std": json.dumps(std)})


def _load_safetensors(source: Source, path: Path) -> Run:
    data = source.config.data
    network, _ = load_model(path, None, data.classes, data.in_channels)
    return torch.no_grad()(network)


def _write_onnx(source: Source, path: Path) -> None:
    import onnx

    try:
        # The exporter tells its whole story where it fails; of that, one line is for the user.
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                source.network,
                (source.images[:2],),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        onnx.helper.set_model_props(model, source.metadata | {"ard-bench": __version__})
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
    except Exception as error:  # tracing runs a stranger's network, which may raise anything
        reason = _first_line(error.__cause__ or error)
        raise BenchError(
            f"{source.config.student} cannot be written as ONNX: {reason}.\nExport it with --format safetensors."
        ) from error


def _load_onnx(source: Source, path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return run


FORMATS = {
    "safetensors": Format("model.safetensors", _write_safetensors, _load_safetensors),
    "onnx": Format("model.onnx", _write_onnx, _load_onnx, needs=("onnx", "onnxruntime", "onnxscript")),
}
