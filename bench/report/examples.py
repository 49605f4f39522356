"""Test images, and what the attack on each network makes of them, for the runs whose weights and images are at hand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.evaluation.suites import SHOWN
from bench.records.outcomes import unpack
from bench.records.record import Record
from bench.records.wording import attack_text, protocol_text
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder
from bench.system.text import defense_label
from bench.tables.overview import attack_labels

if TYPE_CHECKING:  # a report without examples has no use for PyTorch
    from torch import Tensor, nn

    from bench.data.dataset import Dataset
    from bench.jobs.session import Session

MOST_RUNS = 20
"""Networks that are shown at most, so that the page stays small."""
_DOWNLOADED = ("cifar10", "cifar100")


@dataclass(frozen=True)
class Prediction:
    """What a network takes an image for, and its probability of that, in [0, 1]."""

    name: str
    probability: float
    right: bool


@dataclass(frozen=True)
class Picture:
    """A PNG; `file` is its name by its content, so that equal ones are one file."""

    png: bytes

    @property
    def file(self) -> str:
        return f"{hashlib.sha256(self.png).hexdigest()[:12]}.png"


@dataclass(frozen=True)
class Network:
    """Whose weights were attacked, and how.

    Attributes:
        label: the defense.
        about: student, setting and seed; the attack, its protocol and eps.
    """

    label: str
    about: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What one network says of an image.

    Attributes:
        before, after: of the image itself, and of what the attack on this network made of it.
        as_recorded: whether the attacked image is right or wrong as the run's record has it.
    """

    network: Network
    attacked: Picture
    perturbation: Picture
    before: Prediction
    after: Prediction
    as_recorded: bool


@dataclass(frozen=True)
class Example:
    """One test image under every network that was attacked on it.

    Attributes:
        dataset, place: which it is; the first has place 1.
        name: its class.
        magnified: by how much its perturbations are.
    """

    dataset: str
    place: int
    name: str
    original: Picture
    magnified: float
    answers: list[Answer] = field(default_factory=list)


@dataclass
class Gallery:
    """What is shown, and of what is not, why.

    Attributes:
        examples: by dataset, in the order of the test images.
        networks: those that answer.
        missing: (defense and run, reason).
        classes: class names by dataset, of the datasets that were loaded.
    """

    examples: list[Example] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def shared(self) -> list[str]:
        """What is said of all networks alike."""
        first, *others = [network.about for network in self.networks] or [()]
        return [said for said in first if all(said in about for about in others)]

    @property
    def pictures(self) -> Iterator[Picture]:
        for example in self.examples:
            yield example.original
            for answer in example.answers:
                yield from (answer.attacked, answer.perturbation)


class _NotAtHand(BenchError):
    """Something that examples need is not here; says what."""


def gallery(
    session: Session | None, runs: Sequence[tuple[RunFolder, RunConfig]], records: Iterable[Record], n: int
) -> Gallery:
    """The first n test images under each defense's own evaluation, one seed a defense; none without a session."""
    by_run = _by_run(records)
    found, folders = Gallery(), {folder.id: (folder, config) for folder, config in runs}
    examples: dict[tuple[str, int], Example] = {}
    if not n or session is None:
        return found
    for run_id in _one_seed_each(by_run):
        record = by_run[run_id]
        name = f"{defense_label(record.subject.label, record.subject.overrides)}, {run_id}"
        try:
            if len(found.networks) == MOST_RUNS:
                raise _NotAtHand(f"only the first {MOST_RUNS} are shown")
            if run_id not in folders:
                raise _NotAtHand("its run folder is not here, so there are no weights")
            found.networks.append(_answers(session, *folders[run_id], record, n, examples, found.classes))
        except BenchError as error:
            found.missing.append((name, str(error).splitlines()[0]))
    found.examples += [examples[key] for key in sorted(examples)]
    return found


def _by_run(records: Iterable[Record]) -> dict[str, Record]:
    """Of each student's run the newest record with a gradient attack."""
    usable = [r for r in records if r.subject.kind == "student" and r.subject.run and _attack(r)]
    usable.sort(key=lambda record: (record.created, record.id))
    found = {str(record.subject.run): record for record in usable}
    return dict(sorted(found.items()))


def _attack(record: Record) -> str | None:
    return next((name for name in SHOWN if name in record.results), None)


def _one_seed_each(by_run: Mapping[str, Record]) -> list[str]:
    """Run ids, of each defense's seeds the lowest."""
    lowest: dict[tuple[str, ...], tuple[int, str]] = {}
    for run_id, record in by_run.items():
        subject = record.subject
        key = (record.data.name, subject.model, subject.method, repr(subject.overrides), subject.setting)
        lowest[key] = min(lowest.get(key, (2**63, "")), (subject.seed or 0, run_id))
    return [run_id for _, run_id in lowest.values()]


def _answers(
    session: Session,
    folder: RunFolder,
    config: RunConfig,
    record: Record,
    n: int,
    examples: dict[tuple[str, int], Example],
    classes: dict[str, Sequence[str]],
) -> Network:
    """Add what one network says to each of the first n examples of its dataset, and return the network."""
    from bench.data.cifar import is_at_hand
    from bench.evaluation.evaluator import Evaluator
    from bench.models.checkpoints import load_model, weights_hash

    if not folder.best.is_file():
        raise _NotAtHand(f"its weights ({folder.best.name}) are not here")
    if config.data.spec in _DOWNLOADED and not is_at_hand(config.data.spec, session.home.data):
        raise _NotAtHand(f"the images of {config.data.spec} are not here")
    dataset = session.dataset(config.data.spec).under(record.data.threat)
    if dataset.test.first(record.data.n).fingerprint != record.data.fingerprint:
        raise _NotAtHand(f"{config.data.spec} holds other images now")
    network, _ = load_model(folder.best, config.student, config.data.classes, config.data.in_channels)
    if weights_hash(network) != record.subject.checkpoint:
        raise _NotAtHand("its weights were changed since they were evaluated")
    classes[dataset.name] = dataset.classes
    attack = _attack(record)
    assert attack is not None, "only such records are taken"
    evaluator = Evaluator(
        session.device, record.protocol, session.reporter, session.stop, record.seed, attack_set=record.attack_set
    )
    network = network.to(session.device)
    x_adv = evaluator.crafted(network, dataset, attack, min(n, record.data.n))
    known_as = Network(
        defense_label(record.subject.label, record.subject.overrides),
        (
            *(config.student, config.setting, f"seed {config.seed}"),
            attack_text(attack, attack_labels(), dataset.threat),
            *(protocol_text(record.protocol), dataset.threat.text),
        ),
    )
    recorded = unpack(record.results[attack].final, record.data.n).tolist()
    _answer(known_as, network, dataset, x_adv, recorded, examples)
    return known_as


def _answer(
    known_as: Network,
    network: nn.Module,
    dataset: Dataset,
    x_adv: Tensor,
    recorded: Sequence[bool],
    examples: dict[tuple[str, int], Example],
) -> None:
    import torch

    from bench.data.dataset import to_float
    from bench.evaluation.target import ready

    split = dataset.test.first(len(x_adv))
    x, labels = to_float(split.images), split.labels.tolist()
    with ready(network), torch.no_grad():
        before, after = (network(images.to(x_adv.device)).softmax(1).cpu() for images in (x, x_adv))
    x_adv = x_adv.cpu()
    # Grey where nothing changed, black and white at L-infinity's edge, in another norm where the most did.
    under = f"{dataset.name} {dataset.threat}"
    edge = dataset.eps if dataset.norm == "linf" else max(float((x_adv - x).abs().amax()), 1 / 255)
    edge = 1 / (2 * examples[under, 0].magnified) if (under, 0) in examples else edge
    perturbations = 0.5 + (x_adv - x) / (2 * edge)
    for i, label in enumerate(labels):
        new = Example(dataset.name, i + 1, dataset.classes[label], _picture(x[i]), 1 / (2 * edge))
        examples.setdefault((under, i), new).answers.append(
            Answer(
                network=known_as,
                attacked=_picture(x_adv[i]),
                perturbation=_picture(perturbations[i]),
                before=_prediction(before[i], label, dataset.classes),
                after=_prediction(after[i], label, dataset.classes),
                as_recorded=(int(after[i].argmax()) == label) == recorded[i],
            )
        )


def _prediction(probabilities: Tensor, label: int, classes: Sequence[str]) -> Prediction:
    i = int(probabilities.argmax())
    return Prediction(classes[i], float(probabilities[i]), i == label)


def _picture(image: Tensor) -> Picture:
    """An image in [0, 1], shape (C, H, W) with one or three channels, as a PNG."""
    from PIL import Image

    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return Picture(stream.getvalue())
