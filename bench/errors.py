"""What the user is told when something is wrong.

Every mistake a user can make ends in a `BenchError`: one or two lines that say what was wrong and what to do next.
The command line prints them without a traceback and exits with code 2.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

_MOST_NAMED = 4
"""Names that are suggested at most."""
_WORTH_COMPLETING = 4
"""Letters from which on the beginning of a name says which one was meant."""


class BenchError(Exception):
    """A mistake the user can correct; its text is the whole message."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """The error for a name of a kind ("method", "dataset") that is none: names what is close to it and lists all."""
    options = sorted(known)
    return BenchError(f"Unknown {kind} {name!r}.{suggestion(name, options)}\nKnown: {', '.join(options) or 'none'}.")


def suggestion(name: str, known: Iterable[str], written: Callable[[str], str] = repr) -> str:
    """` Did you mean 'ciard'?` after a name that does not exist; nothing where no name is close to it.

    Args:
        written: how a name is written in the message.
    """
    close = [written(each) for each in close_names(name, known)]
    if not close:
        return ""
    return f" Did you mean {' or '.join(filter(None, (', '.join(close[:-1]), close[-1])))}?"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """What a name that does not exist may have been meant for: those that have it in them, else the likeliest typo.

    It has to be a word there (`pgd` of `pgd-20`, not of `pgdard`) or, of four letters and more, the beginning. A typo
    changes, adds, leaves out or swaps one letter in three: what shares no more than letters is no guess worth making.
    """
    asked, options = name.lower(), sorted(known)
    if not asked:
        return []
    digits = "0-9" if asked[-1].isdigit() else ""
    word = rf"(?<![a-z0-9]){re.escape(asked)}(?![{digits}a-z])"
    begins = re.escape(asked) if len(asked) >= _WORTH_COMPLETING else word
    having = [each for each in options if re.match(begins, each.lower())]
    having += [each for each in options if re.search(word, each.lower())]
    if having:
        return list(dict.fromkeys(having))[:_MOST_NAMED]
    most = max(1, len(asked) // 3)
    # Of a name that is much longer, as a run's id is, the beginning may be meant.
    ends = {each: None if len(each) <= len(asked) + most else len(asked) for each in options}
    typos = (
        (_typos(asked, each.lower()[:end]), each)
        for each, end in ends.items()
        if len(each) >= len(asked) - most and (end is None or len(asked) > 2 * _WORTH_COMPLETING)
    )
    fewest, nearest = min(typos, default=(most + 1, ""))
    return [nearest] if fewest <= most else []


def _typos(first: str, second: str) -> int:
    """How many letters are changed, added, left out or swapped with their neighbour between two words."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, ours in enumerate(first):
        last, before, row = before, row, [i + 1]
        for j, theirs in enumerate(second):
            row.append(min(before[j] + (ours != theirs), before[j + 1] + 1, row[j] + 1))
            if i and j and ours == second[j - 1] and theirs == first[i - 1]:
                row[-1] = min(row[-1], last[j - 1] + 1)
    return row[-1]


def printable(text: str) -> str:
    """Text for a screen: names in it cannot move the cursor, colour what follows or turn the reading direction."""
    kept = (mark if mark in "\n\t" or unicodedata.category(mark) not in ("Cc", "Cf") else "?" for mark in text)
    return "".join(kept)
