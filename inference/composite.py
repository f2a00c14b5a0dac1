"""Measured and generated pixels in one picture: the measured ones untouched, the seam on the generated side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.pixels import GreyMapping

#: Width over which a generated picture is eased towards its measured neighbours, as a fraction of its width.
EASE = 0.02


@dataclass(frozen=True, kw_only=True)
class _Seam:
    """Where each hidden pixel's nearest measured one lies, and how much it draws it: computed once a still aperture."""

    aperture: NDArray[np.bool_]
    nearest: NDArray[np.intp]
    weight: NDArray[np.float32]


class Composer:
    """Puts generated pixels round measured ones, frame after frame; keeps the seam while the aperture stands still."""

    def __init__(self, mapping: GreyMapping) -> None:
        self._mapping = mapping
        self._seam: _Seam | None = None

    def compose(
        self, stored: NDArray[np.integer], generated: NDArray[np.float32], aperture: NDArray[np.bool_]
    ) -> NDArray[np.integer]:
        """One frame's full field in stored values.

        stored: (h, w) as received; generated: (h, w) grey in [-1, 1]; aperture: (h, w), True = measured, where
        the result equals `stored` bit for bit. Outside it the difference at the aperture's edge fades with the
        distance from it, so that no step shows.
        """
        if self._seam is None or not np.array_equal(self._seam.aperture, aperture):
            self._seam = _seam(aperture)
        step = ndimage.gaussian_filter(
            np.where(aperture, self._mapping.to_grey(stored) - generated, 0), sigma := 0.004 * stored.shape[1]
        )
        share = ndimage.gaussian_filter(aperture.astype(np.float32), sigma)
        step = np.divide(step, share, out=np.zeros_like(step), where=share > 1e-3)
        rows, columns = self._seam.nearest
        eased = generated + self._seam.weight * step[rows, columns]
        out = self._mapping.to_stored(eased, stored.dtype)
        out[aperture] = stored[aperture]
        return out


def _seam(aperture: NDArray[np.bool_]) -> _Seam:
    if not aperture.any():
        shape = aperture.shape
        return _Seam(
            aperture=aperture.copy(), nearest=np.zeros((2, *shape), np.intp), weight=np.zeros(shape, np.float32)
        )
    distance, nearest = ndimage.distance_transform_edt(~aperture, return_indices=True)
    fade = np.exp(-0.5 * (distance / (EASE * aperture.shape[1])) ** 2)
    return _Seam(aperture=aperture.copy(), nearest=nearest, weight=(0.7 * fade).astype(np.float32))
