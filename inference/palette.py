"""Palette: the diffusion model that paints the hidden field, conditioned on picture, aperture and prior.

Palette (Saharia et al. 2022) denoises an image given a condition by concatenation. Here it denoises the residual
between the true field and the VAE's prior, with the preconditioning of EDM (Karras et al. 2022, table 1), so that
a handful of network evaluations suffice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference.network import Decoder, Encoder, evidence_level, lifted, sinusoidal_embedding

#: Standard deviation of the residual (true field minus prior) on [-1, 1]; the residual is divided by it, so that
#: sigma_data of EDM is 1.
RESIDUAL_SCALE = 0.2


class Palette(nn.Module):
    """The denoiser D(x; sigma) of the residual, given collimated picture, aperture and prior."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        width = 4 * channels[0]
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.encoder = Encoder(6, channels, width)
        self.decoder = Decoder(1, channels, width)
        self.finish = Finish()

    def forward(self, noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """Estimate the clean residual (EDM, equation 7, with sigma_data = 1).

        noisy: (n, 1, 256, 256) residual / RESIDUAL_SCALE plus noise in the hidden region, 0 inside the aperture;
        sigma: (n,) standard deviation of that noise; condition: (n, 5, 256, 256), see `condition`.
        """
        s = sigma[:, None, None, None].to(noisy.dtype)
        root = (s.square() + 1).sqrt()
        c_skip, c_out, c_in, c_noise = 1 / root.square(), s / root, 1 / root, sigma.log() / 4
        embedding = self.embed(sinusoidal_embedding(c_noise, self.width))
        features = self.encoder(torch.cat([c_in * noisy, condition], dim=1), embedding)
        coarse = self.decoder(features[-1], features, embedding)
        estimate: Tensor = c_skip * noisy + c_out * (coarse + self.finish(torch.cat([coarse, c_in * noisy], dim=1)))
        return estimate


class Finish(nn.Module):
    """Two small convolutions across the borders of the 4x4 patches that the U-Net thinks in, which show otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 16, 5, padding=2)
        self.second = nn.Conv2d(16, 1, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, 2, h, w) the U-Net's estimate and the noisy residual; gives a correction, (n, 1, h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            correction: Tensor = self.second(F.silu(self.first(x.float())))
        return correction


def condition(collimated: Tensor, aperture: Tensor, frames: Tensor, prior_mean: Tensor) -> Tensor:
    """What Palette sees beside the noisy residual, (n, 5, h, w): the collimated picture, also with its dark end
    lifted, the aperture, how many frames tell of each pixel, and the prior."""
    return torch.cat([collimated, aperture, prior_mean, lifted(collimated), evidence_level(frames)], dim=1)
