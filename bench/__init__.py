"""Benchmark harness for adversarial robustness distillation: train, attack, tabulate."""

from typing import TYPE_CHECKING, Any

from bench.moved import forward
from bench.version import __version__

if TYPE_CHECKING:
    from bench.api import evaluate

__all__ = ["__version__", "evaluate"]

forward()


def __getattr__(name: str) -> Any:
    """`bench.evaluate`, imported when it is asked for: `bench --help` does not wait for PyTorch."""
    if name == "evaluate":
        from bench.api import evaluate

        return evaluate
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
