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
#: How far inside the aperture measured grey is free of the blades' shadow, in the same shares.
_SHADOW = 1 / 30


@dataclass(frozen=True, kw_only=True)
class _Seam:
    """Where one aperture's generated pixels are eased, and from which measured pixel each takes its offset."""

    aperture: NDArray[np.bool_]
    #: The part of the picture with the aperture and all eased pixels in it.
    window: tuple[slice, slice]
    #: The eased pixels, as flat indices into the window.
    eased: NDArray[np.intp]
    #: The part of the offset that each eased pixel takes: 1 at the edge, 0 at the reach.
    weight: NDArray[np.float32]
    #: Where the offset is taken from: the whole aperture, and its part out of the blades' shadow where there is one.
    sources: "list[_Source]"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A part of the window from which eased pixels take their offset."""

    inside: NDArray[np.bool_]
    #: How much of a window pixel's neighbourhood lies inside, in (0, 1] where any does.
    share: NDArray[np.float32]
    #: Flat index of the pixel inside that is nearest to each eased pixel.
    nearest: NDArray[np.intp]


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
    """Bend the generated grey towards the measured grey at the seam, in place.

    The blades' shadow darkens the aperture's rim, and tells nothing of the grey beyond it. So the offset at the
    edge counts only as far as the offset deeper inside agrees with it: of the same sign, the smaller one.
    """
    within = grey[seam.window]
    difference = measured - within
    offsets = [_offset(difference, source, seam.aperture.shape) for source in seam.sources]
    edge, deep = offsets[0], offsets[-1]
    smaller = np.where(np.abs(edge) < np.abs(deep), edge, deep)
    agreed = np.where(edge * deep > 0, smaller, np.float32(0))
    eased = within.ravel()
    eased[seam.eased] += seam.weight * agreed
    grey[seam.window] = eased.reshape(within.shape)


def _offset(difference: NDArray[np.float32], source: _Source, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Each eased pixel's offset: the smoothed difference at the nearest pixel of a source."""
    smoothed = _smoothed(np.where(source.inside, difference, np.float32(0)), shape)
    return np.asarray((smoothed / np.maximum(source.share, np.float32(1e-6))).ravel()[source.nearest])


def _lay_out(aperture: NDArray[np.bool_]) -> _Seam:
    reach = max(2.0, _REACH * min(aperture.shape))
    window = _window(aperture, int(np.ceil(reach)) + 1)
    inside = aperture[window]
    distance = ndimage.distance_transform_edt(~inside)
    eased = np.flatnonzero((distance > 0) & (distance < reach))
    # A raised cosine has no kink at either end.
    weight = 0.5 + 0.5 * np.cos(np.pi * (distance.ravel()[eased] - 1).clip(0) / (reach - 1))
    # What lies beyond the picture's rim casts no shadow into it.
    depth = ndimage.distance_transform_edt(np.pad(aperture, 1, mode="edge"))[1:-1, 1:-1][window]
    parts = [inside, inside & (depth > _SHADOW * min(aperture.shape))]
    return _Seam(
        aperture=aperture.copy(),
        window=window,
        eased=eased,
        weight=weight.astype(np.float32),
        sources=[_source(part, eased, aperture.shape) for part in parts if part.any()],
    )


def _source(inside: NDArray[np.bool_], eased: NDArray[np.intp], shape: tuple[int, ...]) -> _Source:
    rows, columns = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    nearest = np.ravel_multi_index((rows.ravel()[eased], columns.ravel()[eased]), inside.shape)
    share = _smoothed(inside.astype(np.float32), shape)
    return _Source(inside=inside, share=share, nearest=nearest.astype(np.intp))


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
