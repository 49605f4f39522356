"""What a duel came to, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.answer import answer
from bench.analysis.compare import Comparison, Side
from bench.analysis.compare_text import shared_teachers
from bench.evaluation.suites import ENSEMBLE, STRONGEST
from bench.records.wording import seeds_text
from bench.report.duel_cost import Costs, Found
from bench.stats import LEAST_SEEDS
from bench.system.text import duration
from bench.tables.overview import attack_labels
from bench.vocabulary import Selected

KEPT: dict[Selected, str] = {"best": "Selected weights", "last": "Last weights"}


def verdict(found: Found, costs: Costs) -> Iterator[str]:
    """What it came to, in a few lines for the terminal: what was asked, the answers, what they are about, the cost."""
    first = next(iter(found.values()))
    yield f"{title(first.sides)}: {about(found)}."
    for which, each in found.items():
        yield " ".join([f"{KEPT[which]}:"] * (len(found) > 1) + said(each))
    yield " ".join([*limits(first), *_cost_text(costs)])


def title(sides: Sequence[Side]) -> str:
    return " against ".join(side.name for side in sides)


def about(found: Found) -> str:
    """Which networks, trained and attacked how; whatever was reduced is named."""
    comparison = next(iter(found.values()))
    networks = [network for side in comparison.sides for network in side.networks]
    models, settings = ({getattr(network.subject, name): None for network in networks} for name in ("model", "setting"))
    seeds = {seeds_text(_seeds(side)): None for side in comparison.sides}
    conditions = sorted({contrast.condition for contrast in comparison.contrasts})
    totals = {each.record.data.n: each.record.data.total for network in networks for each in network.measured.values()}
    images = {f"{each.n:,} of {totals[each.n]:,} test images of {each.dataset}": None for each in conditions}
    threats = {each.threat.text: None for each in conditions}
    which = " and ".join(KEPT[each].lower() for each in found)
    return (
        f"student {' and '.join(models)}, {'; '.join(settings)}; seeds of each: {' and '.join(seeds)}; {which}, "
        f"attacked on {' and '.join(images)} within {' and '.join(threats)}"
    )


def _seeds(side: Side) -> list[int]:
    return [network.subject.seed for network in side.networks if network.subject.seed is not None]


def said(comparison: Comparison) -> list[str]:
    """The answers, each as `bench compare` gives it, and of three sides or more their order."""
    groups = comparison.by_condition
    conditions = {condition for _, condition in groups}
    texts = []
    for (pair, condition), contrasts in groups.items():
        where = [f"{pair[0]} against {pair[1]}"] * (len(comparison.sides) > 2)
        where += [f"on {condition}"] * (len(conditions) > 1)
        texts.append(f"{', '.join(where)}: {answer(contrasts)}" if where else answer(contrasts))
    return texts + (list(_orders(comparison)) if len(comparison.sides) > 2 else [])


def _orders(comparison: Comparison) -> Iterator[str]:
    """The sides in the order of their robust accuracy under the strongest attack, and which of them were told apart."""
    robust = [each for each in comparison.contrasts if each.quantity == "robust"]
    attack = next((name for name in STRONGEST if any(each.attack == name for each in robust)), None)
    for condition in sorted({each.condition for each in robust}):
        pairs = [each for each in robust if (each.attack, each.condition) == (attack, condition)]
        values = {
            name: number.value for each in pairs for name, number in zip(each.sides, each.accuracies, strict=True)
        }
        if attack is None or len(values) < len(comparison.sides):
            continue
        ranked = sorted(values, key=lambda name: -values[name])
        order = ", ".join(f"{name} {100 * values[name]:.2f} %" for name in ranked)
        open_ = [f"{each.sides[0]} and {each.sides[1]}" for each in pairs if not each.found]
        apart = "all of them told apart" if not open_ else f"not told apart: {'; '.join(open_)}"
        if len(open_) == len(pairs):
            apart = "no two of them told apart"
        yield f"In order under {attack_labels().get(attack, attack)}: {order}; {apart}."


def limits(comparison: Comparison) -> list[str]:
    """What the verdict is about, and what it rests on."""
    tests = {contrast.test for contrast in comparison.contrasts}
    texts = []
    if tests == {"welch"}:
        texts.append("It is a claim about the defenses, on these images and for this student and schedule.")
    else:
        texts.append(
            f"It is a claim about these networks alone: one about the defenses takes {LEAST_SEEDS} seeds of each."
        )
    texts += shared_teachers(comparison.sides)
    texts += _own_teachers(comparison.sides)
    if not any(contrast.attack == ENSEMBLE for contrast in comparison.contrasts):
        texts.append(
            f"{attack_labels()[ENSEMBLE]} is not among the attacks that all had: accuracies under weaker ones are too "
            "high, not by the same for all, and a lead may be one of hidden gradients."
        )
    return texts


def _own_teachers(sides: Sequence[Side]) -> Iterator[str]:
    """That every seed of a side had teachers of its own."""
    for side in sides:
        taught = [tuple(sorted(network.subject.teachers.items())) for network in side.networks]
        if taught[0] and len(taught) > 1 and len(set(taught)) == len(taught):
            yield f"Each seed of {side.name} learned from teachers of its own: what others change is in its spread."


def _cost_text(costs: Costs) -> Iterator[str]:
    took = [
        f"{name} {duration(sum(cost.training.values()))} to train and {duration(sum(cost.attacks.values()))} to attack"
        for name, cost in costs.sides.items()
        if cost.training
    ]
    if took:
        yield f"A network took: {', '.join(took)}."
    if costs.teachers:
        yield f"The training of {len(costs.teachers)} teachers took {duration(sum(costs.teachers.values()))}."
