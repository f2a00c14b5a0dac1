"""What is trained: the losses and the validation of the aperture finder, of the VAE prior and of Palette.

The loop that they share stands in training.loop, their hyperparameters in training.settings.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import ConfigError
from inference.find_aperture import ApertureFinder
from inference.palette import RESIDUAL_SCALE, Palette, condition
from inference.vae import VAE
from inference.weights import FINDER_CHANNELS, PALETTE_CHANNELS, VAE_CHANNELS, VAE_LATENT_CHANNELS
from training.board import Pictures
from training.examples import FOLDS, Batch
from training.loop import Material, Task, train
from training.metrics import structural_similarity
from training.settings import ApertureSettings, PaletteSettings, TrainingSettings, VAESettings
from training.solver import DRAW_FROM, SIGMA_MAX, SIGMA_MIN, solve

#: Noise levels at which Palette is validated, from fine texture to whole shapes.
VALIDATION_SIGMAS = (0.2, 0.6, 2.0, 6.0, DRAW_FROM)


def train_aperture(
    material: Material,
    settings: TrainingSettings,
    out: Path,
    channels: Sequence[int] = FINDER_CHANNELS,
    start: Path | None = None,
) -> Path:
    """Train the aperture finder; see `aperture_task` and `training.loop.train`."""
    return train(aperture_task(settings, channels), material, settings, out, start)


def train_vae(
    material: Material,
    settings: TrainingSettings,
    out: Path,
    channels: Sequence[int] = VAE_CHANNELS,
    start: Path | None = None,
    leave_out: int | None = None,
) -> Path:
    """Train the VAE prior; see `vae_task` and `training.loop.train`."""
    return train(vae_task(settings, channels, leave_out), material, settings, out, start)


def train_palette(
    vae: VAE,
    fold_priors: Sequence[VAE],
    material: Material,
    settings: TrainingSettings,
    out: Path,
    channels: Sequence[int] = PALETTE_CHANNELS,
    start: Path | None = None,
) -> Path:
    """Train Palette; see `palette_task` and `training.loop.train`."""
    return train(palette_task(vae, fold_priors, settings, channels), material, settings, out, start)


def aperture_task(settings: TrainingSettings, channels: Sequence[int] = FINDER_CHANNELS) -> Task:
    """The aperture finder: cross-entropy of measured against hidden, on collimated pictures and open fields.

    channels: features of each level; only a network of the default's can be part of a profile.
    """
    own = ApertureSettings.model_validate(settings.model_dump())

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        field_open = torch.rand_like(batch.full[:, :1, :1, :1]) < own.open_share
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

    def show(model: nn.Module, batch: Batch) -> Pictures:
        return batch.collimated, model(batch.collimated).sigmoid() * 2 - 1, batch.aperture * 2 - 1

    return Task(name="aperture", make=lambda: ApertureFinder(channels), loss=loss, validate=validate, show=show)


def vae_task(settings: TrainingSettings, channels: Sequence[int] = VAE_CHANNELS, leave_out: int | None = None) -> Task:
    """The VAE prior: squared error and structure of the estimate in the hidden region, KL of the latents.

    channels: features of each level; only a network of the default's can be part of a profile.
    leave_out: the fold of the scenes that it is not to see; Palette learns from what it says of them. The run is then
    called `vae-without-K`.
    """
    own = VAESettings.model_validate(settings.model_dump())

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        prior = model(batch.collimated, batch.aperture, batch.frames, draw=True)
        hidden = 1 - batch.aperture
        error = (batch.full - prior.mean.float()).square()
        log_variance = prior.log_variance.float()
        surprise = 0.5 * (log_variance + error.detach() * torch.exp(-log_variance))
        known = batch.aperture * batch.full + hidden * prior.mean.float()
        total: Tensor = (
            _mean_over(error, hidden)
            + own.ssim_weight * (1 - structural_similarity(known[:, 0], batch.full[:, 0]).mean())
            + own.variance_weight * _mean_over(surprise, hidden)
            + own.kl_weight * prior.kl().float()
        )
        return total

    @torch.no_grad()
    def validate(model: nn.Module, batch: Batch) -> float:
        seen = _chunks(batch.collimated, batch.aperture, batch.frames)
        mean = torch.cat([model(*chunk).mean for chunk in seen])
        return float(((batch.full - mean).square() * (1 - batch.aperture)).mean())

    def make() -> nn.Module:
        return VAE(channels, VAE_LATENT_CHANNELS)

    def show(model: nn.Module, batch: Batch) -> Pictures:
        estimate = model(batch.collimated, batch.aperture, batch.frames).mean
        return batch.collimated, torch.where(batch.aperture > 0, batch.full, estimate), batch.full

    name = "vae" if leave_out is None else fold_prior_name(leave_out)
    return Task(name=name, make=make, loss=loss, validate=validate, show=show, leave_out=leave_out)


def palette_task(
    vae: VAE, fold_priors: Sequence[VAE], settings: TrainingSettings, channels: Sequence[int] = PALETTE_CHANNELS
) -> Task:
    """Palette on the residual of the VAE: the weighted denoising loss of EDM (equation 8), hidden region only.

    A VAE errs less on pictures it has learnt than on new ones, and a Palette that learns from such errors is too sure
    of itself. So an example's prior comes from a VAE that has not seen its fold (cross-fitting); but such a VAE, of
    half of the scenes, errs more than the profile's does on new ones, so a share of the examples have the profile's.
    vae: the profile's; fold_priors: for each fold the VAE that was trained without it.
    channels: features of each level; only a network of the default's can be part of a profile.
    Raises ConfigError when a fold has no prior.
    """
    if len(fold_priors) != FOLDS:
        raise ConfigError(
            f"Palette learns from {FOLDS} priors, each trained without one fold; {len(fold_priors)} given"
        )
    own = PaletteSettings.model_validate(settings.model_dump())
    vae, *fold_priors = (v.eval().requires_grad_(False).to(PartialState().device) for v in (vae, *fold_priors))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        mean = torch.empty_like(batch.full)
        familiar = torch.rand(len(mean), device=mean.device) < own.familiar_share
        of_prior = torch.where(familiar, FOLDS, batch.fold)
        with torch.no_grad():
            for number, prior in enumerate((*fold_priors, vae)):
                rows = of_prior == number
                if rows.any():
                    mean[rows] = prior(batch.collimated[rows], batch.aperture[rows], batch.frames[rows]).mean.float()
        hidden = 1 - batch.aperture
        clean = (batch.full - mean) / RESIDUAL_SCALE
        levels = torch.randn(len(clean), device=clean.device) * own.noise_spread + own.noise_mean
        sigma = levels.exp().clamp(SIGMA_MIN, SIGMA_MAX)
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

    def show(model: nn.Module, batch: Batch) -> Pictures:
        draw = torch.Generator(batch.full.device).manual_seed(0)
        noise = torch.randn(batch.full.shape, generator=draw, device=batch.full.device)
        mean = vae(batch.collimated, batch.aperture, batch.frames).mean
        seen = condition(batch.collimated, batch.aperture, batch.frames, mean)
        residual = solve(lambda x, sigma: model(x, sigma, seen), noise, 1 - batch.aperture)[-1]
        estimate = mean + RESIDUAL_SCALE * residual
        return batch.collimated, torch.where(batch.aperture > 0, batch.full, estimate), batch.full

    return Task(name="palette", make=lambda: Palette(channels), loss=loss, validate=validate, show=show)


def fold_prior_name(fold: int) -> str:
    """Name of the run of a VAE that has not seen this fold."""
    return f"vae-without-{fold}"


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(torch.split(tensor, 8) for tensor in tensors), strict=True))
