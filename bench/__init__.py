"""Benchmark harness for adversarial robustness distillation: train, attack, tabulate."""

from typing import TYPE_CHECKING, Any

from bench.moved import forward
from bench.version import __version__

if TYPE_CHECKING:
    from bench.api import evaluate
    from bench.data.dataset import Dataset

__all__ = ["Dataset", "__version__", "evaluate"]

forward()


def __getattr__(name: str) -> Any:
    """`bench.evaluate` and `bench.Dataset`, imported when asked for: `bench --help` does not wait for PyTorch."""
    if name == "evaluate":
        from bench.api import evaluate

        return evaluate
    if name == "Dataset":
        from bench.data.dataset import Dataset

        return Dataset
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
