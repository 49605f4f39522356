"""What a training run is made of besides its images: recipes (YAML), schedules, hyper-parameters."""

from bench.recipes.schedule import Schedule
from bench.recipes.training import Optimizer

__all__ = ["Optimizer", "Schedule"]
