"""The thesis's VAE: AntixK's VanillaVAE (PyTorch-VAE) with three levels and 256 latents (Kingma & Welling 2014).

It reads the collimated picture outside the aperture and learns to give that same picture back. Only its encoder is
used afterwards: what it finds becomes a texture (see `texture`).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

#: Width of each level, each at half the size of the one before.
CHANNELS = (32, 64, 128)
LATENTS = 256
#: Side of the square pictures, in pixels.
SIDE = 256


class VAE(nn.Module):
    """Variational autoencoder of masked collimated pictures; nearly all its parameters are three dense layers."""

    def __init__(self, channels: Sequence[int] = CHANNELS, latents: int = LATENTS, side: int = SIDE) -> None:
        super().__init__()
        self._grid = (channels[-1], side // 2 ** len(channels), side // 2 ** len(channels))
        size = channels[-1] * self._grid[1] * self._grid[2]
        down = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise((3, *channels))]
        self.encoder = nn.Sequential(*(_normalised(layer) for layer in down))
        self.to_mean = nn.Linear(size, latents)
        self.to_log_variance = nn.Linear(size, latents)
        self.from_latent = nn.Linear(latents, size)
        # The last level keeps its width, and a convolution makes the picture of it.
        widths = (*reversed(channels), channels[0])
        up = [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1) for a, b in pairwise(widths)]
        self.decoder = nn.Sequential(*(_normalised(layer) for layer in up))
        self.last = nn.Conv2d(channels[0], 3, 3, padding=1)

    def encode(self, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, 256, 256) in [0, 1], masked ones 0, to the latents' mean and log-variance, (n, 256)."""
        features = self.encoder(masked).flatten(1)
        return self.to_mean(features), self.to_log_variance(features)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (n, 256) to pictures (n, 3, 256, 256) in [0, 1]: the hyperbolic tangent, moved and halved."""
        features = self.decoder(self.from_latent(latent).unflatten(1, self._grid))
        return (torch.tanh(self.last(features)) + 1) / 2

    def forward(self, masked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A picture from one draw of the latents, and the latents' mean and log-variance."""
        mean, log_variance = self.encode(masked)
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decode(latent), mean, log_variance


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from N(0, 1): sum over latents, mean over pictures (Kingma & Welling, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def _normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU())
