"""How much of what was generated follows the faint picture that was measured behind the blades."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.evidence import Evidence

Floats = NDArray[np.float32]

#: Standard deviations of the neighbourhoods between which detail lies, in pixels of the networks' grid: broader light
#: and dark is the blades' and the scatter's, finer detail is noise.
_FINE, _BROAD = 1.0, 6.0


class ResidualSignal:
    """Adds up, frame by frame, what is behind the blades and what was made of it."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)
        self._frames, self._pixels = 0.0, 0

    def add(self, evidence: Evidence, generated: Floats) -> None:
        """Take in some frames; generated: (n, 256, 256) grey."""
        for picture, made, known, frames in zip(
            evidence.pictures, generated, evidence.apertures, evidence.frames, strict=True
        ):
            hidden = ~known
            measured, drawn = _detail(picture, hidden), _detail(made, hidden)
            self._sums += (measured @ measured, drawn @ drawn, measured @ drawn)
            self._frames += float(frames[hidden].sum())
            self._pixels += int(hidden.sum())

    @property
    def frames_behind(self) -> float:
        """Frames that tell of a hidden pixel, on average."""
        return self._frames / self._pixels if self._pixels else 1.0

    @property
    def share(self) -> float:
        """Squared correlation of the generated detail with the measured one, 0 to 1."""
        measured, drawn, both = self._sums
        return float(both**2 / (measured * drawn)) if measured * drawn > 0 else 0.0


def _detail(picture: Floats, hidden: NDArray[np.bool_]) -> Floats:
    """The hidden pixels' detail of medium size, as a vector; what is known does not reach into it."""
    weight = hidden.astype(np.float32)

    def mean(sigma: float) -> Floats:
        reach = ndimage.gaussian_filter(weight, sigma)
        return np.asarray(ndimage.gaussian_filter(picture * weight, sigma) / np.maximum(reach, 1e-3))

    return np.asarray((mean(_FINE) - mean(_BROAD))[hidden], dtype=np.float32)
