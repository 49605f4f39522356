"""Words and numbers that mean the same everywhere: roles, precisions, protocols, the usual eps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Role = Literal["clean", "robust"]
"""Of a teacher: which images it is good at."""

Precision = Literal["32", "bf16"]
"""In which training computes."""

Protocol = Literal["official", "paper"]
"""`official`: what the authors' evaluation code computes; `paper`: what their text says."""

Norm = Literal["linf", "l2", "l1"]
"""In which the length of a perturbation is measured."""

LINF_EPS = 8 / 255
"""The field's usual L-infinity bound for images in [0, 1]; a dataset may state another one."""

_USUAL_EPS = {"digits": 2 / 16}
"""Two of the sixteen grey levels of the digits; 8/255 would hardly disturb such strokes."""


def usual_eps(name: str) -> float:
    """The L-infinity bound that goes without saying for a dataset of this name."""
    return _USUAL_EPS.get(name, LINF_EPS)


Checkpoint = Literal["best", "last", "best-plain", "last-plain"]
"""The networks that a run keeps, as its files are called: the selected one and the final one, and where these are an
average of the student, the student itself at those times."""
Selected = Literal["best", "last"]
"""Of these what tables and comparisons take: never both in one cell."""
Evaluated = Literal["best", "last", "both"]
"""What an evaluation of a run attacks."""
PLAIN: Final[Mapping[Checkpoint, Checkpoint]] = {"best": "best-plain", "last": "last-plain"}


CORRUPTIONS: Final = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The fifteen that accuracy under corruptions is the mean of (Hendrycks and Dietterich 2019)."""
FURTHER_CORRUPTIONS: Final = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more, which their authors left for validation."""
SEVERITIES: Final = (1, 2, 3, 4, 5)
"""Of a corruption."""
LEAST_CORRUPTED: Final = 32
"""Pixels a side that an image has at least where corruptions are defined; it has three channels."""
