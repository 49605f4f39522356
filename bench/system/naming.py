"""How users name networks: by an id, or by as much of one as no other has."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

from bench.errors import BenchError, unknown_name
from bench.system.home import Home

_SHORTEST = 4
"""Letters of a hash that are shown at least, so that a name stays one when some runs are added."""
_MOST_LISTED = 5


def network_id(run: str | None, record: str) -> str:
    """A run's id; of a file from elsewhere what the names of its records begin with. Both end in `_` and a hash."""
    return run or record.rpartition("__")[0] or record


def run_ids(home: Home) -> set[str]:
    """Of all runs that have a folder."""
    return {path.parent.name for path in home.runs.glob("*/config.json")}


def recorded_ids(home: Home) -> set[str]:
    """Of all networks that have a record, by the names of the files."""
    return {network_id(None, path.stem) for path in home.records.glob("*.json")}


def stands_for(name: str, identity: str) -> bool:
    """Whether a name is the beginning of an id, or of the hash in which it ends."""
    return identity.startswith(name) or _hash(identity).startswith(name)


def chosen(kind: str, name: str, known: Collection[str], others: Iterable[str] = ()) -> str:
    """The id that a name stands for: itself, or the only one of which it is a beginning.

    Args:
        kind: of what is named, for the message. others: names that would be taken too, to be suggested.

    Raises:
        BenchError: it stands for none, or for several.
    """
    found = [name] if name in known else [identity for identity in sorted(known) if stands_for(name, identity)]
    if len(found) > 1:
        raise BenchError(f"{name!r} stands for {len(found)}: {listed(found)}.\nWrite more of the one that is meant.")
    if found:
        return found[0]
    error = unknown_name(kind, name, {*known, *others})
    if len(known) <= _MOST_LISTED:
        raise error
    cure = f"`bench status` lists all {len(known)}; a beginning of an id or of its hash is enough."
    raise BenchError(str(error).split("\n")[0] + f"\n{cure}")


def short_names(known: Iterable[str]) -> dict[str, str]:
    """For each id the shortest beginning of its hash that stands for no other; the id itself where there is none."""
    ids = sorted(known)
    hashes = sorted(map(_hash, ids))
    found = {}
    for identity in ids:
        hashed = _hash(identity)
        lengths = range(_SHORTEST, len(hashed) + 1) if re.fullmatch("[0-9a-f]+", hashed) else ()
        beginnings = (hashed[:length] for length in lengths)
        only = (one for one in beginnings if _begin(one, hashes) == 1 and not _begin(one, ids))
        found[identity] = next(only, identity)
    return found


def short_names_in(home: Home, others: Iterable[str] = ()) -> dict[str, str]:
    """`short_names` of all runs, of all that has a record, and of others: records' names need not begin with ids."""
    return short_names({*run_ids(home), *recorded_ids(home), *others})


def _begin(name: str, ordered: Sequence[str]) -> int:
    """How many of some texts in order begin with a name."""
    return bisect_left(ordered, name + chr(0x10FFFF)) - bisect_left(ordered, name)


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Names in a row; of many only the first."""
    more = len(names) - _MOST_LISTED
    return between.join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _hash(identity: str) -> str:
    return identity.rpartition("_")[2]
