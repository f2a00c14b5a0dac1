"""Palette on the picture itself, as the thesis has it: it sees the measured pixels, and a texture where it has one.

All else is as in Palette on the residual (network, loss, noise levels, draws), so that a comparison is about what
Palette is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference.palette import RESIDUAL_SCALE, Palette
from inference.thesis.texture import condition
from inference.thesis.vae import VAE as ThesisVAE
from inference.thesis.vae import kl_divergence
from inference.vae import VAE, Prior
from training.board import Pictures
from training.examples import Batch
from training.loop import Task
from training.settings import TrainingSettings
from training.thesis import KL_WEIGHT
from training.train import palette_task

#: Standard deviation of the grey levels behind the blades on [-1, 1], measured on the training examples.
PICTURE_SCALE = 0.32


class GreyPrior(nn.Module):
    """A prior that knows nothing: grey everywhere, so that the residual is the picture itself."""

    def forward(self, collimated: Tensor, *_: Tensor) -> Prior:
        """Of any pictures, (n, 1, h, w); the other arguments of a prior tell it nothing either."""
        grey = torch.zeros_like(collimated)
        return Prior(mean=grey, log_variance=grey, latent_mean=grey, latent_log_variance=grey)


class PicturePalette(nn.Module):
    """Palette that of its condition uses the measured pixels and the aperture alone, and the texture of a VAE."""

    def __init__(self, channels: Sequence[int], vae: ThesisVAE | None) -> None:
        """vae: the thesis's, trained; or None, and the hidden region of the condition is empty."""
        super().__init__()
        self.palette = Palette(channels)
        # In a list it is no part of the network: neither trained nor averaged.
        self._vae = [vae] if vae is not None else []

    def forward(self, noisy: Tensor, sigma: Tensor, seen: Tensor) -> Tensor:
        """Estimate the clean picture / RESIDUAL_SCALE; arguments as of `inference.palette.Palette`.

        EDM's preconditioning (equation 7) with the picture's own sigma_data, in the unit of the residual.
        """
        unit = PICTURE_SCALE / RESIDUAL_SCALE
        estimate: Tensor = unit * self.palette(noisy / unit, sigma / unit, self._condition(seen[:, :1], seen[:, 1:2]))
        return estimate

    def _condition(self, collimated: Tensor, aperture: Tensor) -> Tensor:
        """The measured pixels, the aperture, and the thesis's condition in its three channels: (n, 5, h, w).

        The measured pixels are the collimated picture's own, as a device has them; the thesis takes the full one's.
        """
        known = collimated * aperture
        filling = known.expand(-1, 3, -1, -1)
        if self._vae:
            # Anew at each step of training, the same at each step of a draw.
            draw = None if self.training else torch.Generator().manual_seed(0)
            noise = torch.randn(filling.shape, generator=draw).to(known.device)
            with torch.no_grad():
                filling = condition(self._vae[0], collimated, known, 1 - aperture, noise).float()
        return torch.cat([known, aperture, filling], dim=1)


def picture_palette_task(vae: ThesisVAE | None, settings: TrainingSettings, channels: Sequence[int]) -> Task:
    """Palette on the picture; `vae` as of `PicturePalette`, without gradients from here on."""
    if vae is not None:
        vae.eval().requires_grad_(False)
    # All that is asked of a prior here is its mean.
    grey = cast(VAE, GreyPrior())
    residual = palette_task(grey, (grey, grey), settings, channels)
    return replace(residual, name="picture-palette", make=lambda: PicturePalette(channels, vae))


def thesis_vae_task(channels: Sequence[int]) -> Task:
    """The thesis's VAE, of these widths: it gives back what it sees outside the aperture (training/thesis.py)."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        masked = _masked(batch)
        picture, mean, log_variance = model(masked)
        error = F.mse_loss(picture.float() * (1 - batch.aperture), masked)
        return error + KL_WEIGHT * kl_divergence(mean.float(), log_variance.float())

    def show(model: nn.Module, batch: Batch) -> Pictures:
        masked = _masked(batch)
        return batch.collimated, model(masked)[0][:, :1] * 2 - 1, masked[:, :1] * 2 - 1

    return Task(
        name="thesis-vae",
        make=lambda: ThesisVAE(channels),
        loss=loss,
        validate=lambda model, batch: float(loss(model, batch)),
        show=show,
    )


def _masked(batch: Batch) -> Tensor:
    """The collimated picture in [0, 1] in three channels, 0 in the aperture."""
    return ((batch.collimated + 1) / 2 * (1 - batch.aperture)).expand(-1, 3, -1, -1)
