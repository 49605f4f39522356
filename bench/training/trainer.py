"""The training loop: one run from its first step, or from where it stopped, to its summary."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.compute.ranks import ranks
from bench.compute.seeding import derive, generator, reseed, seeded
from bench.compute.speedups import Fast, bare
from bench.compute.sync_bn import synchronised
from bench.data.augment import Extra, Policy, batches, plan_epoch
from bench.data.dataset import Dataset, Split, to_float
from bench.defense import Models
from bench.errors import BenchError
from bench.loggers import Logger
from bench.recipes import hyperparameters
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, Summary
from bench.system.console import Reporter
from bench.system.signals import Interrupted, StopRequest
from bench.system.text import duration, now
from bench.training.journal import Journal
from bench.training.kept_weights import KeptWeights
from bench.training.live import LiveView
from bench.training.loss_means import LossMeans
from bench.training.monitor import CollapseWatch, Monitor, split_for
from bench.training.run_state import RunState
from bench.training.step import TrainingStep

_LOG_EVERY = 50
"""Steps between two looks at the loss terms; each look waits for the device."""
_SAVE_SECONDS = 300
"""Longest time between two checkpoints within a long epoch."""
_STEP_SECONDS = 5
"""How long after a signal a step may go on: batch systems and containers kill after ten seconds or more.

After a step that took longer the state is saved at once, so that a signal costs no more than such a step.
"""
_PROGRESS_SECONDS = 2
_LINE_SECONDS = 600
"""Longest time between two lines of the log within a long epoch."""


class Surroundings(Protocol):
    """What a run needs of the command that trains it (`bench.jobs.session.Session`)."""

    device: torch.device
    reporter: Reporter
    stop: StopRequest
    speedups: frozenset[str]


class Trainer:
    """Trains a student by a defense.

    Nothing random is carried along: the order of the images, the augmentation, the attack's noise and what networks
    draw (dropout) follow from (seed, epoch, step), so a run that is continued is the run that was never interrupted.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        config: RunConfig,
        dataset: Dataset,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        folder: RunFolder,
        loggers: Mapping[str, Logger] | None = None,
        extra: Split | None = None,
        companions: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            extra: the additional images that its configuration names.
            companions: by name, the networks of the method's own that learn beside the student.
        """
        self.device, self.reporter, self.stop = surroundings.device, surroundings.reporter, surroundings.stop
        self.config, self.dataset, self.folder = config, dataset, folder
        self.ranks = ranks()
        train, looked_at = split_for(dataset, config.selection)
        self.train = train.to(self.device)
        self.policy = Policy.of(config.augmentation, dataset)
        share = config.data.extra
        self.extra = None if extra is None or share is None else Extra(extra, share.share)
        self.steps = math.ceil(len(train) / config.batch_size)
        plain = config.model_dump(mode="json")
        self.journal = Journal(folder, dict(loggers or {}), self.steps, self.reporter.say, plain)
        self.student, self.teachers = student.to(self.device), dict(teachers)
        self.companions = {name: network.to(self.device) for name, network in (companions or {}).items()}
        self._check_last_batch(len(train) - (self.steps - 1) * config.batch_size)
        self.speedups = surroundings.speedups
        if self.ranks.sync_bn:
            # A captured graph would replay its messages to the other processes; they are left out of graphs.
            self.speedups -= {"graphs"}
            for network in (student, *teachers.values(), *self.companions.values()):
                synchronised(network)
        beside = ({name: self._fast(each) for name, each in some.items()} for some in (teachers, self.companions))
        models = Models(self._fast(student), *beside)
        self.training_step = TrainingStep(
            hyperparameters.make(config.method, config.hyperparameters),
            models,
            config.optimizer,
            config.schedule,
            config.epochs,
            fused="fused" in self.speedups,
            awp=config.awp,
            average=config.average,
        )
        self.monitor = Monitor(looked_at.to(self.device), config.selection, config.data.threat, config.seed)
        watch, means = CollapseWatch(1 / config.data.classes, len(looked_at)), LossMeans(self.ranks)
        step = self.training_step
        self.companions |= {name: bare(network) for name, network in step.models.companions.items()}
        self.looks = frozenset(config.selection.looks(config.epochs, config.schedule.horizon))
        self.state = RunState(self.student, step.optimizer, step.defense, watch, means, step.average, self.companions)
        self.weights = KeptWeights(folder, config, self.state)
        self.checked = (1, 0)  # epoch and step by which all was finite
        self.kept: tuple[int, int] | None = None  # epoch and step of the state that is saved

    def run(self) -> Summary:
        """Train to the end.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            BenchError: the loss is no longer finite; the last good checkpoint is intact.
        """
        self._begin()
        state = self.state
        try:
            with self.reporter.live(self.view), self.ranks.in_step(), seeded(self.device, self.config.seed, "networks"):
                while state.epoch <= self.config.epochs:
                    self._train_epoch()
                    if not state.ended:
                        self.training_step.end_epoch(state.epoch)
                        state.ended = True
                    self._end_epoch()
            return self._finish()
        finally:
            self.journal.end(self.folder.finished)

    def _fast(self, network: nn.Module) -> Fast:
        return Fast(network.to(self.device), self.config.precision, self.speedups)

    def _check_last_batch(self, n: int) -> None:
        """Notice before the training that there is nothing for a process to do in the last batch, of n images.

        Batch normalisation makes nothing of a single image.
        """
        if n < self.ranks.size:
            raise BenchError(
                f"The last batch of an epoch has {n} images for {self.ranks.size} processes.\n"
                "Choose another --batch-size, or fewer processes."
            )
        if n >= 2 * self.ranks.size:
            return
        for name, network in {self.config.student: self.student, **self.companions}.items():
            try:
                with torch.no_grad():
                    copy.deepcopy(network).train()(to_float(self.train.images[:1]))
            except ValueError as error:
                raise BenchError(
                    f"{len(self.train)} training images in batches of {self.config.batch_size} leave a last batch of "
                    f"{'one' if n == 1 else f'{n} for {self.ranks.size} processes'}, "
                    f"which {name} cannot be trained on: {error}.\nChoose another --batch-size."
                ) from error

    def _begin(self) -> None:
        """Bring defense and networks to where the run stands."""
        state, config = self.state, self.config
        saved = self.ranks.from_first(self.folder.load_resume(self.reporter.say))
        if saved is not None:
            try:
                state.load(saved, self.device)
                self.weights.restore_selected()
            except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
                reason = str(error).split("\n")[0].rstrip(":")
                raise BenchError(
                    f"The saved state of {self.folder.id} does not fit this version ({type(error).__name__}: {reason})."
                    "\nStart the run again with --restart."
                ) from error
            self.checked = self.kept = state.place
        self.journal.begin(*state.place)
        if saved is not None:
            where = f"epoch {state.epoch} of {config.epochs}, step {state.step}"
            self.reporter.say(f"Continuing {self.folder.id} at {where}.")
        title = f"{config.label} on {config.data.name}"
        title = title if config.role is None else f"The {config.role} teacher, {title}"
        done = (state.epoch - 1) * self.steps + state.step
        self.view = LiveView(title, config.epochs, self.steps, done, self._wait)
        self.saved = self.spoken = time.monotonic()

    def _train_epoch(self) -> None:
        """The steps of this epoch that are not done yet."""
        state, config = self.state, self.config
        shown = 0.0
        # What networks draw, dropout say: each process has masks of its own, as it has images of its own.
        drawn = derive(config.seed, "networks", state.epoch, self.ranks.rank)
        self.view.begin_epoch()
        for images, labels, _ in self._batches(state.epoch, state.step):
            began = time.monotonic()
            reseed(self.device, drawn + state.step)
            with self.stop.within(_STEP_SECONDS, self._step_is_lost()):
                self._step(self._laid_out(images), labels)
            self.view.step(self._images(state.step))
            state.step += 1
            self._speak_amid_an_epoch()
            if state.step % _LOG_EVERY == 0:
                self._log_steps()
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                self.folder.write_progress(state.epoch, config.epochs, state.step, self.steps, self.view.seconds_left)
                shown = time.monotonic()
            if self.ranks.agree(bool(self.stop) or self._is_time_to_save(began)):
                self._read_sums()
                self._save()
                if self.ranks.agree(bool(self.stop)):
                    raise self._interrupted()

    def _batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The augmented batches of an epoch from a step on: of each the part of this process, in uint8."""
        plan = plan_epoch(len(self.train), self.config.seed, epoch, self.policy)
        return batches(self.train, plan, self.config.batch_size, start, self.ranks.part, self.extra)

    def _laid_out(self, images: Tensor) -> Tensor:
        """uint8 images as the networks take them."""
        x = to_float(images)
        return x.contiguous(memory_format=torch.channels_last) if "channels-last" in self.speedups else x

    def _step(self, x: Tensor, y: Tensor) -> None:
        epoch, step = self.state.place
        noise = generator(self.config.seed, "attack", epoch, step, device=self.device)
        whole = self._images(step)
        first = self.ranks.part(whole).start
        options: dict[str, Any] = {"generator": noise, "whole": whole, "first": first}
        loss = self.training_step(x, y, epoch=epoch, step=step, steps=self.steps, **options)
        self.state.means.add({"loss": loss.total, **loss.terms})

    def _images(self, step: int) -> int:
        """Of the whole batch of a step, of which this process may train on a part."""
        return min(self.config.batch_size, len(self.train) - step * self.config.batch_size)

    def _end_epoch(self) -> None:
        """Log the epoch, look at the models where the recipe says so, keep the best, save."""
        state, config = self.state, self.config
        terms = state.means.of_epoch(self._read_sums())
        self.view.end_epoch()
        accuracy = self._look() if state.epoch in self.looks else None
        line = {"kind": "epoch", "epoch": state.epoch, "step": self.steps, "terms": terms, "accuracy": accuracy}
        self._log(line | {"lr": self.training_step.lr, "seconds": round(state.seconds, 3)})
        self._speak(self.view.epoch_line(line))
        if accuracy is not None and state.select(accuracy["student"], config.selection):
            self.weights.save_selected()
        state.next_epoch()
        if state.epoch <= config.epochs:
            self._save()

    def _look(self) -> dict[str, dict[str, float]]:
        """How the models stand; when a signal asks to stop meanwhile, the run goes on with this look."""
        epoch, epochs = self.state.epoch, self.config.epochs
        try:
            models = self._looked_at()
            with seeded(self.device, self.config.seed, "look", epoch):
                accuracy = self.monitor.look(models, self._check_stop)
        except Interrupted as error:
            self._save()
            raise self._interrupted() from error
        clean = accuracy["student"]["clean"]
        warning = self.state.watch.judge(clean, epoch, epoch / epochs, epoch * self.steps)
        if warning is not None:
            self.reporter.say(f"Warning: {self.folder.id}, epoch {epoch} of {epochs}: {warning}")
        return accuracy

    def _looked_at(self) -> Models:
        """The models, the student's average in its place where there is one."""
        models, average, epoch = self.training_step.models, self.state.average, self.state.epoch
        if average is None or not average.begun:
            return models
        if average.needs_statistics:
            with seeded(self.device, self.config.seed, "statistics", epoch):
                average.estimate(self._unless_stopped(epoch))
        return replace(models, student=average.network)

    def _unless_stopped(self, epoch: int) -> Iterator[Tensor]:
        """The augmented training images of an epoch, batch by batch, until a signal asks to stop."""
        for images, *_ in self._batches(epoch):
            self._check_stop()
            yield self._laid_out(images)

    def _check_stop(self) -> None:
        if self.ranks.agree(bool(self.stop)):
            raise self.stop.interrupt("Stopped.")

    def _interrupted(self) -> Interrupted:
        epoch, step = self.state.place
        return self.stop.interrupt(
            f"Stopped {self.folder.id} at epoch {epoch} of {self.config.epochs}, step {step} of {self.steps}; "
            "all is saved.\nRun the same command again to continue."
        )

    def _step_is_lost(self) -> str:
        """What to say of a step that is broken off: networks may be between two states, so that it is not saved."""
        epoch, step = self.state.place
        lost = f"Stopped {self.folder.id} in step {step + 1} of epoch {epoch}, which took too long: that step is lost."
        return f"{lost}\n{self._what_is_kept()} Run the same command again to go on."

    def _what_is_kept(self) -> str:
        state = "No state was" if self.kept is None else "The state of epoch {}, step {} is".format(*self.kept)
        return f"{state} saved in {self.folder.path}."

    def _read_sums(self) -> dict[str, float]:
        """The sums over this epoch as numbers; here, and not in every step, a loss that ran away is noticed."""
        epoch, step = self.state.place
        read = self.state.means.read()
        bad = sorted(name for name, value in read.items() if not math.isfinite(value))
        for name, network in {"student": self.student, **self.companions}.items():
            weights = [value.isfinite().all() for value in network.state_dict().values()]
            if self.ranks.agree(not torch.stack(weights).all()):
                bad.append(f"the {name}'s weights")
        if bad:
            raise BenchError(
                f"{self.folder.id}: no longer finite: {', '.join(bad)}; it happened between step {self.checked[1]} of "
                f"epoch {self.checked[0]} and step {step} of epoch {epoch}.\n{self._what_is_kept()} "
                "Train with a smaller weight of that term (--set) or with --precision 32."
            )
        self.checked = (epoch, step)
        return read

    def _log_steps(self) -> None:
        """Log the means since the last logging step of this epoch."""
        epoch, step = self.state.place
        means = self.state.means.since_logged(self._read_sums())
        self._log({"kind": "steps", "epoch": epoch, "step": step, "terms": means})

    def _log(self, line: Mapping[str, Any]) -> None:
        self.journal.write(line)
        self.view.line(line)

    def _speak(self, line: str) -> None:
        self.reporter.log(line)
        self.spoken = time.monotonic()

    def _speak_amid_an_epoch(self) -> None:
        """Say once how long all will take, and now and then where a long epoch is."""
        expected = self.view.expected()
        if expected is not None:
            self.reporter.say(expected)
        if time.monotonic() - self.spoken > _LINE_SECONDS:
            self._speak(self.view.step_line())

    def _wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _is_time_to_save(self, step_began: float) -> bool:
        now = time.monotonic()
        return now - step_began > _STEP_SECONDS or now - self.saved > _SAVE_SECONDS

    def _save(self) -> None:
        self.folder.save_resume(self.state.to_dict())
        self.saved, self.kept = time.monotonic(), self.state.place

    def _finish(self) -> Summary:
        self.weights.save_last(self.teachers)
        best, seconds = self.state.best, self.state.seconds
        summary = Summary(
            checkpoint=best["checkpoint"],
            selected_epoch=best["epoch"],
            selected_on=self.config.selection.name,
            accuracy=best["accuracy"],
            looks=self.config.looks,
            seconds=seconds,
            finished=now(),
        )
        self.folder.finish(summary)
        self.reporter.say(f"Trained {self.folder.id} in {duration(seconds)}.")
        return summary
