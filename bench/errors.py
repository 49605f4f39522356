"""What the user is told when something is wrong.

Every mistake a user can make ends in a `BenchError`: one or two lines that say what was wrong and what to do next.
The command line prints them without a traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class BenchError(Exception):
    """A mistake the user can correct; its text is the whole message."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """The error for a name of a kind ("method", "dataset") that does not exist: names the closest one and lists all."""
    options = sorted(known)
    close = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return BenchError(f"Unknown {kind} {name!r}.{hint}\nKnown: {', '.join(options) or 'none'}.")


def printable(text: str) -> str:
    """Text for a screen: names in it cannot move the cursor, colour what follows or turn the reading direction."""
    kept = (mark if mark in "\n\t" or unicodedata.category(mark) not in ("Cc", "Cf") else "?" for mark in text)
    return "".join(kept)
