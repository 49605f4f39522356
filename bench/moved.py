"""Import paths that the documentation of versions before 0.2 named: they lead to where the modules are now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "bench.ranks": "bench.compute.ranks",
    "bench.recipe": "bench.recipes",
    "bench.schedule": "bench.recipes",
    "bench.statistics": "bench.stats",
    "bench.stepping": "bench.training",
}


class _Forwarding(MetaPathFinder, Loader):
    """Asked for an old name, it imports the new one and says so once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {new} now.", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(new)


def forward() -> None:
    """Have Python find the old names."""
    sys.meta_path.append(_Forwarding())
