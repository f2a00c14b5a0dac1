"""How much of the true field the faint picture behind the blades shows, and where which blades lie."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Standard deviation of the neighbourhood whose mean is broad light and dark, in pixels.
_BROAD = 8.0


def likeness(seen: Floats, true: Floats, region: Mask) -> float:
    """Correlation of two pictures (h, w) in a region, broad light and dark taken out of both."""
    return float(np.corrcoef(detail(seen, region), detail(true, region))[0, 1])


def behind(aperture: Mask) -> tuple[Mask, Mask] | None:
    """What one pair of blades hides, and what both do, of a rectangle along the axes; None for any other aperture."""
    across, down = aperture.any(axis=0), aperture.any(axis=1)
    if (aperture != (down[:, None] & across)).any():
        return None
    return (down[:, None] ^ across) & ~aperture, ~(down[:, None] | across)


def detail(picture: Floats, region: Mask) -> Floats:
    """The region's pixels (k,) less the mean of those around them."""
    inside = region.astype(np.float32)
    around = ndimage.gaussian_filter(picture * inside, _BROAD) / np.maximum(
        ndimage.gaussian_filter(inside, _BROAD), 1e-6
    )
    return (picture - around)[region]
