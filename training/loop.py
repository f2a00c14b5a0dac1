"""The training loop: draw a batch, compute the loss, step, average the weights (EMA).

Every so often it measures on the validation pairs, keeps the best, and writes a checkpoint from which training resumes
exactly. Under `accelerate launch` every process takes batches of its own; the first one alone validates and writes.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.errors import ConfigError, FullfieldError
from inference.precision import is_faster_in_half
from inference.weights import read_weights, sha256_of, write_weights
from training.board import Board, Pictures
from training.drawn import DrawnExamples, digest_of_drawn
from training.examples import Batch, Examples
from training.pairs import Pair
from training.provenance import provenance
from training.settings import Precision, TrainingSettings

#: Validation examples whose pictures are shown beside each other at each validation.
SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run trains and validates on."""

    training: Sequence[Pair]
    validation: Sequence[Pair]
    #: File of CT line integrals (n, h, w), or None to do without.
    projections: Path | None
    #: Folder of examples drawn ahead, or None to draw them on the way.
    drawn: Path | None = None


class Portable(Protocol):
    """A batch that can be taken to the device that learns from it."""

    def to(self, device: torch.device) -> Any:
        """The batch as the task's loss takes it."""


class Source(Protocol):
    """What batches come from."""

    def batch(self, step: int, size: int) -> Portable:
        """The batch of training step `step`, the same whenever it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is particular to one network's training."""

    #: Of the run and of its files.
    name: str
    #: Gives the network with random weights.
    make: Callable[[], nn.Module]
    #: Loss of a batch, a scalar that is minimised.
    loss: Callable[[nn.Module, Any], Tensor]
    #: Error on the validation examples; the weights with the least are kept.
    validate: Callable[[nn.Module, Batch], float]
    #: Pictures to look at, (n, 1, h, w) in [-1, 1] each: what the network sees, what it makes of it, the truth.
    show: Callable[[nn.Module, Batch], Pictures]
    #: The fold of the scenes that training is not to see.
    leave_out: int | None = None
    #: What it learns from in place of the material's examples.
    examples: Source | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What `NAME.json` says: how a run is trained, how far it came, and from what."""

    #: All settings, the digest of the weights it began with (empty: random ones), and the number of processes; a run
    #: goes on only with the same.
    settings: dict[str, Any]
    #: A row of step, loss, validation and seconds for each validation.
    history: list[dict[str, float]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


class Learner:
    """A network under training, with its average, its optimizer, and the examples that it learns from."""

    def __init__(self, task: Task, material: Material, settings: TrainingSettings, start: Path | None) -> None:
        """start: weights to begin with, in place of random ones. Raises ConfigError for data that cannot be used."""
        self.task, self.settings = task, settings
        # The schedule counts steps, not the pictures of all processes.
        self.accelerator = Accelerator(
            mixed_precision=_number_format(settings.mixed_precision), step_scheduler_with_optimizer=False
        )
        self.process, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.examples = Examples(material.training, material.projections, settings, task.leave_out)
        self._source: Source = task.examples or self.examples
        if task.examples is None and material.drawn is not None:
            self._source = DrawnExamples(material.drawn, settings, task.leave_out)
        set_seed(settings.seed)
        self.model = task.make()
        if start is not None:
            read_weights(self.model, start)
        self.model = self.model.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))  # type: ignore[no-untyped-call]
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, settings))
        self.trained, self.optimizer, self.schedule = self.accelerator.prepare(self.model, optimizer, schedule)
        self.accelerator.register_for_checkpointing(self.average)
        # Each process draws noise of its own; a resumed run gets the state of its noise back from the checkpoint.
        set_seed(settings.seed, device_specific=True)

    def draw(self, step: int) -> Portable:
        """The batch that this process learns from at a step; no other process or step has it."""
        return self._source.batch(step * self.processes + self.process, self.settings.batch)

    def learn(self, batch: Portable, step: int) -> float:
        """Take one step; the batch's loss. Raises FullfieldError when it is not finite, before any weight changes."""
        with _told_when_out_of_memory(self.task.name, self.settings.batch):
            loss = self.task.loss(self.trained, batch.to(self.accelerator.device))
            if not torch.isfinite(loss):
                raise FullfieldError(
                    f"training {self.task.name} stopped at step {step}: the loss is not finite; "
                    "the best weights so far are kept"
                )
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.model)
        return float(loss.detach())


def train(task: Task, material: Material, settings: TrainingSettings, out: Path, start: Path | None = None) -> Path:
    """Train to the last step, or go on from where an earlier run in the same folder stopped.

    Writes `NAME.safetensors` (the EMA weights with the least validation error), `NAME.json` (settings, history and
    provenance), a checkpoint, and scalars and pictures for TensorBoard to `out`. Raises ConfigError for a run or data
    that cannot be used, FullfieldError when the loss is no number any more or memory does not suffice.
    """
    learner = Learner(task, material, settings, start)
    accelerator, name, main = learner.accelerator, task.name, learner.accelerator.is_main_process
    run = earlier_run(name, settings, start, learner.processes, out)
    origin = provenance(material.training, material.projections)
    if material.drawn is not None:
        origin["data"]["examples"] = digest_of_drawn(material.drawn)
    _resume(accelerator, name, run, origin, out)
    held_out = learner.examples.held_out(material.validation).to(accelerator.device)
    shown = Batch(**{kind: tensor[:SHOWN] for kind, tensor in vars(held_out).items()})
    history = list(run.history)
    best = min((row["validation"] for row in history), default=math.inf)
    last = history[-1] if history else {"step": 0, "loss": 0.0, "seconds": 0.0}
    first, running, started = int(last["step"]), last["loss"], time.monotonic() - last["seconds"]
    with _progress(main) as progress, ThreadPoolExecutor(1) as ahead, Board(out, name, first, main) as board:
        bar = progress.add_task(f"training {name}", total=settings.steps, completed=first, note="")
        upcoming = ahead.submit(learner.draw, first)
        for step in range(first, settings.steps):
            batch = upcoming.result()
            upcoming = ahead.submit(learner.draw, step + 1)
            rate = learner.schedule.get_last_lr()[0]
            running = 0.98 * running + 0.02 * learner.learn(batch, step)
            progress.update(bar, advance=1, note=f"loss {running:.4f}, best {best:.5f}")
            if (step + 1) % settings.validate_every and step + 1 < settings.steps:
                continue
            row = {"step": step + 1, "loss": running, "validation": math.nan}
            if main:
                network = learner.average.module.eval()
                row["validation"] = error = task.validate(network, held_out)
                progress.console.print(f"{name} {step + 1}: loss {running:.4f}, validation error {error:.5f}")
                if error < best:
                    best = error
                    write_weights(network, out / f"{name}.safetensors")
                    progress.update(bar, note=f"loss {running:.4f}, best {best:.5f}")
                board.pictures(step + 1, task.show, network, shown)
            history.append(row | {"seconds": time.monotonic() - started})
            board.scalars(history[-1] | {"learning_rate": rate})
            accelerator.save_state(str(checkpoint(out, name, step + 1)))
            # Only when all processes have written their part is it one to resume from.
            accelerator.wait_for_everyone()
            if main:
                _write_run(out, name, Run(settings=run.settings, history=history, provenance=origin))
    if main and best == math.inf:
        raise FullfieldError(f"training {name} gave no weights: no validation error was a number")
    return out / f"{name}.safetensors"


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine to zero, as a factor of the learning rate."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    share = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(share, 1.0)))))


def _number_format(asked_for: Precision) -> str:
    """What accelerate is to compute in: `auto` is bf16 where this machine is faster in it, else single precision."""
    if asked_for != "auto":
        return asked_for
    return "bf16" if is_faster_in_half(PartialState().device.type) else "no"


def earlier_run(name: str, settings: TrainingSettings, start: Path | None, processes: int, out: Path) -> Run:
    """The run of this name in `out`, or a new one. Raises ConfigError for a run with other settings."""
    kept = settings.model_dump() | {"start": sha256_of(start) if start is not None else "", "processes": processes}
    file = out / f"{name}.json"
    if not file.is_file():
        return Run(settings=kept)
    try:
        earlier = Run(**json.loads(file.read_text()))
        steps = [int(row["step"]) for row in earlier.history]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: damaged; remove it to begin anew") from error
    # A run of an earlier version lacks the settings that have come since, and was trained as their defaults say.
    defaults = type(settings)().model_dump() | {"start": "", "processes": 1}
    if not steps or defaults | earlier.settings != kept:
        raise ConfigError(f"{file}: holds a run with other settings; choose another folder or the same settings")
    return replace(earlier, settings=kept)


def checkpoint(out: Path, name: str, step: int) -> Path:
    """The folder of a run's checkpoint."""
    return out / f"{name}-checkpoint-{step}"


def _resume(accelerator: Accelerator, name: str, run: Run, origin: dict[str, Any], out: Path) -> None:
    """Load the checkpoint that the run's history ends with, if it has one."""
    out.mkdir(parents=True, exist_ok=True)
    if not run.history:
        return
    if run.provenance.get("data", origin["data"]) != origin["data"]:
        raise ConfigError(f"{out / name}.json: holds a run on other data; choose another folder or the same data")
    folder = checkpoint(out, name, int(run.history[-1]["step"]))
    try:
        accelerator.load_state(str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{folder}: missing or of another network; remove {out / name}.json to begin anew") from error


def _write_run(out: Path, name: str, run: Run) -> None:
    """Make the newest checkpoint the one to resume from, in one move: a crash leaves this one or the one before."""
    part = out / f"{name}.json.part"
    part.write_text(json.dumps(asdict(run), indent=1))
    part.replace(out / f"{name}.json")
    for older in run.history[:-1]:
        shutil.rmtree(checkpoint(out, name, int(older["step"])), ignore_errors=True)


@contextmanager
def _told_when_out_of_memory(name: str, batch: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FullfieldError(
            f"training {name} stopped: the GPU's memory does not suffice for {batch} pictures a step; "
            "choose fewer with --batch"
        ) from error


def _progress(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), disable=not shown)
