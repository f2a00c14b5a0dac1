"""An object that could have been in the beam of a picture, so that the picture's view can be exposed anew.

A picture with evened-out contrast has lost how strong its contrast was and the broad light and dark; both are drawn at
random. What comes back is no measurement of the phantom but an object with the same shapes, of which simulation makes
other exposures: with other blades, other noise, and as many frames as are asked for.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from training.modality import EvenedContrast

Floats = npt.NDArray[np.float32]

#: Local contrast of the objects, a standard deviation of line integrals, and their line integrals' broad mean.
_CONTRAST, _BROAD = (0.1, 0.35), (2.2, 4.8)
#: How much the broad mean varies over the picture, at most.
_SWING = 1.2
#: Share of the way to black or white beyond which grey levels do not tell contrasts apart any more.
_FURTHEST = 0.97


def redraw(picture: Floats, rng: np.random.Generator) -> Floats:
    """Line integrals (h, w), at least 0, whose picture by `EvenedContrast` looks like this one, (h, w) in [-1, 1]."""
    evened = EvenedContrast()
    relative = np.arctanh(np.clip(picture - evened.middle, -_FURTHEST, _FURTHEST)) / evened.contrast
    low, high = np.log(_CONTRAST)
    contrast = np.exp(rng.uniform(low, high) + 0.3 * _broad_field(picture.shape, rng))
    broad = rng.uniform(*_BROAD) + rng.uniform(0, _SWING) * _broad_field(picture.shape, rng)
    # What is bright let more of the beam through.
    return np.asarray(np.maximum(broad - contrast * relative, 0), dtype=np.float32)


def _broad_field(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Smooth light and dark, (h, w) about a standard normal value each."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 4), dtype=np.float32))
    field: Floats = F.interpolate(coarse, shape, mode="bicubic", align_corners=True)[0, 0].numpy()
    return field
