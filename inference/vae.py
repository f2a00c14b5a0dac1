"""The VAE prior: reads the residual signal behind the blades and estimates the whole field.

As in the thesis a variational encoder (Kingma & Welling 2014) reads the collimated picture; other than there it
is convolutional with skip connections, knows the aperture, and its decoder is trained towards the full field, so
that its output is an estimate of the picture with a variance per pixel rather than a texture to condition on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inference.network import DETAIL_SIDES, Decoder, Encoder, detail, evidence_level, lifted


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The VAE's estimate of the full field, with the distribution of its latents.

    mean: (n, 1, h, w) grey level, about [-1, 1].
    log_variance: (n, 1, h, w) natural logarithm of the variance of the true grey level around `mean`.
    latent_mean, latent_log_variance: (n, c, h / 32, w / 32) of the approximate posterior.
    features: the encoder's feature maps, finest first; by them a picture is known (inference/familiarity.py).
    """

    mean: Tensor
    log_variance: Tensor
    latent_mean: Tensor
    latent_log_variance: Tensor
    features: Sequence[Tensor] = ()

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence of the latents from N(0, 1), mean over latents, a scalar (appendix B)."""
        mean, log_variance = self.latent_mean, self.latent_log_variance
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


class VAE(nn.Module):
    """Conditional VAE from a collimated picture and its aperture to the full field."""

    def __init__(self, channels: Sequence[int], latent_channels: int) -> None:
        super().__init__()
        self.encoder = Encoder(4 + len(DETAIL_SIDES) - 1, channels)
        self.to_latent = nn.Conv2d(channels[-1], 2 * latent_channels, 1)
        self.from_latent = nn.Conv2d(latent_channels, channels[-1], 1)
        self.decoder = Decoder(2, channels)

    def forward(self, collimated: Tensor, aperture: Tensor, frames: Tensor, *, draw: bool = False) -> Prior:
        """Estimate the full field.

        collimated: (n, 1, 256, 256) grey in [-1, 1]; aperture: the same shape, 1 = measured, 0 = hidden; frames: the
        same shape, how many frames the collimated picture was averaged over at each pixel, in effect (1 to 64);
        draw: sample the latents (in training), else take their mean.
        """
        levels = [collimated, aperture, lifted(collimated), evidence_level(frames)]
        features = self.encoder(torch.cat([*levels, detail(collimated, aperture)], dim=1))
        latent_mean, latent_log_variance = self.to_latent(features[-1]).chunk(2, dim=1)
        latent_log_variance = latent_log_variance.clamp(-10, 10)
        latent = latent_mean
        if draw:
            latent = latent_mean + torch.randn_like(latent_mean) * (0.5 * latent_log_variance).exp()
        mean, log_variance = self.decoder(self.from_latent(latent), features).chunk(2, dim=1)
        return Prior(
            mean=mean,
            log_variance=log_variance.clamp(-8, 2),
            latent_mean=latent_mean,
            latent_log_variance=latent_log_variance,
            features=features,
        )
