"""The condition of the thesis's Palette: what the VAE read behind the blades, as a texture in place of it.

The latents are spread out, not decoded: row i of the texture is 256 draws of latent i, in each of three channels.
"""

import torch
from torch import Tensor

from inference.thesis.vae import VAE


def texture(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Spread latents out, a row each.

    mean, log_variance: (n, h) of the latents; noise: (n, 3, h, w) standard normal; gives (n, 3, h, w), a latent
    of 0 to 1 becoming -1 to 1.
    """
    drawn = mean[:, None, :, None] + (0.5 * log_variance).exp()[:, None, :, None] * noise
    return (drawn - 0.5) / 0.5


def condition(vae: VAE, collimated: Tensor, known: Tensor, hidden: Tensor, noise: Tensor) -> Tensor:
    """What Palette sees beside the noisy picture: the texture where the picture is hidden, else the known pixels.

    collimated, known: (n, 1, 256, 256) grey in [-1, 1]; `known` is the full picture in the thesis, training and test
    alike, and the collimated one where there is no other; hidden: (n, 1, 256, 256), 1 = hidden, 0 = measured;
    noise: (n, 3, 256, 256) standard normal; gives (n, 3, 256, 256).
    """
    masked = ((collimated + 1) / 2 * hidden).expand(-1, 3, -1, -1)
    return torch.where(hidden.bool(), texture(*vae.encode(masked), noise), known)
