"""What a paper's prose says of its own numbers, held against its tables.

Claims are a CSV file: where the sentence stands, the sentence, and what it says in terms of the table (see `Claim`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from bench.errors import BenchError
from bench.records.measurement import PublishedQuantity
from bench.system.text import first_mistake
from bench.tables.cell import Cell
from bench.tables.lines import Published
from bench.tables.spec import TableSpec

Tables = Mapping[int, tuple[TableSpec, list[Published]]]
"""By number: a table's spec and published numbers."""
_ROUNDING = 0.005 - 1e-9
Place = tuple[int, str, str]
"""Table, dataset and attack, the latter as the paper's CSV names it."""
Numbers = dict[Place, dict[str, float]]
"""By place and row: the numbers of one quantity, per cent as printed."""


class Claim(BaseModel):
    """One sentence about numbers of a paper.

    Attributes:
        tables: those it is about, separated by semicolons; empty where the sentence names none.
        kind: `number`: the row's number is `claimed`. `gain`: it is `claimed` above the rival's, or without a rival
            above the best of all others. `second`: it is second best. `best`: it is best in `claimed` (all, most) of
            the places. `above`: each of the rows is above each of the rivals in every place. `unnamed`: the sentence
            does not say which numbers it is of.
        dataset, attack: empty for all of the table's; a gain is then the largest of them.
        row, rival: labels of rows; several are separated by semicolons.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: tuple[int, ...]
    location: str
    quote: str
    kind: Literal["number", "gain", "second", "best", "above", "unnamed"]
    dataset: str
    attack: str
    quantity: PublishedQuantity | None
    row: str
    rival: str
    claimed: float | Literal["all", "most"] | None

    @field_validator("tables", mode="before")
    @classmethod
    def _split(cls, text: str) -> list[str]:
        return names(text)


@dataclass(frozen=True)
class CheckedClaim:
    """A claim with what the table says: whether it holds (None where that cannot be checked), and what was found."""

    claim: Claim
    holds: bool | None
    found: str


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file.

    Raises:
        BenchError: a line is not one (says which and why).
    """
    claims = []
    with path.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(csv.DictReader(stream), start=2):
            try:
                optional = {name: line.get(name) or None for name in ("quantity", "claimed")}
                claims.append(Claim.model_validate({**line, **optional}))
            except ValidationError as error:
                raise BenchError(
                    f"{path} is not valid in line {number}: {first_mistake(error)}.\nRepair that line."
                ) from error
    return claims


def check_claims(path: Path, claims: Iterable[Claim], tables: Tables) -> Iterator[CheckedClaim]:
    """The claims of a file, held against the published numbers of the tables at hand.

    A claim about a table that is not at hand is left out.

    Args:
        path: the file, for messages.
        tables: those at hand.

    Raises:
        BenchError: a claim is of a number that its table does not have.
    """
    for claim in claims:
        if claim.kind == "unnamed":
            yield CheckedClaim(claim, None, "it does not say of which tables, rivals or attacks")
        elif set(claim.tables) <= set(tables):
            try:
                yield _check(claim, _numbers(claim, tables))
            except (KeyError, ValueError, TypeError, IndexError) as error:
                raise BenchError(
                    f"The claim {claim.quote!r} is of a number that its table does not have ({error}).\n"
                    f"Repair its line in {path}."
                ) from error


def names(text: str) -> list[str]:
    """What semicolons separate."""
    return [name.strip() for name in text.split(";") if name.strip()]


def _numbers(claim: Claim, tables: Tables) -> Numbers:
    """The numbers of the claim's quantity where it applies."""
    numbers: Numbers = {}
    for number in claim.tables:
        spec, published = tables[number]
        attacks = {attack.result: attack.paper for attack in spec.attacks}
        for line in published:
            (dataset, *_), result, row = line.place
            value = None if claim.quantity is None else line.value(claim.quantity)
            shown = None if value is None else Cell(value=100 * value).shown
            if claim.dataset in ("", dataset) and claim.attack in ("", attacks[result]) and shown is not None:
                numbers.setdefault((number, dataset, attacks[result]), {})[row] = shown
    if not numbers:
        raise ValueError("no such table, dataset or attack")
    return numbers


def _check(claim: Claim, numbers: Numbers) -> CheckedClaim:
    rows, rivals = names(claim.row), names(claim.rival)
    if claim.kind == "above":
        return _above(claim, numbers, rows, rivals)
    (row,) = rows
    if claim.kind == "best":
        won = sum(each[row] == max(each.values()) for each in numbers.values())
        enough = won == len(numbers) if claim.claimed == "all" else 2 * won > len(numbers)
        return CheckedClaim(claim, enough, f"best in {won} of {len(numbers)} places")
    if claim.kind == "second":
        (each,) = numbers.values()
        second = sorted(set(each.values()), reverse=True)[1]
        return CheckedClaim(claim, each[row] == second == claim.claimed, f"second best is {second:.2f}")
    if claim.kind == "number":
        (each,) = numbers.values()
        return CheckedClaim(claim, _equal(each[row], claim.claimed), f"{each[row]:.2f}")
    gains = [each[row] - _rival(each, row, rivals) for each in numbers.values()]
    said = f"{max(gains):+.2f}" + (f", the largest of {len(gains)}" if len(gains) > 1 else "")
    return CheckedClaim(claim, _equal(max(gains), claim.claimed), said)


def _rival(numbers: dict[str, float], row: str, rivals: list[str]) -> float:
    return max(numbers[name] for name in (rivals or numbers) if name != row)


def _above(claim: Claim, numbers: Numbers, rows: list[str], rivals: list[str]) -> CheckedClaim:
    pairs = [(place, row, rival) for place in numbers for row in rows for rival in rivals]
    failed = [
        f"{row} {numbers[place][row]:.2f}, {rival} {numbers[place][rival]:.2f} (Table {', '.join(map(str, place))})"
        for place, row, rival in pairs
        if numbers[place][row] <= numbers[place][rival]
    ]
    said = f"so in {len(pairs) - len(failed)} of {len(pairs)} comparisons"
    return CheckedClaim(claim, not failed, said + (f"; not in {'; '.join(failed)}" if failed else ""))


def _equal(found: float, claimed: float | str | None) -> bool:
    return isinstance(claimed, float) and abs(found - claimed) < _ROUNDING
