"""Where the table specs, the paper's numbers and the templates lie: data that is shipped with the package.

A wheel carries the top-level folder `tables/` as `bench/table_files/`; a checkout, also one that is installed
in place, has it beside `bench/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import bench


def table_files(folder: Literal["specs", "paper", "templates"]) -> Path:
    """One of the folders with the tables' data."""
    package = Path(bench.__path__[0])
    shipped = package / "table_files"
    return (shipped if shipped.is_dir() else package.parent / "tables") / folder
