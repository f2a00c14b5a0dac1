"""Measured and generated pixels in one picture, the measured ones untouched."""

import numpy as np
from numpy.typing import NDArray

from inference.grey_mapping import GreyMapping


def compose(
    stored: NDArray[np.integer], generated: NDArray[np.float32], aperture: NDArray[np.bool_], mapping: GreyMapping
) -> NDArray[np.integer]:
    """One full-field frame in the source's stored values.

    stored: (h, w) the source. generated: (h, w) grey in [-1, 1]. aperture: (h, w), True = measured. Where it is
    True the result equals `stored` bit for bit, unused high bits included; elsewhere it is the generated grey.
    """
    return np.where(aperture, stored, mapping.to_stored(generated).astype(stored.dtype))
