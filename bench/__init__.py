"""Benchmark harness for adversarial robustness distillation: train, attack, tabulate."""

from bench.version import __version__

__all__ = ["__version__"]
