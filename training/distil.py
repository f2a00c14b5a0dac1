"""Distillation: Palette learns to draw in the product's two evaluations what it drew in its teacher's six.

One step of the student's has to lead where three of its teacher's do (progressive distillation, Salimans & Ho 2022,
section 3): from noise to the state that the teacher has reached at the student's second noise level, and from there to
the draw. No truth is shown to it, so that it may learn on scenes that its teacher and the priors have learnt from.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference.palette import RESIDUAL_SCALE, Palette, condition
from inference.sampler import LEVELS, Denoiser, sample
from inference.vae import VAE
from inference.weights import PALETTE_CHANNELS
from training.board import Pictures
from training.examples import Batch
from training.loop import Task
from training.settings import DistilSettings, TrainingSettings
from training.solver import solve
from training.teacher import Drawn, TeacherDraws

#: Name of the run, and of the network that a profile draws with.
DISTILLED = "distilled"
#: Octaves of detail, from the finest on, whose error counts besides.
DETAIL_OCTAVES = 3
#: Validation examples that go through the networks together.
_TOGETHER = 8


def distil_task(
    draws: TeacherDraws,
    teacher: Palette,
    vae: VAE,
    settings: TrainingSettings,
    channels: Sequence[int] = PALETTE_CHANNELS,
) -> Task:
    """Palette distilled: squared error of the clean estimates that lead to its teacher's states, hidden region only.

    Fine detail counts besides: it is faint, and would be learnt last. Validation tells how far the student's draws are
    from its teacher's from the same noise, as a share of that square. draws: the teacher's; teacher, vae: it, and
    the profile's prior, as `training.teacher.read_teacher` gives them; channels: features of each level; only a network
    of the default's can be part of a profile.
    """
    own = DistilSettings.model_validate(settings.model_dump())
    start, middle, _ = LEVELS
    share = middle / start
    of_teacher: list[Tensor] = []

    def loss(model: nn.Module, batch: Drawn) -> Tensor:
        hidden = 1 - batch.aperture
        noise = start * batch.noise * hidden
        first = torch.rand(len(hidden), device=hidden.device) < 0.5
        rows = first[:, None, None, None]
        noisy = torch.where(rows, noise, batch.middle)
        clean = torch.where(rows, (batch.middle - share * noise) / (1 - share), batch.drawn)
        sigma = torch.where(first, start, middle)
        estimate = model(noisy, sigma, condition(batch.collimated, batch.aperture, batch.frames, batch.mean))
        error = (estimate.float() - clean) * hidden
        total: Tensor = error.square().sum() / hidden.sum().clamp(min=1)
        return total + own.detail_weight * _share_of_detail(error, clean * hidden)

    @torch.no_grad()
    def validate(model: nn.Module, batch: Batch) -> float:
        if not of_teacher:
            of_teacher.append(_drawn(teacher, vae, batch, lambda *given: solve(*given)[-1]))
        apart = _drawn(model, vae, batch, sample) - of_teacher[0]
        return float(apart.square().sum() / of_teacher[0].square().sum())

    def show(model: nn.Module, batch: Batch) -> Pictures:
        mean = vae(batch.collimated, batch.aperture, batch.frames).mean
        estimate = mean + RESIDUAL_SCALE * _drawn(model, vae, batch, sample)
        return batch.collimated, torch.where(batch.aperture > 0, batch.full, estimate), batch.full

    return Task(name=DISTILLED, make=lambda: Palette(channels), loss=loss, validate=validate, show=show, examples=draws)


def _share_of_detail(error: Tensor, clean: Tensor) -> Tensor:
    """The error's square as a share of the clean residual's, in each of the finest octaves, summed over them."""
    total = error.new_zeros(())
    for _ in range(DETAIL_OCTAVES):
        coarse = [F.avg_pool2d(picture, 2) for picture in (error, clean)]
        wrong, right = (
            (picture - F.interpolate(below, scale_factor=2.0)).square().mean()
            for picture, below in zip((error, clean), coarse, strict=True)
        )
        total = total + wrong / right.clamp(min=1e-6)
        error, clean = coarse
    return total


def _drawn(model: nn.Module, vae: VAE, batch: Batch, by: Callable[[Denoiser, Tensor, Tensor], Tensor]) -> Tensor:
    """The residuals of validation examples, drawn from the same noise whenever, (n, 1, 256, 256)."""
    device = batch.full.device
    noise = torch.randn(batch.full.shape, generator=torch.Generator().manual_seed(0)).to(device)
    parts = []
    for rows in torch.split(torch.arange(len(noise), device=device), _TOGETHER):
        collimated, aperture, frames = batch.collimated[rows], batch.aperture[rows], batch.frames[rows]
        seen = condition(collimated, aperture, frames, vae(collimated, aperture, frames).mean)

        def denoiser(noisy: Tensor, sigma: Tensor, seen: Tensor = seen) -> Tensor:
            estimate: Tensor = model(noisy, sigma, seen)
            return estimate

        parts.append(by(denoiser, noise[rows], 1 - aperture))
    return torch.cat(parts)
