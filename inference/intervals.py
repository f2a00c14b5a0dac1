"""How far the truth may lie from the best estimate: 90 % intervals by split conformal prediction.

The VAE says how far off its estimate may be; a factor, which depends on how far from the aperture a pixel lies, makes
of that an interval which held nine in ten pixels on scenes that no network had learnt (Lei et al. 2018, section 5.2,
with the VAE's deviation as the spread; training/calibrate.py finds the factors).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Half-width of the central 90 % of a normal distribution, in standard deviations.
NORMAL_90 = 1.6449
#: Distances from the aperture, in widths of the frame, that part the hidden field of most pictures into four quarters.
QUARTER_EDGES = (0.15, 0.3, 0.45)
#: The middles of the quarters, between which the factor is interpolated, so that its map has no steps.
QUARTER_MIDDLES = (0.075, 0.225, 0.375, 0.6)


def half_width(
    deviation: NDArray[np.float32], aperture: NDArray[np.bool_], factors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Half-width of the 90 % interval around the best estimate, in grey levels of [-1, 1].

    deviation: (n, h, w) the VAE's standard deviation; aperture: (n, h, w), True = measured; factors: (4,) one for each
    quarter of the distance. Gives (n, h, w), of which what lies in the aperture means nothing.
    """
    factor = np.interp(distance_to(aperture), QUARTER_MIDDLES, factors)
    return np.asarray(factor * deviation, dtype=np.float32)


def distance_to(aperture: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel lies from the next measured one, in widths of the frame: (n, h, w) bool to (n, h, w) float32.

    Where a frame measured nothing, every pixel lies a whole width away.
    """
    distance = np.empty(aperture.shape, np.float32)
    for index, measured in enumerate(aperture):
        if index and np.array_equal(measured, aperture[index - 1]):
            distance[index] = distance[index - 1]
        elif measured.any():
            distance[index] = ndimage.distance_transform_edt(~measured) / measured.shape[1]
        else:
            distance[index] = 1
    return distance


def quarter_of(distance: NDArray[np.float32]) -> NDArray[np.intp]:
    """The quarter, 0 to 3, that a distance from the aperture in widths lies in."""
    return np.digitize(distance, QUARTER_EDGES)
