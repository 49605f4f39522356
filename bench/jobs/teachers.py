"""Teachers: found by role, as a file the user names, as a run that is finished, or trained first.

A teacher the harness trains is a run like any other, of the method and architecture that the recipe names; it is
trained with seed 0 whatever the student's seed, so that all students of a table have the same teachers, or with the
student's own seed where that is asked for, so that what is said of seeds is not said of one teacher.
"""

from __future__ import annotations

from dataclasses import replace

from bench.compute.ranks import ranks
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.evaluation.suites import LOOK, TEACHERS
from bench.jobs.foreign import find as find_foreign
from bench.jobs.foreign import load_foreign
from bench.jobs.make_record import Asked, evaluator_for, measure
from bench.jobs.session import Session
from bench.jobs.train import Own, Request, Teacher, additional, limited, new_network, resolve, train, train_or_wait
from bench.models import references
from bench.models.checkpoints import weights_hash
from bench.recipes import hyperparameters, recipe
from bench.records.record import Record, Subject
from bench.records.subjects import foreign_subject
from bench.registry import attack_class
from bench.runs.config import RunConfig, TeacherRef
from bench.runs.folder import RunFolder
from bench.runs.networks import network_of
from bench.runs.subject import run_subject
from bench.system import locks
from bench.vocabulary import Role


def gather(session: Session, request: Request) -> list[Teacher]:
    """All teachers a run needs, in the order in which its method names them, each evaluated once.

    What the user names is loaded before anything is trained, and the student is tried: a mistake is found at once.
    """
    roles, dataset = hyperparameters.method_class(request.method).roles, limited(session, request)
    for text in request.teachers.values():
        references.check(text, session.home.models)
    files = {role: text for role, text in request.teachers.items() if role in roles}
    given = {role: from_file(session, text, role, dataset) for role, text in files.items()} | dict(request.own.teachers)
    additional(session, request, dataset)
    teachers = []
    for role in roles:
        teacher = given[role] if role in given else trained(session, request, role)
        if ranks().first:
            record = evaluate_once(session, request, teacher)
            warn_if_not_robust(session, teacher, record)
        ranks().wait()
        teachers.append(teacher)
    return teachers


def trained(session: Session, request: Request, role: Role) -> Teacher:
    """The teacher of a role that the harness itself trains for a student's run."""
    dataset = limited(session, request)
    asked = teacher_request(request, role, dataset.name)
    if ranks().from_first(RunFolder.of(session.home, _resolved(session, asked).id).state()) != "trained":
        new_network(_resolved(session, request), dataset)
    return from_run(train_teacher(session, asked), role, request.teacher_seeds)


def teacher_request(request: Request, role: Role, dataset: str, method: str | None = None) -> Request:
    """The run that trains the recipe's teacher of a role.

    Args:
        dataset: its name. method: the student's, where not the request's own.
    """
    student_method = request.method if method is None else method
    chosen = recipe.load(request.recipe)
    rule = chosen.teacher(role, student_method, dataset)
    if hyperparameters.method_class(rule.trained_by).roles:
        raise BenchError(
            f"The recipe {chosen.name!r} trains its {role} teacher by {rule.trained_by}, which needs a teacher "
            "itself.\nName a method without teachers (natural, sat, trades) there."
        )
    own = request.own
    return replace(
        request,
        method=rule.trained_by,
        student=rule.model,
        role=role,
        seed=request.seed if request.teacher_seeds else 0,
        teacher_seeds=False,
        epochs=None,
        batch_size=None,
        teachers={},
        settings=(),
        extra=None,
        extra_share=None,
        own=Own(dataset=own.dataset, digests={name: own.digests[name] for name in own.digests if name == "dataset"}),
    )


def prepare(session: Session, asked: Request, restart: bool = False) -> RunFolder:
    """Train a teacher, or find it trained, and evaluate it once."""
    assert asked.role is not None
    folder = train_teacher(session, asked, restart)
    teacher = from_run(folder, asked.role)
    warn_if_not_robust(session, teacher, evaluate_once(session, asked, teacher))
    return folder


def train_teacher(session: Session, asked: Request, restart: bool = False) -> RunFolder:
    """Train a teacher, or find it trained."""
    config = _resolved(session, asked)
    folder = RunFolder.of(session.home, config.id)
    if ranks().from_first(folder.state()) != "trained" or restart:
        session.reporter.say(
            f"The {asked.role} teacher is trained first: {asked.student} by {asked.method}, {config.recipe} recipe, "
            f"{config.epochs} epochs; if that takes long, its first steps tell how long (`bench run --plan`: before)."
        )
        return train(session, asked, restart=True) if restart else train_or_wait(session, asked)
    return folder


def _resolved(session: Session, request: Request) -> RunConfig:
    """What a request comes to, as far as no teachers are needed for it."""
    dataset = limited(session, request)
    return resolve(request, dataset, (), additional(session, request, dataset))


def run_ref(folder: RunFolder, role: Role, own_seed: bool = False) -> TeacherRef:
    """A finished run as the teacher that students' runs name."""
    config, summary = folder.config(), folder.summary()
    assert summary is not None
    return TeacherRef(
        role=role,
        model=config.student,
        source=folder.id,
        checkpoint=summary.checkpoint,
        given=False,
        name=f"{config.label} {config.student}",
        own_seed=own_seed,
    )


def from_run(folder: RunFolder, role: Role, own_seed: bool = False) -> Teacher:
    """A teacher that the harness trained."""
    return Teacher(run_ref(folder, role, own_seed), network_of(folder))


def from_file(session: Session, text: str, role: Role, dataset: Dataset) -> Teacher:
    """A teacher the user names, as `bench.models.references` has it."""
    found = find_foreign(session, text, dataset)
    network, spec = load_foreign(session, found, dataset)
    ref = TeacherRef(
        role=role, model=spec, source=found.source, checkpoint=weights_hash(network), given=True, name=found.name
    )
    return Teacher(ref, network)


def evaluate_once(session: Session, request: Request, teacher: Teacher) -> Record:
    """The teacher's record under the white-box suite, as in Table 2: read where it exists, else measured now.

    Where another process is measuring it, for another student, its end is awaited.
    """
    chosen, dataset = recipe.load(request.recipe), limited(session, request)
    subject = teacher_subject(session, teacher, dataset)
    asked = Asked(subject, dataset, TEACHERS, chosen.teacher_limit, chosen.protocol)
    found = asked.find(session.home.records)
    if found is not None:
        return found
    evaluator = evaluator_for(session, chosen.protocol)
    record, made = locks.patiently(
        lambda: measure(session, evaluator, asked, teacher.network), session.stop.pause, session.reporter.say
    )
    if made:
        accuracies = ", ".join(f"{name} {result.accuracy:.1%}" for name, result in record.results.items())
        who = f"The {teacher.ref.role} teacher ({teacher.ref.model})"
        session.reporter.say(f"{who} on {record.data.n} test images: {accuracies}.")
    return record


def teacher_subject(session: Session, teacher: Teacher, dataset: Dataset) -> Subject:
    """How records name a teacher."""
    ref = teacher.ref
    if ref.given:
        return foreign_subject("teacher", ref.known_as, ref.model, ref.checkpoint, ref.role)
    return run_subject(RunFolder.of(session.home, ref.source))


def warn_if_not_robust(session: Session, teacher: Teacher, record: Record) -> None:
    """Say so when a "robust" teacher stands PGD no better than chance, or on less than a third of what it knows."""
    if teacher.ref.role != "robust":
        return
    clean, robust = record.results["clean"], record.results[LOOK]
    if robust.interval[0] <= 1 / record.data.classes or robust.accuracy < clean.accuracy / 3:
        session.reporter.say_once(
            f"Warning: the robust teacher ({teacher.ref.model}, {teacher.ref.source}) is not robust: "
            f"{robust.accuracy:.1%} under {attack_class(LOOK).label}, {clean.accuracy:.1%} clean. "
            "What it teaches is worth little."
        )
