"""The training loops of the aperture finder, of the VAE prior and of Palette.

All read top to bottom: draw a batch, compute the loss of the paper, step, average the weights (EMA); every so
often measure on the validation pairs, keep the best, and write a checkpoint from which training resumes exactly.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.errors import ConfigError, FullfieldError
from inference.find_aperture import ApertureFinder
from inference.palette import RESIDUAL_SCALE, Palette, condition
from inference.sampler import SIGMA_MAX, SIGMA_MIN
from inference.vae import VAE
from inference.weights import (
    FINDER_CHANNELS,
    PALETTE_CHANNELS,
    VAE_CHANNELS,
    VAE_LATENT_CHANNELS,
    read_weights,
    sha256_of,
    write_card,
    write_weights,
)
from training.examples import FOLDS, Batch, Examples
from training.metrics import structural_similarity
from training.pairs import Pair

#: Weight of the KL divergence, the thesis's (M_N of PyTorch-VAE).
KL_WEIGHT = 7e-7
#: Weights of the VAE's other losses beside the squared error.
SSIM_WEIGHT, VARIANCE_WEIGHT = 0.03, 0.01
#: Share of the frames on which the aperture finder sees the open field.
OPEN_SHARE = 0.2
#: Palette sees noise levels log-normal around e^0.2, somewhat higher than EDM's (table 1), since it is the
#: shapes across the whole field that are hard, and now and then the highest.
P_MEAN, P_STD, HIGHEST_SHARE = 0.2, 1.5, 0.15
#: Noise levels at which Palette is validated, from fine texture to whole shapes.
VALIDATION_SIGMAS = (0.2, 0.6, 2.0, 6.0, SIGMA_MAX)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The hyperparameters of one run."""

    steps: int = 5000
    batch: int = 8
    learning_rate: float = 3e-4
    warm_up: int = 200
    weight_decay: float = 0.01
    ema: float = 0.998
    seed: int = 1
    validate_every: int = 500
    mixed_precision: str = "bf16"
    #: SHA-256 of the weights that the run began with; empty for random ones.
    start: str = ""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run trains and validates on."""

    training: Sequence[Pair]
    validation: Sequence[Pair]
    #: File of CT line integrals (n, h, w), or None to do without.
    projections: Path | None


def train_aperture(
    material: Material, settings: TrainingSettings, out: Path, channels: Sequence[int] = FINDER_CHANNELS
) -> Path:
    """Train the aperture finder: cross-entropy of measured against hidden, on collimated pictures and open fields.

    channels: features of each level; only a network of the default's can be part of a profile.
    Writes `aperture.safetensors` (the EMA weights with the least validation error), a checkpoint and
    `aperture.json` to `out`. Raises ConfigError for a run or data that cannot be used.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        field_open = torch.rand_like(batch.full[:, :1, :1, :1]) < OPEN_SHARE
        frames = torch.where(field_open, batch.full, batch.collimated)
        measured = torch.where(field_open, torch.ones_like(batch.aperture), batch.aperture)
        return F.binary_cross_entropy_with_logits(model(frames).float(), measured)

    @torch.no_grad()
    def validate(model: nn.Module, batch: Batch) -> float:
        errors = []
        for frames, measured in (
            *_chunks(batch.collimated, batch.aperture),
            *_chunks(batch.full, torch.ones_like(batch.aperture)),
        ):
            errors.append(float(F.binary_cross_entropy_with_logits(model(frames), measured)))
        return sum(errors) / len(errors)

    return _train("aperture", lambda: ApertureFinder(channels), loss, validate, material, settings, out)


def train_vae(
    material: Material,
    settings: TrainingSettings,
    out: Path,
    channels: Sequence[int] = VAE_CHANNELS,
    start: Path | None = None,
    leave_out: int | None = None,
) -> Path:
    """Train the VAE prior: squared error and structure of the estimate in the hidden region, KL of the latents.

    channels: features of each level; only a network of the default's can be part of a profile.
    start: weights to begin with, in place of random ones.
    leave_out: the fold of the scenes that it is not to see; `train_palette` learns from what it says of them.
    Writes `vae.safetensors` (the EMA weights with the least validation error), a checkpoint and `vae.json` to `out`,
    or `vae-without-K` in place of `vae`. Raises ConfigError for a run or data that cannot be used.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        prior = model(batch.collimated, batch.aperture, batch.frames, draw=True)
        hidden = 1 - batch.aperture
        error = (batch.full - prior.mean.float()).square()
        log_variance = prior.log_variance.float()
        surprise = 0.5 * (log_variance + error.detach() * torch.exp(-log_variance))
        known = batch.aperture * batch.full + hidden * prior.mean.float()
        total: Tensor = (
            _mean_over(error, hidden)
            + SSIM_WEIGHT * (1 - structural_similarity(known[:, 0], batch.full[:, 0]).mean())
            + VARIANCE_WEIGHT * _mean_over(surprise, hidden)
            + KL_WEIGHT * prior.kl().float()
        )
        return total

    @torch.no_grad()
    def validate(model: nn.Module, batch: Batch) -> float:
        seen = _chunks(batch.collimated, batch.aperture, batch.frames)
        mean = torch.cat([model(*chunk).mean for chunk in seen])
        return float(((batch.full - mean).square() * (1 - batch.aperture)).mean())

    def make() -> nn.Module:
        return VAE(channels, VAE_LATENT_CHANNELS)

    name = "vae" if leave_out is None else fold_prior_name(leave_out)
    return _train(name, make, loss, validate, material, settings, out, start, leave_out)


def fold_prior_name(fold: int) -> str:
    """Name of the run of a VAE that has not seen this fold."""
    return f"vae-without-{fold}"


def train_palette(
    vae: VAE,
    fold_priors: Sequence[VAE],
    material: Material,
    settings: TrainingSettings,
    out: Path,
    channels: Sequence[int] = PALETTE_CHANNELS,
    start: Path | None = None,
) -> Path:
    """Train Palette on the residual of the VAE: the weighted denoising loss of EDM (equation 8), hidden region only.

    A VAE errs less on pictures it has learnt than on new ones, and a Palette that learns from such errors is too sure
    of itself. So each example's prior comes from a VAE that has not seen its fold (cross-fitting).
    vae: the profile's, for validation; fold_priors: for each fold the VAE that was trained without it.
    channels: features of each level; only a network of the default's can be part of a profile.
    start: weights to begin with, in place of random ones.
    Writes `palette.safetensors` (EMA weights with the least weighted denoising error in validation), a checkpoint
    and `palette.json` to `out`. Raises ConfigError for a run or data that cannot be used.
    """
    if len(fold_priors) != FOLDS:
        raise ConfigError(
            f"Palette learns from {FOLDS} priors, each trained without one fold; {len(fold_priors)} given"
        )
    vae, *fold_priors = (v.eval().requires_grad_(False).to(PartialState().device) for v in (vae, *fold_priors))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        mean = torch.empty_like(batch.full)
        with torch.no_grad():
            for fold, prior in enumerate(fold_priors):
                rows = batch.fold == fold
                if rows.any():
                    mean[rows] = prior(batch.collimated[rows], batch.aperture[rows], batch.frames[rows]).mean.float()
        hidden = 1 - batch.aperture
        clean = (batch.full - mean) / RESIDUAL_SCALE
        sigma = (torch.randn(len(clean), device=clean.device) * P_STD + P_MEAN).exp().clamp(SIGMA_MIN, SIGMA_MAX)
        highest = torch.rand(len(clean), device=clean.device) < HIGHEST_SHARE
        sigma = torch.where(highest, torch.full_like(sigma, SIGMA_MAX), sigma)
        s = sigma[:, None, None, None]
        noisy = hidden * (clean + s * torch.randn_like(clean))
        estimate = model(noisy, sigma, condition(batch.collimated, batch.aperture, batch.frames, mean))
        weight = (s.square() + 1) / s.square()
        return _mean_over(weight * (estimate.float() - clean).square(), hidden)

    @torch.no_grad()
    def validate(model: nn.Module, batch: Batch) -> float:
        draw = torch.Generator(batch.full.device).manual_seed(0)
        errors = []
        for full, c, a, n in _chunks(batch.full, batch.collimated, batch.aperture, batch.frames):
            mean = vae(c, a, n).mean
            clean = (full - mean) / RESIDUAL_SCALE
            for level in VALIDATION_SIGMAS:
                sigma = torch.full((len(full),), level, device=full.device)
                noise = torch.randn(clean.shape, generator=draw, device=full.device)
                estimate = model((1 - a) * (clean + level * noise), sigma, condition(c, a, n, mean))
                errors.append(float(_mean_over((1 + level**-2) * (estimate - clean).square(), 1 - a)))
        return sum(errors) / len(errors)

    return _train("palette", lambda: Palette(channels), loss, validate, material, settings, out, start)


def seal(folder: Path, version: str, data: Sequence[Path]) -> None:
    """Write `model.json` beside the three networks: version, digests, the runs' settings and the data's digests.

    Raises ConfigError when one of them has not been trained.
    """
    require_runs(folder, ("aperture", "vae", "palette"))
    runs = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("aperture", "vae", "palette")}
    training = {
        name: {
            "settings": run["settings"],
            "validation": min(row["validation"] for row in run["history"]),
            "seconds": run["history"][-1]["seconds"],
        }
        for name, run in runs.items()
    }
    tables = {folder.name: hashlib.sha256((folder / "pairs.csv").read_bytes()).hexdigest() for folder in data}
    write_card(folder, version, {**training, "data": tables})


def require_runs(folder: Path, names: Sequence[str]) -> None:
    """Raise ConfigError for the first of the networks that has not been trained in this folder."""
    for name in names:
        if not (folder / f"{name}.json").is_file():
            network, _, fold = name.partition("-without-")
            command = f"fullfield train {network}" + (f" --leave-out {fold}" if fold else "")
            raise ConfigError(f"{folder}: holds no run of {name}; first run `{command} -o {folder}`")


def _train(
    name: str,
    make: Callable[[], nn.Module],
    loss_of: Callable[[nn.Module, Batch], Tensor],
    validate: Callable[[nn.Module, Batch], float],
    material: Material,
    settings: TrainingSettings,
    out: Path,
    start: Path | None = None,
    leave_out: int | None = None,
) -> Path:
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    set_seed(settings.seed)
    examples = Examples(material.training, material.projections, settings.seed, leave_out)
    held_out = examples.held_out(material.validation).to(accelerator.device)
    model = make()
    if start is not None:
        read_weights(model, start)
        settings = replace(settings, start=sha256_of(start))
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, settings))
    trained, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    accelerator.register_for_checkpointing(average)
    history = _resume(accelerator, name, settings, out)
    best = min((row["validation"] for row in history), default=float("inf"))
    last = history[-1] if history else {"step": 0, "loss": 0.0, "seconds": 0.0}
    first, running, started = int(last["step"]), last["loss"], time.monotonic() - last["seconds"]
    with _progress() as progress, ThreadPoolExecutor(1) as ahead:
        task = progress.add_task(f"training {name}", total=settings.steps, completed=first, note="")
        upcoming = ahead.submit(examples.batch, first, settings.batch)
        for step in range(first, settings.steps):
            batch = upcoming.result().to(accelerator.device)
            upcoming = ahead.submit(examples.batch, step + 1, settings.batch)
            loss = loss_of(trained, batch)
            if not torch.isfinite(loss):
                raise FullfieldError(
                    f"training {name} stopped at step {step}: the loss is not finite; the best weights so far are kept"
                )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            average.update_parameters(accelerator.unwrap_model(trained))
            running = 0.98 * running + 0.02 * float(loss.detach())
            progress.update(task, advance=1, note=f"loss {running:.4f}, best {best:.5f}")
            if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
                error = validate(average.module.eval(), held_out)
                row = {
                    "step": step + 1,
                    "loss": running,
                    "validation": error,
                    "seconds": time.monotonic() - started,
                }
                history.append(row)
                progress.console.print(f"{name} {step + 1}: loss {running:.4f}, validation error {error:.5f}")
                if error < best:
                    best = error
                    write_weights(average.module, out / f"{name}.safetensors")
                accelerator.save_state(str(_checkpoint(out, name, step + 1)))
                _write_run(out, name, settings, history)
    if best == float("inf"):
        raise FullfieldError(f"training {name} gave no weights: no validation error was a number")
    return out / f"{name}.safetensors"


def _learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine to zero, as a factor of the learning rate."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    share = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(share, 1.0)))))


def _resume(accelerator: Accelerator, name: str, settings: TrainingSettings, out: Path) -> list[dict[str, float]]:
    """Load the checkpoint that this run's history ends with, if there is one, and give the history."""
    out.mkdir(parents=True, exist_ok=True)
    run = out / f"{name}.json"
    if not run.is_file():
        return []
    earlier = json.loads(run.read_text())
    if earlier["settings"] != asdict(settings):
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


def _write_run(out: Path, name: str, settings: TrainingSettings, history: list[dict[str, float]]) -> None:
    """Make the newest checkpoint the one to resume from, in one move: a crash leaves this one or the one before."""
    part = out / f"{name}.json.part"
    part.write_text(json.dumps({"settings": asdict(settings), "history": history}, indent=1))
    part.replace(out / f"{name}.json")
    for older in history[:-1]:
        shutil.rmtree(_checkpoint(out, name, int(older["step"])), ignore_errors=True)


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(torch.split(tensor, 8) for tensor in tensors), strict=True))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"))
