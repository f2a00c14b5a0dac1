"""Measured and generated pixels in one picture: the measured ones untouched, the seam eased on the other side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.grey_mapping import GreyMapping

#: How far from the aperture generated grey still bends towards the measured grey, in shares of the shorter side.
_REACH = 1 / 40
#: Standard deviation of the smoothing that keeps noise and detail out of that bend, in the same shares.
_SMOOTHING = 1 / 170


@dataclass(frozen=True, kw_only=True)
class _Seam:
    """Where one aperture's generated pixels are eased, and from which measured pixel each takes its offset."""

    aperture: NDArray[np.bool_]
    #: The part of the picture with the aperture and all eased pixels in it.
    window: tuple[slice, slice]
    #: How much of a window pixel's neighbourhood is measured, in (0, 1] where any is.
    share: NDArray[np.float32]
    #: Flat indices into the window: the eased pixels, and the measured pixel nearest to each.
    eased: NDArray[np.intp]
    nearest: NDArray[np.intp]
    #: The part of the offset that each eased pixel takes: 1 at the edge, 0 at the reach.
    weight: NDArray[np.float32]


class Composer:
    """Composes the frames of one cine; a still aperture's seam is laid out once."""

    def __init__(self, mapping: GreyMapping) -> None:
        self.mapping = mapping
        self._seam: _Seam | None = None

    def compose(
        self, stored: NDArray[np.integer], generated: NDArray[np.float32], aperture: NDArray[np.bool_]
    ) -> NDArray[np.integer]:
        """One full-field frame in the source's stored values.

        stored: (h, w) the source. generated: (h, w) grey in [-1, 1], inside the aperture too: there it tells by
        how much the generated grey is off. aperture: (h, w), True = measured. Where it is True the result
        equals `stored` bit for bit, unused high bits included; elsewhere it is the generated grey, plus the
        smoothed offset between both at the nearest edge, fading out within a fortieth of the picture's side.
        """
        if aperture.all():
            return stored.copy()
        grey = generated.astype(np.float32)
        if aperture.any():
            if self._seam is None or not np.array_equal(self._seam.aperture, aperture):
                self._seam = _lay_out(aperture)
            _ease(grey, self.mapping.to_grey(stored[self._seam.window]), self._seam)
        return np.where(aperture, stored, self.mapping.to_stored(grey).astype(stored.dtype))


def _ease(grey: NDArray[np.float32], measured: NDArray[np.float32], seam: _Seam) -> None:
    """Bend the generated grey towards the measured grey at the seam, in place."""
    within = grey[seam.window]
    difference = np.where(seam.aperture[seam.window], measured - within, np.float32(0))
    offset = _smoothed(difference, seam.aperture.shape) / np.maximum(seam.share, np.float32(1e-6))
    eased = within.ravel()
    eased[seam.eased] += seam.weight * offset.ravel()[seam.nearest]
    grey[seam.window] = eased.reshape(within.shape)


def _lay_out(aperture: NDArray[np.bool_]) -> _Seam:
    reach = max(2.0, _REACH * min(aperture.shape))
    window = _window(aperture, int(np.ceil(reach)) + 1)
    inside = aperture[window]
    distance, (rows, columns) = ndimage.distance_transform_edt(~inside, return_indices=True)
    eased = np.flatnonzero((distance > 0) & (distance < reach))
    nearest = np.ravel_multi_index((rows.ravel()[eased], columns.ravel()[eased]), inside.shape)
    # A raised cosine has no kink at either end.
    weight = 0.5 + 0.5 * np.cos(np.pi * (distance.ravel()[eased] - 1).clip(0) / (reach - 1))
    return _Seam(
        aperture=aperture.copy(),
        window=window,
        share=_smoothed(inside.astype(np.float32), aperture.shape),
        eased=eased,
        nearest=nearest.astype(np.intp),
        weight=weight.astype(np.float32),
    )


def _window(aperture: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold the aperture, with a margin around."""
    across, down = np.flatnonzero(aperture.any(axis=0)), np.flatnonzero(aperture.any(axis=1))
    return (
        slice(max(int(down[0]) - margin, 0), int(down[-1]) + 1 + margin),
        slice(max(int(across[0]) - margin, 0), int(across[-1]) + 1 + margin),
    )


def _smoothed(image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    sigma = max(0.5, _SMOOTHING * min(shape))
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter(image, sigma, mode="constant", truncate=3.0)
    return smoothed
