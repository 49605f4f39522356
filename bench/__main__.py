"""`python -m bench`, which torchrun also uses: the same commands as `bench`."""

from __future__ import annotations

import os
import sys


def _leave_current_folder() -> None:
    """Take the current folder off the import path.

    `python -m` puts it first. A researcher's folder often has a `methods/` or `attacks/` of its own, which would hide
    the harness's packages of those names from every plug-in.
    """
    here = os.path.realpath(os.getcwd())
    sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


if __name__ == "__main__":
    _leave_current_folder()
    from bench.cli.main import main

    main()
