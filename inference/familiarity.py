"""Is a picture like those that the networks know? Rather nothing than nonsense.

The VAE's encoder has read the picture anyway: the mean and spread of its features in the aperture and behind the
blades, with a few plain statistics of the grey levels, are the picture's traits.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float32]

#: Known pictures, nearest first, whose distances are averaged.
_NEIGHBOURS = 5
#: Ranks of the grey levels that are looked at, in the aperture and behind the blades.
_RANKS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


def traits(features: Sequence[Tensor], pictures: Floats, apertures: NDArray[np.bool_]) -> Floats:
    """What a picture is known by: (n, d).

    features: the encoder's maps, finest first, each (n, c, h, w); pictures: (n, 256, 256) in [-1, 1]; apertures: the
    same shape, True = measured.
    """
    rows = []
    for level in (feature.float() for feature in features):
        measured = torch.from_numpy(apertures.astype(np.float32))[:, None].to(level.device)
        measured = F.adaptive_avg_pool2d(measured, level.shape[-1])
        for part in (measured, 1 - measured):
            weight = part / part.sum((2, 3), keepdim=True).clamp(min=0.5)
            mean = (level * weight).sum((2, 3))
            square = (level.square() * weight).sum((2, 3))
            rows += [mean, (square - mean.square()).clamp(min=0).sqrt()]
    plain = np.stack([_plain(picture, measured) for picture, measured in zip(pictures, apertures, strict=True)])
    return np.concatenate([torch.cat(rows, dim=1).cpu().numpy(), plain], axis=1)


def count_traits(channels: Sequence[int]) -> int:
    """How many traits a picture has, by the channels of the encoder's levels."""
    return 4 * sum(channels) + 2 * (len(_RANKS) + 2)


def distances(whitened: Floats, known: Floats) -> Floats:
    """How far each picture lies from the nearest known ones, (n, k) and (m, k) to (n,)."""
    apart = np.square(whitened).sum(1)[:, None] + np.square(known).sum(1) - 2 * whitened @ known.T
    nearest = np.sort(np.sqrt(apart.clip(0)), axis=1)[:, :_NEIGHBOURS]
    return np.asarray(nearest.mean(axis=1), dtype=np.float32)


def _plain(picture: Floats, measured: NDArray[np.bool_]) -> Floats:
    """Ranks of grey, its spread, and how fine the noise is, of the measured pixels and of the hidden ones."""
    inner = picture[1:-1, 1:-1]
    rough = 4 * inner - picture[:-2, 1:-1] - picture[2:, 1:-1] - picture[1:-1, :-2] - picture[1:-1, 2:]
    row: list[float] = []
    for part in (measured, ~measured):
        grey, texture = picture[part], rough[part[1:-1, 1:-1]]
        if not grey.size or not texture.size:
            grey = texture = np.zeros(1, np.float32)
        row += [*np.quantile(grey, _RANKS), grey.std(), np.log(np.median(np.abs(texture)) + 1e-3)]
    return np.array(row, np.float32)
