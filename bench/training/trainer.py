"""The training loop: one run from its first step, or from where it stopped, to its summary."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.ranks import ranks
from bench.compute.seeding import generator
from bench.compute.speedups import Fast
from bench.compute.sync_bn import synchronised
from bench.data.augment import batches, plan_epoch
from bench.data.dataset import Dataset, to_float
from bench.defense import Models
from bench.errors import BenchError
from bench.loggers import Logger
from bench.models.checkpoints import SPEC_KEY, read_state_dict, weights_hash
from bench.recipes import hyperparameters
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, Summary
from bench.system.console import Reporter
from bench.system.signals import Interrupted, StopRequest
from bench.system.text import duration, now
from bench.training.journal import Journal
from bench.training.live import LiveView
from bench.training.loss_means import LossMeans
from bench.training.monitor import CollapseWatch, Monitor, split_for
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
_TIMED_STEPS = 5
"""Steps after which the expected time is said, if it is longer than `_WORTH_SAYING` seconds."""
_WORTH_SAYING = 30


class Trainer:
    """Trains a student by a defense.

    Nothing random is carried along: the order of the images, the augmentation and the attack's noise follow from
    (seed, epoch, step), so a run that is continued is the run that was never interrupted.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        folder: RunFolder,
        device: torch.device,
        reporter: Reporter,
        stop: StopRequest,
        speedups: Collection[str] = (),
        loggers: Mapping[str, Logger] | None = None,
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.reporter, self.stop = reporter, stop
        self.speedups = speedups
        self.ranks = ranks()
        train, looked_at = split_for(dataset, config.selection)
        self.train = train.to(device)
        self.padding, self.flip = dataset.padding, dataset.flip
        self.steps = math.ceil(len(train) / config.batch_size)
        plain = config.model_dump(mode="json")
        self.journal = Journal(folder, dict(loggers or {}), self.steps, reporter.say, plain)
        self.student = student.to(device)
        self._check_last_batch(len(train) - (self.steps - 1) * config.batch_size)
        if self.ranks.sync_bn:
            # A captured graph would replay its messages to the other processes; they are left out of graphs.
            speedups = set(speedups) - {"graphs"}
            for network in (student, *teachers.values()):
                synchronised(network)
        self.models = Models(
            Fast(self.student, config.precision, speedups),
            {role: Fast(network.to(device), config.precision, speedups) for role, network in teachers.items()},
        )
        self.defense = hyperparameters.make(config.method, config.hyperparameters)
        self.monitor = Monitor(looked_at.to(device), config.selection, config.data.eps, config.seed)
        self.means = LossMeans(self.ranks)
        self.ended = False  # whether the defense was told that this epoch is over
        self.checked = (1, 0)  # epoch and step by which all was finite
        self.best: dict[str, Any] = {"score": -1.0, "epoch": 0, "accuracy": None}
        self.best_weights: dict[str, Tensor] | None = None
        self.watch = CollapseWatch(1 / config.data.classes, len(looked_at))
        self.teachers = dict(teachers)
        self.seconds_before = 0.0
        self.kept: tuple[int, int] | None = None  # epoch and step of the state that is saved

    def run(self) -> Summary:
        """Train to the end.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            BenchError: the loss is no longer finite; the last good checkpoint is intact.
        """
        first_epoch, first_step = self._begin()
        self.started, self.saved = time.monotonic(), time.monotonic()
        self.done = 0
        total = self.config.epochs * self.steps
        before = (first_epoch - 1) * self.steps + first_step
        self.left = total - before
        title = f"{self.config.label} on {self.config.data.name}"
        self.view = LiveView(title, self.config.epochs, self.steps, before, self.seconds_left)
        try:
            with self.reporter.live(self.view), self.ranks.in_step():
                for epoch in range(first_epoch, self.config.epochs + 1):
                    self._train_epoch(epoch, first_step if epoch == first_epoch else 0)
                    if not self.ended:
                        self.training_step.end_epoch(epoch)
                        self.ended = True
                    self._end_epoch(epoch)
            return self._finish()
        finally:
            self.journal.end(self.folder.finished)

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
        try:
            with torch.no_grad():
                copy.deepcopy(self.student).train()(to_float(self.train.images[:1]))
        except ValueError as error:
            raise BenchError(
                f"{len(self.train)} training images in batches of {self.config.batch_size} leave a last batch of "
                f"{'one' if n == 1 else f'{n} for {self.ranks.size} processes'}, "
                f"which {self.config.student} cannot be trained on: {error}.\nChoose another --batch-size."
            ) from error

    def _begin(self) -> tuple[int, int]:
        """Bring defense and networks to where the run stands; the epoch and step to go on with."""
        config = self.config
        self.training_step = TrainingStep(
            self.defense, self.models, config.optimizer, config.schedule, config.epochs, fused="fused" in self.speedups
        )
        state = self.ranks.from_first(self.folder.load_resume(self.reporter.say))
        if state is None:
            self.journal.begin(0, 0)
            return 1, 0
        try:
            self.student.load_state_dict(state["student"])
            self.training_step.optimizer.load_state_dict(state["optimizer"])
            self.defense.load_state_dict(state["defense"])
            self.best, self.seconds_before = state["best"], state["seconds"]
            self.means.load_state_dict(state, self.device)
            epoch, step, self.ended = state["epoch"], state["step"], state["ended"]
            self.best_weights, self.checked = state["best_weights"], (epoch, step)
            self.kept = (epoch, step)
            self.watch.load_state_dict(state["watch"])
            self._restore_best()
        except (LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            reason = str(error).split("\n")[0].rstrip(":")
            raise BenchError(
                f"The saved state of {self.folder.id} does not fit this version ({type(error).__name__}: {reason}).\n"
                "Start the run again with --restart."
            ) from error
        self.journal.begin(epoch, step)
        self.reporter.say(f"Continuing {self.folder.id} at epoch {epoch} of {self.config.epochs}, step {step}.")
        return epoch, step

    def _train_epoch(self, epoch: int, first_step: int) -> None:
        plan = plan_epoch(len(self.train), self.config.seed, epoch, self.padding, self.flip)
        todo = batches(self.train, plan, self.config.batch_size, self.padding, start=first_step, part=self.ranks.part)
        shown = 0.0
        for step, (images, labels, _) in enumerate(todo, start=first_step):
            began = time.monotonic()
            with self.stop.within(_STEP_SECONDS, self._step_is_lost(epoch, step)):
                self._step(to_float(images), labels, epoch, step)
            self.done += 1
            if self.done == _TIMED_STEPS:
                self._say_expected_time()
            self.view.step(self._images(step))
            if (step + 1) % _LOG_EVERY == 0:
                self._log_steps(epoch, step + 1)
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                self.folder.write_progress(epoch, self.config.epochs, step + 1, self.steps, self.seconds_left())
                shown = time.monotonic()
            if self.ranks.agree(bool(self.stop) or self._is_time_to_save(began)):
                self._read_sums(epoch, step + 1)
                self._save(epoch, step + 1)
                if self.ranks.agree(bool(self.stop)):
                    raise self._interrupted(epoch, step + 1)

    def _images(self, step: int) -> int:
        """Of the whole batch of a step, of which this process may train on a part."""
        return min(self.config.batch_size, len(self.train) - step * self.config.batch_size)

    def _interrupted(self, epoch: int, step: int) -> Interrupted:
        return self.stop.interrupt(
            f"Stopped {self.folder.id} at epoch {epoch} of {self.config.epochs}, step {step} of {self.steps}; "
            "all is saved.\nRun the same command again to continue."
        )

    def _step_is_lost(self, epoch: int, step: int) -> str:
        """What to say of a step that is broken off: networks may be between two states, so that it is not saved."""
        lost = f"Stopped {self.folder.id} in step {step + 1} of epoch {epoch}, which took too long: that step is lost."
        return f"{lost}\n{self._what_is_kept()} Run the same command again to go on."

    def _is_time_to_save(self, step_began: float) -> bool:
        now = time.monotonic()
        return now - step_began > _STEP_SECONDS or now - self.saved > _SAVE_SECONDS

    def _step(self, x: Tensor, y: Tensor, epoch: int, step: int) -> None:
        noise = generator(self.config.seed, "attack", epoch, step, device=self.device)
        if "channels-last" in self.speedups:
            x = x.contiguous(memory_format=torch.channels_last)
        whole = self._images(step)
        first = self.ranks.part(whole).start
        options: dict[str, Any] = {"generator": noise, "whole": whole, "first": first}
        loss = self.training_step(x, y, epoch=epoch, step=step, steps=self.steps, **options)
        self.means.add({"loss": loss.total, **loss.terms})

    def _read_sums(self, epoch: int, step: int) -> dict[str, float]:
        """The sums over this epoch as numbers; here, and not in every step, a loss that ran away is noticed."""
        read = self.means.read()
        bad = sorted(name for name, value in read.items() if not math.isfinite(value))
        weights = [value.isfinite().all() for value in self.student.state_dict().values()]
        if self.ranks.agree(not torch.stack(weights).all()):
            bad.append("the student's weights")
        if bad:
            raise BenchError(
                f"{self.folder.id}: no longer finite: {', '.join(bad)}; it happened between step {self.checked[1]} of "
                f"epoch {self.checked[0]} and step {step} of epoch {epoch}.\n{self._what_is_kept()} "
                "Train with a smaller weight of that term (--set) or with --precision 32."
            )
        self.checked = (epoch, step)
        return read

    def _what_is_kept(self) -> str:
        state = "No state was" if self.kept is None else "The state of epoch {}, step {} is".format(*self.kept)
        return f"{state} saved in {self.folder.path}."

    def _log_steps(self, epoch: int, step: int) -> None:
        """Log the means since the last logging step of this epoch."""
        means = self.means.since_logged(self._read_sums(epoch, step))
        self._log({"kind": "steps", "epoch": epoch, "step": step, "terms": means})

    def _log(self, line: Mapping[str, Any]) -> None:
        self.journal.write(line)
        self.view.line(line)

    def _end_epoch(self, epoch: int) -> None:
        """Log the epoch, look at the models where the recipe says so, keep the best, save."""
        read = self._read_sums(epoch, self.steps)
        accuracy = self._look(epoch) if self._looks(epoch) else None
        means = self.means.of_epoch(read)
        self.means.forget()
        self.ended = False
        line = {"kind": "epoch", "epoch": epoch, "step": self.steps, "terms": means, "accuracy": accuracy}
        line["lr"] = self.training_step.lr
        line["seconds"] = round(self.seconds_before + time.monotonic() - self.started, 3)
        self._log(line)
        if accuracy is not None:
            score = (accuracy["student"]["clean"] + accuracy["student"]["robust"]) / 2
            if self.config.selection.keep == "last" or score > self.best["score"]:
                self.best = {"score": score, "epoch": epoch, "accuracy": accuracy["student"]}
                self._keep_best()
        if epoch < self.config.epochs:
            self._save(epoch + 1, 0)

    def _look(self, epoch: int) -> dict[str, dict[str, float]]:
        """How the models stand; when a signal asks to stop meanwhile, the run goes on with this look."""
        try:
            accuracy = self.monitor.look(self.models, self._check_stop)
        except Interrupted as error:
            self._save(epoch, self.steps)
            raise self._interrupted(epoch, self.steps) from error
        clean = accuracy["student"]["clean"]
        warning = self.watch.judge(clean, epoch, epoch / self.config.epochs, epoch * self.steps)
        if warning is not None:
            self.reporter.say(f"Warning: {self.folder.id}, epoch {epoch} of {self.config.epochs}: {warning}")
        return accuracy

    def _check_stop(self) -> None:
        if self.ranks.agree(bool(self.stop)):
            raise self.stop.interrupt("Stopped.")

    def _looks(self, epoch: int) -> bool:
        selection, epochs = self.config.selection, self.config.epochs
        horizon = self.config.schedule.horizon or epochs
        dense = selection.dense_from is not None and epoch * horizon >= selection.dense_from * epochs
        return dense or epoch % selection.every == 0 or epoch == epochs

    def _say_expected_time(self) -> None:
        left = self.seconds_left()
        if left is not None and left > _WORTH_SAYING:
            self.reporter.say(f"{self.config.label} on {self.config.data.name}: about {duration(left)} to go.")

    def seconds_left(self) -> float | None:
        """Expected time to the end by this sitting's speed; None before the first step."""
        if not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.left - self.done)

    def _save(self, epoch: int, step: int) -> None:
        self.folder.save_resume(
            {
                "epoch": epoch,
                "step": step,
                "student": self.student.state_dict(),
                "optimizer": self.training_step.optimizer.state_dict(),
                "defense": self.defense.state_dict(),
                "best": self.best,
                "best_weights": self.best_weights,
                "ended": self.ended,
                "watch": self.watch.state_dict(),
                "seconds": self.seconds_before + time.monotonic() - self.started,
                **self.means.state_dict(),
            }
        )
        self.saved, self.kept = time.monotonic(), (epoch, step)

    def _save_weights(self, name: str, network: nn.Module, spec: str) -> None:
        data = self.config.data
        metadata = {
            SPEC_KEY: spec,
            "num_classes": str(data.classes),
            "in_channels": str(data.in_channels),
            "run": self.folder.id,
        }
        if name == "best":
            metadata["epoch"] = str(self.best["epoch"])
        self.folder.save_weights(name, network, metadata)

    def _keep_best(self) -> None:
        """Select the student as it is now."""
        self.best["checkpoint"] = weights_hash(self.student)
        self.best_weights = {name: value.detach().cpu().clone() for name, value in self.student.state_dict().items()}
        self._save_weights("best", self.student, self.config.student)

    def _restore_best(self) -> None:
        """Put the selected weights back where their file is damaged, or of an epoch that this run has yet to repeat."""
        if self.best_weights is None:
            return
        try:
            whole = weights_hash(read_state_dict(self.folder.best)[0]) == self.best["checkpoint"]
        except BenchError:
            whole = False
        if not whole:
            network = copy.deepcopy(self.student)
            network.load_state_dict(self.best_weights)
            self._save_weights("best", network, self.config.student)

    def _keep_taught_teachers(self) -> None:
        """Write the teachers that are no longer those the run began with, as checkpoints of their own."""
        for ref in self.config.teachers:
            network = self.teachers[ref.role]
            if weights_hash(network) != ref.checkpoint:
                self._save_weights(f"{ref.role}-teacher", network, ref.model)

    def _finish(self) -> Summary:
        self._save_weights("last", self.student, self.config.student)
        self._keep_taught_teachers()
        summary = Summary(
            checkpoint=self.best["checkpoint"],
            selected_epoch=self.best["epoch"],
            selected_on=self.config.selection.name,
            accuracy=self.best["accuracy"],
            seconds=self.seconds_before + time.monotonic() - self.started,
            finished=now(),
        )
        self.folder.finish(summary)
        self.reporter.say(f"Trained {self.folder.id} in {duration(summary.seconds)}.")
        return summary
