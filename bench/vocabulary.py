"""Whose attack parameters an evaluation uses."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["official", "paper"]
"""`official`: what the authors' evaluation code computes; `paper`: what their text says."""
