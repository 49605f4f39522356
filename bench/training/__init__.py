"""Stage 1: a student is trained, from its first step or from where it stopped."""

from bench.training.step import TrainingStep

__all__ = ["TrainingStep"]
