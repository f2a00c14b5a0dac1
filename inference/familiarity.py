"""Is a picture like those that the networks know? Rather nothing than nonsense.

The VAE's encoder has read the picture anyway: the mean and spread of its features in the aperture and behind the
blades, with a few plain statistics of the grey levels, are the picture's traits. A small network on them tells known
pictures from strangers (docs/decisions/0019-strangers-are-told-by-the-priors-features.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float32]

#: Traits farther from the known pictures' mean than this, in their spreads, count as so far.
_FAR = 8.0
#: Odds are told up to this.
_MOST = 1e6
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


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """A network of one hidden layer that tells strangers by their traits; all arrays float32."""

    #: (d,) mean and spread of the traits of known pictures.
    centre: Floats
    spread: Floats
    #: (d, k) and (k,): the hidden layer.
    layer: Floats
    offset: Floats
    #: (k,) and (1,): from it to the logarithm of the odds that a picture is a stranger, over those that are borne.
    odds: Floats
    limit: Floats

    def strangeness(self, traits: Floats) -> Floats:
        """The odds that pictures are strangers over those that are borne, (n, d) to (n,): above 1 it is declined."""
        hidden = np.maximum(self.standard(traits) @ self.layer + self.offset, 0)
        logarithm = hidden @ self.odds - self.limit
        return np.asarray(np.exp(np.minimum(logarithm, np.log(_MOST))), dtype=np.float32)

    def standard(self, traits: Floats) -> Floats:
        """Traits from their means, in their spreads."""
        return np.asarray(((traits - self.centre) / self.spread).clip(-_FAR, _FAR), dtype=np.float32)


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
