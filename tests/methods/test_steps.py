"""What a training step does to its models: which passes, in which order and mode, what is left behind, resuming."""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from bench.defense import Batch, Defense, Models
from methods.absld import ABSLD
from methods.adaad import AdaAD
from methods.adaiad import AdaIAD
from methods.adr import ADR
from methods.akd import AKD
from methods.ard import ARD
from methods.b_mtard import BMTARD
from methods.ciard_released import ReleasedCIARD
from methods.dard import DARD, PGDARD
from methods.dgad import DGAD
from methods.fair_ard import FairARD
from methods.hat import HAT
from methods.iad import IAD
from methods.igdm import AdaADWithIGDM, ARDWithIGDM, RSLADWithIGDM, SATWithIGDM, TRADESWithIGDM
from methods.lbgat import LBGAT
from methods.mart import MART
from methods.mtard import MTARD
from methods.named import SAT_AWP, TRADES_AWP
from methods.natural import Natural
from methods.peeraid import PeerAiD
from methods.rslad import RSLAD
from methods.saad import SAAD
from methods.sat import SAT
from methods.score import SCORE
from methods.trades import TRADES

METHODS: tuple[type[Defense], ...] = (
    *(Natural, SAT, TRADES, SCORE, ARD, RSLAD, FairARD, ABSLD, MTARD, BMTARD, DARD, PGDARD, ReleasedCIARD),
    *(AdaAD, AdaIAD, SATWithIGDM, TRADESWithIGDM, ARDWithIGDM, RSLADWithIGDM, AdaADWithIGDM, SAAD),
    *(PeerAiD, LBGAT, ADR),
    *(AKD, DGAD, HAT, IAD, MART),
)
ALL = [(method, name) for method in METHODS for name in method.variants]
each = pytest.mark.parametrize(("method", "name"), ALL)


def make(method: type[Defense], name: str, **settings: Any) -> Defense:
    return method(**{**method.variants[name], **settings})


Pass = tuple[str, str, bool, bool]
"""(network, images: clean or other, in train mode, leads to a gradient of the weights or images)"""


@contextmanager
def recorded(models: Models, batch: Batch, own: Iterable[str]) -> Iterator[list[Pass]]:
    """The forward passes of all networks, in order; own: the defense's companions."""
    passes: list[Pass] = []

    def note(who: str) -> Any:
        def hook(network: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            images = "x" if torch.equal(args[0], batch.x) else "x'"
            passes.append((who, images, network.training, output.requires_grad))

        return hook

    with ExitStack() as hooks:
        named = {"student": models.student, **models.teachers}
        for who, network in (named | {name: models.companions[name] for name in own}).items():
            hooks.enter_context(network.register_forward_hook(note(who)))
        yield passes


def step(defense: Defense, case: Any, epoch: int = 1) -> list[Pass]:
    """A whole step of the trainer but for the student's optimizer; the passes it made."""
    batch = case.batch(epoch)
    case.student.train()
    case.peer.train()
    with recorded(case.models, batch, defense.companions()) as passes:
        loss = defense.loss(batch, case.models)
        loss.total.backward()
        defense.after_step(batch, case.models)
    return passes


ATTACK = [("student", "x'", False, True)]
TRAIN_ATTACK = [("student", "x'", True, True)]
CLEAN, ADV = ("student", "x", True, True), ("student", "x'", True, True)
# What batch-norm alone sees: no gradient comes back.
SEEN_CLEAN, SEEN_ADV = ("student", "x", True, False), ("student", "x'", True, False)

STUDENT_PASSES: dict[tuple[str | int, ...], list[Pass]] = {
    ("Natural", "paper"): [CLEAN],
    ("SAT", "paper"): [*10 * ATTACK, ADV],
    ("SAT", "official"): [*10 * TRAIN_ATTACK, ADV],
    ("TRADES", "paper"): [("student", "x", False, False), *10 * ATTACK, CLEAN, ADV],
    ("TRADES", "official"): [("student", "x", False, False), *10 * ATTACK, CLEAN, ADV, CLEAN],
    ("SCORE", "paper"): [("student", "x", False, False), *10 * ATTACK, ADV, CLEAN],
    ("ARD", "paper"): [*10 * ATTACK, ADV, ("student", "x", True, False)],
    ("ARD", "official"): [*10 * TRAIN_ATTACK, ADV, ("student", "x", True, False)],
    ("RSLAD", "paper"): [*10 * ATTACK, ADV, CLEAN],
    ("FairARD", "paper"): [*10 * ATTACK, ADV, ("student", "x", True, False)],
    ("FairARD", "official"): [*10 * TRAIN_ATTACK, ADV, ("student", "x", True, False)],
    ("ABSLD", "paper"): [*10 * ATTACK, ADV, CLEAN],
    ("MTARD", "paper"): [*10 * ATTACK, ADV, CLEAN],
    ("BMTARD", "paper"): [*10 * ATTACK, ADV, CLEAN],
    ("DARD", "paper"): [("student", "x", False, True), *9 * ATTACK, ADV],
    ("DARD", "released"): [("student", "x", True, True), *9 * TRAIN_ATTACK, CLEAN, ADV],
    ("PGDARD", "paper"): [("student", "x", False, True), *9 * ATTACK, ADV],
    ("PGDARD", "released"): [("student", "x", True, True), *9 * TRAIN_ATTACK, CLEAN, ADV],
    ("PeerAiD", "paper"): [*10 * ATTACK, ADV, CLEAN],
    ("PeerAiD", "official"): [*10 * ATTACK, ADV, ADV, CLEAN],
    ("LBGAT", "paper"): [("student", "x", False, False), *10 * ATTACK, ADV, CLEAN],
    ("ADR", "paper"): [*10 * TRAIN_ATTACK, ADV],
    ("ReleasedCIARD", "paper"): [CLEAN, *10 * ATTACK, ADV],
    ("ReleasedCIARD", "official"): [CLEAN, *10 * ATTACK, ADV],
    ("AdaAD", "paper"): [*10 * ATTACK, SEEN_CLEAN, ADV],
    ("AdaIAD", "paper"): [*10 * ATTACK, SEEN_CLEAN, ADV],
    ("AdaIAD", "paper", 100): [*10 * ATTACK, CLEAN, ADV],
    ("AdaIAD", "official"): [*10 * ATTACK, SEEN_CLEAN, ADV, SEEN_CLEAN],
    ("AdaIAD", "official", 100): [*10 * ATTACK, CLEAN, ADV, SEEN_CLEAN, SEEN_CLEAN],
    ("AdaIAD", "wide"): [*10 * ATTACK, SEEN_CLEAN, ADV, SEEN_CLEAN],
    ("AdaIAD", "wide", 100): [*10 * ATTACK, CLEAN, ADV, SEEN_CLEAN, SEEN_CLEAN],
    # x - d, too, is an x' here.
    ("SATWithIGDM", "paper"): [*10 * ATTACK, ADV, ADV],
    ("TRADESWithIGDM", "paper"): [("student", "x", False, False), *10 * ATTACK, CLEAN, ADV, ADV],
    ("ARDWithIGDM", "paper"): [*10 * ATTACK, ADV, SEEN_CLEAN, ADV],
    ("RSLADWithIGDM", "paper"): [*10 * ATTACK, ADV, SEEN_ADV, CLEAN, ADV],
    ("AdaADWithIGDM", "paper"): [*10 * ATTACK, SEEN_ADV, SEEN_CLEAN, ADV, ADV],
    ("SAAD", "paper"): [*10 * ATTACK, ADV, ADV, SEEN_CLEAN],
    ("AKD", "paper"): [*10 * ATTACK, ADV],
    ("AKD", "official"): [*10 * TRAIN_ATTACK, ADV],
    ("DGAD", "paper"): [*10 * ATTACK, CLEAN, ADV],
    ("HAT", "paper"): [("student", "x", False, False), *10 * ATTACK, CLEAN, ADV, ADV],
    ("IAD", "paper"): [*10 * ATTACK, ADV, ("student", "x", True, False)],
    ("IAD", "paper", 100): [*10 * ATTACK, ADV, CLEAN],
    ("IAD", "official"): [*10 * TRAIN_ATTACK, ADV, ("student", "x'", True, False), ("student", "x", True, False)],
    ("IAD", "official", 100): [
        *(*10 * TRAIN_ATTACK, ADV, ("student", "x'", True, False)),
        *(CLEAN, ("student", "x", True, False)),
    ],
    ("MART", "paper"): [*10 * ATTACK, CLEAN, ADV],
}

OWN_PASSES = {
    "PeerAiD": [("peer", "x", False, False), ("peer", "x'", True, True)],
    "LBGAT": [("guide", "x", True, True)],
    "ADR": [("mean-teacher", "x", False, False)],
}

TEACHER_PASSES: dict[tuple[str | int, ...], dict[str, int]] = {
    ("ARD", "paper"): {"robust": 1},
    ("RSLAD", "paper"): {"robust": 1},
    ("FairARD", "paper"): {"robust": 1},
    ("ABSLD", "paper"): {"robust": 1},
    ("MTARD", "paper"): {"robust": 1, "clean": 1},
    ("BMTARD", "paper"): {"robust": 1, "clean": 1},
    ("DARD", "paper"): {"robust": 2},
    ("DARD", "released"): {"robust": 10 + 2},
    ("PGDARD", "paper"): {"robust": 2},
    ("PGDARD", "released"): {"robust": 10 + 2},
    ("ReleasedCIARD", "paper"): {"robust": 1, "clean": 10 + 2},
    ("ReleasedCIARD", "official"): {"robust": 1, "clean": 2},
    ("AdaAD", "paper"): {"robust": 10 + 1},
    ("AdaIAD", "paper"): {"robust": 10 + 1},
    ("SATWithIGDM", "paper"): {"robust": 2},
    ("TRADESWithIGDM", "paper"): {"robust": 2},
    ("ARDWithIGDM", "paper"): {"robust": 3},
    ("RSLADWithIGDM", "paper"): {"robust": 3},
    ("AdaADWithIGDM", "paper"): {"robust": 10 + 2},
    ("SAAD", "paper"): {"robust": 1 + 2},
    ("AKD", "paper"): {"robust": 1, "clean": 1},
    ("DGAD", "paper"): {"robust": 10 + 2},
    ("HAT", "paper"): {"clean": 1},
    ("IAD", "paper"): {"robust": 1},
    ("IAD", "paper", 100): {"robust": 2},
}


@each
@pytest.mark.parametrize("epoch", [1, 100])
def test_passes_of_a_step(make_case: Any, method: type[Defense], name: str, epoch: int) -> None:
    case = make_case(noise="uniform" if issubclass(method, SAT | ARD | AKD | IAD) else "gaussian")
    defense = make(method, name)
    defense.begin(case.models, 300)
    passes = step(defense, case, epoch)
    keys = [(method.__name__, each, *at) for each in (name, "paper") for at in ((epoch,), ())]
    expected = next(STUDENT_PASSES[key] for key in keys if key in STUDENT_PASSES)
    assert [each for each in passes if each[0] == "student"] == expected
    own = [each for each in passes if each[0] in defense.companions()]
    assert own == OWN_PASSES.get(method.__name__, [])
    teachers = Counter(who for who, *_ in passes if who in case.models.teachers)
    assert teachers == next((TEACHER_PASSES[key] for key in keys if key in TEACHER_PASSES), {})


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (SAT_AWP, [*10 * TRAIN_ATTACK, SEEN_ADV, ADV, SEEN_CLEAN]),
        (TRADES_AWP, [("student", "x", False, False), *10 * ATTACK, ADV, CLEAN, CLEAN]),
    ],
)
def test_passes_of_awps_scripts(make_case: Any, method: type[Defense], expected: list[Pass]) -> None:
    case = make_case(noise="uniform" if issubclass(method, SAT) else "gaussian")
    defense = make(method, "official")
    defense.begin(case.models, 200)
    assert step(defense, case) == expected


@each
@pytest.mark.parametrize("epoch", [1, 100])
def test_modes_and_gradients_after_a_step(make_case: Any, method: type[Defense], name: str, epoch: int) -> None:
    case = make_case()
    defense = make(method, name)
    defense.begin(case.models, 300)
    statistics = {role: network.norm.running_mean.clone() for role, network in case.models.teachers.items()}
    step(defense, case, epoch)
    assert all(module.training for module in case.student.modules())
    # Only CIARD's robust teacher ever leaves eval mode: always (official), or once it learns.
    trains = {"robust": method is ReleasedCIARD and (name == "official" or epoch == 100), "clean": False}
    for role, network in case.models.teachers.items():
        assert all(module.training == trains[role] for module in network.modules())
        assert torch.equal(network.norm.running_mean, statistics[role]) != trains[role]
        learns = role == "robust" and method is ReleasedCIARD and epoch == 100
        assert all((value.grad is not None) == learns for value in network.parameters())
    assert all(value.requires_grad for value in case.student.parameters())
    assert all(module.training for module in case.peer.modules())
    assert not any(module.training for module in case.mean.modules())
    learns = method in (PeerAiD, LBGAT)
    assert all((value.grad is not None) == learns for value in case.peer.parameters())
    assert all(value.grad is None for value in case.mean.parameters())


@each
def test_the_attack_computes_no_gradient_of_any_weight(make_case: Any, method: type[Defense], name: str) -> None:
    case = make_case()
    defense = make(method, name)
    defense.begin(case.models, 300)
    touched: list[str] = []
    networks = {"student": case.student, "robust": case.robust, "clean": case.clean, "peer": case.peer}
    for who, network in networks.items():
        for key, value in network.named_parameters():
            if value.requires_grad:
                value.register_hook(lambda gradient, key=key, who=who: touched.append(f"{who} {key}"))
    case.student.train()
    loss = defense.loss(case.batch(100), case.models)  # every gradient of the inner maximisation is computed by now
    assert touched == []
    assert all(value.grad is None for value in case.student.parameters())
    loss.total.backward()
    assert touched


@each
def test_images_and_labels_are_left_alone(make_case: Any, method: type[Defense], name: str) -> None:
    case = make_case()
    x, y, noise = case.np_x.copy(), case.np_y.copy(), case.np_noise.copy()
    defense = make(method, name)
    defense.begin(case.models, 300)
    step(defense, case)
    assert (x == case.np_x).all()
    assert (y == case.np_y).all()
    assert (noise == case.np_noise).all()


@each
@pytest.mark.parametrize("classes", [2, 100])
def test_losses_are_float64_where_the_networks_are(
    make_case: Any, method: type[Defense], name: str, classes: int
) -> None:
    case = make_case(classes)
    loss = case.loss(make(method, name), epoch=100)
    assert loss.total.dtype == torch.float64
    assert loss.total.shape == ()
    assert all(value.shape == () and value.isfinite() for value in loss.terms.values())


@each
def test_the_start_noise_comes_from_the_batchs_generator_alone(
    make_case: Any, method: type[Defense], name: str
) -> None:
    settings = {} if method is Natural else {"start": "uniform"}
    totals = []
    for seed in (1, 2):
        case = make_case()
        torch.manual_seed(seed)  # must not matter
        defense = make(method, name, **settings)
        defense.begin(case.models, 300)
        case.student.train()
        case.peer.train()
        given = case.batch()
        batch = Batch(given.x, given.y, generator=torch.Generator().manual_seed(5))
        totals.append(defense.loss(batch, case.models).total.item())
    assert totals[0] == totals[1]


class Run:
    """A training loop in small: student, teachers, defense, optimizer."""

    def __init__(self, case: Any, method: type[Defense], name: str, epochs: int) -> None:
        self.models = copy.deepcopy(case.models)
        self.defense = make(method, name)
        self.defense.begin(self.models, epochs)
        companions = self.models.companions
        self.learning = [self.models.student]
        self.learning += [companions[key] for key, own in self.defense.companions().items() if own.learns]
        weights = [value for network in self.learning for value in network.parameters()]
        self.optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9)

    def steps(self, case: Any, epochs: range) -> list[float]:
        """Two steps an epoch, each on its own images; the losses."""
        losses = []
        for epoch in epochs:
            for number in range(2):
                source = torch.Generator().manual_seed(100 * epoch + number)
                x = torch.rand(case.np_x.shape, generator=source, dtype=torch.float64)
                batch = Batch(x, torch.from_numpy(case.np_y), epoch, number, source, steps=2)
                for network in self.learning:
                    network.train()
                loss = self.defense.loss(batch, self.models)
                self.optimizer.zero_grad()
                loss.total.backward()
                self.optimizer.step()
                self.defense.after_step(batch, self.models)
                losses.append(loss.total.item())
            self.defense.after_epoch(epoch)
        return losses

    def save(self) -> io.BytesIO:
        stream = io.BytesIO()
        state = {
            "student": self.models.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "defense": self.defense.state_dict(),
            "companions": {key: network.state_dict() for key, network in self.models.companions.items()},
        }
        torch.save(state, stream)
        stream.seek(0)
        return stream

    def load(self, stream: io.BytesIO) -> None:
        state = torch.load(stream, weights_only=True)
        self.models.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.defense.load_state_dict(state["defense"])
        for key, network in self.models.companions.items():
            network.load_state_dict(state["companions"][key])


@each
@pytest.mark.parametrize("stop", [1, 4, 7, 8])
def test_a_continued_run_is_the_uninterrupted_one(make_case: Any, method: type[Defense], name: str, stop: int) -> None:
    """In ten epochs CIARD's teacher begins to learn in epoch 3, and rates drop at 7, 9 and 10."""
    case = make_case()
    whole = Run(case, method, name, 10)
    expected = whole.steps(case, range(1, 11))

    first = Run(case, method, name, 10)
    losses = first.steps(case, range(1, stop + 1))
    second = Run(case, method, name, 10)
    second.load(first.save())
    losses += second.steps(case, range(stop + 1, 11))

    assert losses == expected
    states = [torch.load(run.save(), weights_only=True) for run in (whole, second)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    for role, network in whole.models.teachers.items():
        other = second.models.teachers[role].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in network.state_dict().items())


CARRIED = {
    FairARD: {"class_weights", "kappa.sums", "kappa.counts"},
    ABSLD: {"t_adv", "t_nat", "ce_adv.sums", "ce_adv.counts", "ce_nat.sums", "ce_nat.counts"},
    MTARD: {"weights.first_adv", "weights.first_nat", "weights.nat"},
}
CARRIED[BMTARD] = CARRIED[MTARD] | {"temperatures.adv", "temperatures.nat"}
CARRIED[ReleasedCIARD] = CARRIED[BMTARD] | {"drop", "teacher_optimizer.state", "teacher_optimizer.param_groups"}


@pytest.mark.parametrize("method", dict.fromkeys(method for method, _ in ALL))
def test_the_names_that_states_of_unfinished_runs_have(make_case: Any, method: type[Defense]) -> None:
    """Whatever is renamed in the code: a run that was begun before goes on."""
    case = make_case()
    defense = make(method, "paper")
    defense.begin(case.models, 10)
    state = defense.state_dict()
    teacher = state.pop("robust_teacher", None)
    assert (teacher is not None) == (method is ReleasedCIARD)
    assert teacher is None or teacher.keys() == case.robust.state_dict().keys()
    flat = {
        f"{name}.{inner}" if inner else name
        for name, value in state.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert flat == CARRIED.get(method, set())
