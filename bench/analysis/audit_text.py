"""An audit in words, and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bench.analysis.audit import KINDS, Audit, TableAudit
from bench.analysis.claims import CheckedClaim
from bench.analysis.one_seed import OneSeed
from bench.analysis.wins import Win, Wins
from bench.stats import LEVEL, TEST_NAMES
from bench.stats.planning import PUBLISHED_SPREAD


def to_json(audit: Audit) -> dict[str, Any]:
    """All of an audit in plain types."""
    content = asdict(audit)
    content["level"] = LEVEL
    for table, source in zip(content["tables"], audit.tables, strict=True):
        if source.wins:
            table["wins"]["significant"] = source.wins.significant
    content["claims"] = [each.claim.model_dump() | {"holds": each.holds, "found": each.found} for each in audit.claims]
    return content


def to_text(audit: Audit) -> str:
    """All of an audit as Markdown that reads well in a terminal."""
    return "\n".join(_lines(audit)) + "\n"


def _lines(audit: Audit) -> Iterator[str]:
    for table in audit.tables:
        yield from _table(table)
    if audit.between:
        yield from ("## Between the tables", "")
        yield from (f"- {finding.text}" for finding in audit.between)
        yield ""
    if audit.claims:
        yield from ("## What the paper's prose says of its numbers", "")
        yield from (_claim(claim) for claim in audit.claims)
        yield ""
    found = sum(len(table.findings) for table in audit.tables) + len(audit.between)
    wrong = sum(claim.holds is False for claim in audit.claims)
    wins = [table.wins for table in audit.tables if table.wins]
    yield f"In all: {found} findings in {len(audit.tables)} tables" + (f"; {wrong} claims fail" if wrong else "") + "."
    if wins:
        total = sum(len(each.wins) for each in wins)
        won = sum(each.significant for each in wins)
        yield f"Of the {total} wins of the proposed defense, counted by table, {won} exceed sampling noise."
    alone = [table.one_seed for table in audit.tables if table.one_seed]
    if alone:
        carried, elsewhere = (
            " and ".join(str(sum(ends)) for ends in zip(*pairs, strict=True))
            for pairs in ([each.carried for each in alone], [each.carried_others for each in alone])
        )
        gaps = f"{sum(each.gaps for each in alone)} {'wins' if wins else 'leads between rows of one seed'}"
        yield (
            f"Of {gaps}, one seed a side carries {carried} on the same images, {elsewhere} on others, if accuracies "
            f"spread over seeds by {_spread(0)} and by {_spread(1)} points, as published (ResNet-18 under AutoAttack)."
        )


def _table(table: TableAudit) -> Iterator[str]:
    yield from (f"## Table {table.number}. {table.title}", "")
    for kind, meaning in KINDS.items():
        found = [finding.text for finding in table.findings if finding.kind == kind]
        if found:
            yield f"{meaning}:"
            yield from (f"- {text}" for text in found)
            yield ""
    if table.wins:
        yield from _wins(table.wins)
    if table.one_seed:
        yield from (_one_seed(table.one_seed), "")
    if not table.findings and not table.wins:
        yield from ("Nothing found." if table.numbers else "No numbers.", "")


def _wins(wins: Wins) -> Iterator[str]:
    images, corrected = wins.least
    paired = [win.p_paired for win in wins.wins if win.p_paired]
    yield (
        f"{wins.proposed} is best in {wins.best} of {wins.cells} cells, which are {len(wins.wins)} distinct "
        f"comparisons; {wins.significant} of these exceed sampling noise ({TEST_NAMES['proportions']}, n = {wins.n:,} "
        f"each, {LEVEL:.0%} after Holm's correction over them)."
    )
    yield (
        "The paper does not say how often two defenses are right on the same image. If all were tested on the same "
        f"images, McNemar's exact test would find at most {sum(low <= LEVEL for low, _ in paired)} of the "
        f"{len(paired)} clean and robust wins significant (the most favourable pairing) and at least "
        f"{sum(high <= LEVEL for _, high in paired)} (the least favourable). The smallest difference that any pairing "
        f"can make significant is {images} images ({100 * images / wins.n:.2f} points), after correction "
        f"{corrected} ({100 * corrected / wins.n:.2f} points)."
    )
    yield from (_win(win) for win in wins.wins)
    yield ""


def _one_seed(found: OneSeed) -> str:
    """The worth of a table's wins, or of its leads between rows of one seed."""
    seeds = " and ".join("over 999" if each is None else str(each) for each in found.seeds)
    gap, other = (" and ".join(f"{each:.2f}" for each in ends) for ends in (found.least, found.least_others))
    carried, elsewhere = (" and ".join(map(str, ends)) for ends in (found.carried, found.carried_others))
    return (
        f"If accuracies spread over seeds by {_spread(0)} and by {_spread(1)} points, one seed a side carries a gap of "
        f"more than {gap} points, {other} on other images (each gap alone, at {LEVEL:.0%}): {carried} of {found.gaps}, "
        f"{elsewhere} on other images. The median gap, {found.median:.2f}, takes {seeds} seeds a side."
    )


def _spread(end: int) -> str:
    return f"{100 * PUBLISHED_SPREAD[end]:.1f}"


def _win(win: Win) -> str:
    place = ", ".join(part for part in (win.dataset, win.attack, win.quantity) if part)
    cells = f", in {win.cells} cells" if win.cells > 1 else ""
    paired = "" if win.p_paired is None else f"; paired, from {win.p_paired[0]:.2g} to {win.p_paired[1]:.2g}"
    said = "exceeds noise" if win.significant else "within noise"
    return (
        f"- {place}{cells}: {win.value:.2f} against {win.second:.2f} of {win.rival}, +{win.difference:.2f}: {said} "
        f"(p = {win.p:.2g}, corrected {win.p_holm:.2g}{paired})"
    )


def _claim(checked: CheckedClaim) -> str:
    said = {True: "holds", False: "does not hold", None: "cannot be checked"}[checked.holds]
    claim = checked.claim
    tables = f" (Table {', '.join(map(str, claim.tables))})" if claim.tables else ""
    return f"- {said}{tables}: {claim.location}: {claim.quote!r}; found: {checked.found}"
