"""What a training run is made of besides its images: recipes (YAML), schedules, hyper-parameters."""

from bench.recipes.recipe import Optimizer
from bench.recipes.schedule import Schedule

__all__ = ["Optimizer", "Schedule"]
