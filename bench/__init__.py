"""Benchmark harness for adversarial robustness distillation: train, attack, tabulate."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.moved import forward
from bench.version import __version__

if TYPE_CHECKING:
    from bench.api.evaluating import evaluate
    from bench.api.reading import compare, load_records
    from bench.api.training import train
    from bench.data.dataset import Dataset, Split
    from bench.errors import BenchError

__all__ = [
    "BenchError",
    "Dataset",
    "Split",
    "__version__",
    "compare",
    "evaluate",
    "load_records",
    "train",
]

_WHERE = {
    "BenchError": "bench.errors",
    "Dataset": "bench.data.dataset",
    "Split": "bench.data.dataset",
    "compare": "bench.api.reading",
    "evaluate": "bench.api.evaluating",
    "load_records": "bench.api.reading",
    "train": "bench.api.training",
}

forward()


def __getattr__(name: str) -> Any:
    """What Python is offered, imported when it is asked for: `bench --help` does not wait for PyTorch."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
