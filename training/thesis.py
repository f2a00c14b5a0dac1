"""The thesis's two training loops, with its hyperparameters: first the VAE, then Palette on its textures.

As there, pictures are taken as they are, in a new order each epoch, without augmentation, in single precision, and
the last weights are the ones that count. A run resumes exactly where it stopped, and goes on when it is given more
epochs.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.errors import ConfigError, FullfieldError
from inference.thesis.palette import Palette
from inference.thesis.profile import FILES, write_network, write_thesis_card
from inference.thesis.schedule import training_schedule
from inference.thesis.texture import condition
from inference.thesis.vae import SIDE, VAE, kl_divergence
from training.pairs import Pair, aperture_mask, read_picture

#: Weight of the KL divergence beside the mean squared error.
KL_WEIGHT = 7e-7
#: Noise levels at which Palette is validated.
VALIDATION_GAMMAS = (0.9, 0.5, 0.1, 0.01)


@dataclass(frozen=True, kw_only=True)
class ThesisSettings:
    """The hyperparameters of one run; `epochs` and `steps` say only where it ends."""

    epochs: int
    #: Ends the run before its last epoch; 0 does not.
    steps: int = 0
    #: Pictures a step and process.
    batch: int = 3
    learning_rate: float = 2e-4
    #: Factor of the learning rate after each epoch.
    decay: float = 1.0
    #: How much of the average of the weights stays at each step; 0 keeps the weights themselves.
    ema: float = 0.0
    seed: int = 1
    save_every: int = 500
    mixed_precision: str = "no"


#: The thesis's own. It gives Palette no end; its published test takes the checkpoint of epoch 12,000.
VAE_SETTINGS = ThesisSettings(epochs=500, decay=0.95)
PALETTE_SETTINGS = ThesisSettings(epochs=12_000, ema=0.9999)


@dataclass(frozen=True, kw_only=True)
class Views:
    """full, collimated: (n, 1, 256, 256) grey in [-1, 1]; hidden: the same shape, 1 = hidden, 0 = measured."""

    full: Tensor
    collimated: Tensor
    hidden: Tensor

    def at(self, places: Sequence[int], device: torch.device) -> "Views":
        """Some of them, on a device."""
        return Views(**{name: tensor[list(places)].to(device) for name, tensor in vars(self).items()})


Loss = Callable[[nn.Module, Views], Tensor]
Validate = Callable[[nn.Module, Views], Tensor]


def train_thesis_vae(
    training: Sequence[Pair],
    validation: Sequence[Pair],
    out: Path,
    settings: ThesisSettings = VAE_SETTINGS,
    make: Callable[[], VAE] = VAE,
) -> Path:
    """Train the VAE on collimated pictures outside the aperture: mean squared error and 7e-7 times the KL divergence.

    make: gives the network, which can be smaller than the thesis's.
    Writes `vae.safetensors`, a checkpoint and `vae.json` to `out`. Raises ConfigError for a run that cannot resume.
    """

    def loss(model: nn.Module, views: Views) -> Tensor:
        masked = _masked(views)
        picture, mean, log_variance = model(masked)
        error = F.mse_loss(picture.float() * views.hidden, masked)
        return error + KL_WEIGHT * kl_divergence(mean.float(), log_variance.float())

    def validate(model: nn.Module, views: Views) -> Tensor:
        assert isinstance(model, VAE)
        masked = _masked(views)
        return F.mse_loss(model.decode(model.encode(masked)[0]) * views.hidden, masked)

    return _train("vae", make, loss, validate, training, validation, out, settings)


def train_thesis_palette(
    vae: VAE,
    training: Sequence[Pair],
    validation: Sequence[Pair],
    out: Path,
    settings: ThesisSettings = PALETTE_SETTINGS,
    make: Callable[[], Palette] = Palette,
) -> Path:
    """Train Palette: the mean squared error of the noise in the hidden region, known pixels kept in the noisy picture.

    vae: the trained VAE; make: gives the network, which can be smaller than the thesis's.
    Writes `palette.safetensors` (averaged weights), a checkpoint and `palette.json` to `out`. Raises ConfigError for
    a run that cannot resume.
    """
    vae = vae.eval().requires_grad_(False).to(PartialState().device)
    gammas = training_schedule().gamma

    def error(model: nn.Module, views: Views, gamma: Tensor, noise: Tensor, texture_noise: Tensor) -> Tensor:
        seen = condition(vae, views.collimated, views.full, views.hidden, texture_noise)
        share = gamma[:, None, None, None]
        noisy = torch.where(views.hidden.bool(), share.sqrt() * views.full + (1 - share).sqrt() * noise, views.full)
        return F.mse_loss(views.hidden * model(seen, noisy, gamma).float(), views.hidden * noise)

    def loss(model: nn.Module, views: Views) -> Tensor:
        # Anywhere between two neighbouring levels, as Palette does after WaveGrad (Chen et al. 2021).
        step = torch.randint(1, len(gammas), (len(views.full),))
        gamma = torch.lerp(gammas[step - 1], gammas[step], torch.rand(len(step))).to(views.full.device)
        noise, texture_noise = torch.randn(2, len(step), 3, *views.full.shape[2:], device=views.full.device)
        return error(model, views, gamma, noise, texture_noise)

    def validate(model: nn.Module, views: Views) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        errors = []
        for level in VALIDATION_GAMMAS:
            gamma = torch.full((len(views.full),), level, device=views.full.device)
            shape = (2, len(gamma), 3, *views.full.shape[2:])
            noise, texture_noise = torch.randn(shape, generator=draw).to(gamma.device)
            errors.append(error(model, views, gamma, noise, texture_noise))
        return torch.stack(errors).mean()

    def initialised() -> nn.Module:
        return kaiming(make())

    return _train("palette", initialised, loss, validate, training, validation, out, settings)


def seal_thesis(folder: Path, version: str) -> None:
    """Write `model.json` beside both networks, with their runs. Raises ConfigError when one has not been trained."""
    runs = {}
    for name in FILES:
        run = (folder / name).with_suffix(".json")
        if not run.is_file():
            raise ConfigError(f"{folder}: holds no run of {run.stem}; train it there first")
        content = json.loads(run.read_text())
        runs[run.stem] = {"settings": content["settings"], **content["history"][-1]}
    write_thesis_card(folder, version, runs)


def kaiming(network: nn.Module) -> nn.Module:
    """Random weights as Janspiry's Palette begins with: of variance 2 / fan-in (He et al. 2015), without biases.

    It takes all convolutions and dense layers, also those that guided diffusion would begin at 0.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def _train(
    name: str,
    make: Callable[[], nn.Module],
    loss_of: Loss,
    validate: Validate,
    training: Sequence[Pair],
    validation: Sequence[Pair],
    out: Path,
    settings: ThesisSettings,
) -> Path:
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    set_seed(settings.seed)
    views, held_out = _views(training), _views(validation)
    batches = math.ceil(len(training) / (settings.batch * accelerator.num_processes))
    end = min(settings.steps or settings.epochs * batches, settings.epochs * batches)
    model = make().to(accelerator.device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.decay ** (step // batches))
    trained, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(average, schedule)
    # Each process draws noise of its own; a resumed run gets the state of its noise back below.
    set_seed(settings.seed, device_specific=True)
    history = _resume(accelerator, name, settings, out)
    last = history[-1] if history else {"step": 0, "seconds": 0.0}
    first, started, losses = int(last["step"]), time.monotonic() - last["seconds"], []
    with _progress(accelerator.is_main_process) as progress:
        task = progress.add_task(f"training {name}", total=end, completed=first, note="")
        for step in range(first, end):
            places = _places(len(training), step, batches, settings, accelerator)
            loss = loss_of(trained.train(), views.at(places, accelerator.device))
            if not torch.isfinite(loss):
                raise FullfieldError(
                    f"training {name} stopped at step {step}: the loss is not finite; the last checkpoint is kept"
                )
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            average.update_parameters(accelerator.unwrap_model(trained))
            losses.append(float(loss.detach()))
            progress.update(task, advance=1, note=f"loss {losses[-1]:.4f}")
            if (step + 1) % settings.save_every == 0 or step + 1 == end:
                with torch.no_grad():
                    error = _validate(average.module.eval(), validate, held_out, accelerator.device)
                row = {"step": step + 1, "epoch": (step + 1) / batches, "loss": float(np.mean(losses))}
                history.append(row | {"validation": error, "seconds": time.monotonic() - started})
                losses.clear()
                accelerator.save_state(str(_checkpoint(out, name, step + 1)))
                if accelerator.is_main_process:
                    progress.console.print(f"{name} {step + 1}: loss {row['loss']:.5f}, validation error {error:.5f}")
                    write_network(average.module, out / f"{name}.safetensors")
                    _write_run(out, name, settings, history)
    return out / f"{name}.safetensors"


def _masked(views: Views) -> Tensor:
    """The collimated picture in [0, 1] in three channels, 0 in the aperture: what the VAE reads and gives back."""
    return ((views.collimated + 1) / 2 * views.hidden).expand(-1, 3, -1, -1)


def _validate(model: nn.Module, validate: Validate, views: Views, device: torch.device) -> float:
    """The mean of the validation error over pictures, one at a time, so that memory does not ask how many there are."""
    errors = [float(validate(model, views.at([place], device))) for place in range(len(views.full))]
    return float(np.mean(errors))


def _places(count: int, step: int, batches: int, settings: ThesisSettings, accelerator: Accelerator) -> list[int]:
    """Which pictures this process takes at a step; they follow from seed and step alone."""
    epoch, batch = divmod(step, batches)
    order = np.random.default_rng([settings.seed, epoch]).permutation(count)
    processes = accelerator.num_processes
    # So many that the last batch, too, has the same number for each process.
    order = np.resize(order, math.ceil(count / processes) * processes)
    size = settings.batch * processes
    mine: list[int] = order[batch * size : (batch + 1) * size][accelerator.process_index :: processes].tolist()
    return mine


def _views(pairs: Sequence[Pair]) -> Views:
    full, collimated, hidden = (
        torch.from_numpy(np.stack(pictures).astype(np.float32))[:, None]
        for pictures in (
            [read_picture(pair.full, SIDE) for pair in pairs],
            [read_picture(pair.collimated, SIDE) for pair in pairs],
            [~aperture_mask(pair.aperture, (SIDE, SIDE)) for pair in pairs],
        )
    )
    return Views(full=full, collimated=collimated, hidden=hidden)


def _lasting(settings: ThesisSettings) -> dict[str, object]:
    """The settings that a run must keep to when it goes on: all but where it ends."""
    return {name: value for name, value in asdict(settings).items() if name not in ("epochs", "steps")}


def _resume(accelerator: Accelerator, name: str, settings: ThesisSettings, out: Path) -> list[dict[str, float]]:
    """Load the checkpoint that this run's history ends with, if there is one, and give the history."""
    out.mkdir(parents=True, exist_ok=True)
    run = out / f"{name}.json"
    if not run.is_file():
        return []
    earlier = json.loads(run.read_text())
    if earlier["settings"] != _lasting(settings):
        raise ConfigError(f"{run}: holds a run with other settings; choose another folder or the same settings")
    history: list[dict[str, float]] = earlier["history"]
    checkpoint = _checkpoint(out, name, int(history[-1]["step"]))
    try:
        accelerator.load_state(str(checkpoint))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{checkpoint}: missing or of another network; remove {run} to begin anew") from error
    return history


def _checkpoint(out: Path, name: str, step: int) -> Path:
    return out / f"{name}-checkpoint-{step}"


def _write_run(out: Path, name: str, settings: ThesisSettings, history: list[dict[str, float]]) -> None:
    """Make the newest checkpoint the one to resume from, in one move: a crash leaves this one or the one before."""
    part = out / f"{name}.json.part"
    part.write_text(json.dumps({"settings": _lasting(settings), "history": history}, indent=1))
    part.replace(out / f"{name}.json")
    for older in history[:-1]:
        shutil.rmtree(_checkpoint(out, name, int(older["step"])), ignore_errors=True)


def _progress(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), disable=not shown)
