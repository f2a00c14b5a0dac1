"""How much of a reconstruction was generated, and how surely: of the whole, and of each still view."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.objects.outline import Polyline, outlines
from dicom_node.objects.views import frames_with_some, still_views
from inference.on_disk import in_turn
from inference.reconstruction import Reconstruction


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The pixels of some frames, counted: all of them, the generated ones, and those taken over from another frame."""

    size: int
    generated: int
    elsewhen: int
    #: Half-width of the 90 % interval, mean over the generated pixels, in units of the frame's [-1, 1].
    half_width: float

    @classmethod
    def of(cls, reconstruction: Reconstruction, frames: slice = slice(None)) -> "Tally":
        """Count frame by frame."""
        aperture, elsewhen = reconstruction.aperture[frames], reconstruction.elsewhen[frames]
        measured = taken_over = 0
        total = 0.0
        for mask, other, half_width in in_turn(aperture, elsewhen, reconstruction.uncertainty[frames]):
            measured += int(np.count_nonzero(mask))
            taken_over += int(np.count_nonzero(other))
            total += float(half_width.sum(dtype=np.float64))
        generated = aperture.size - measured - taken_over
        return cls(
            size=aperture.size,
            generated=generated,
            elsewhen=taken_over,
            half_width=total / generated if generated else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the pixels of some frames."""

    #: Share of generated pixels, 0 to 1, and of those taken over from another frame.
    generated: float
    elsewhen: float
    #: Width of the 90 % interval, mean over the generated pixels, as a share of the range from black to white.
    width: float


@dataclass(frozen=True, kw_only=True)
class View:
    """A run of frames of which the same pixels were measured."""

    frames: slice
    shares: Shares
    #: The border of what was measured in the frames themselves.
    border: list[Polyline]


@dataclass(frozen=True, kw_only=True)
class Account:
    """All that a report says in numbers; as small as the cine is large."""

    frames: int
    frames_elsewhen: int
    whole: Shares
    views: tuple[View, ...]

    @classmethod
    def of(cls, reconstruction: Reconstruction) -> "Account":
        """What a reconstruction holds, counted."""
        return cls(
            frames=len(reconstruction.aperture),
            frames_elsewhen=len(frames_with_some(reconstruction.elsewhen)),
            whole=_shares(reconstruction, slice(None)),
            views=tuple(_views(reconstruction)),
        )


def _views(reconstruction: Reconstruction) -> Iterator[View]:
    drawn: NDArray[np.bool_] | None = None
    border: list[Polyline] = []
    for frames in still_views(reconstruction.aperture, reconstruction.elsewhen):
        aperture = reconstruction.aperture[frames.start]
        if drawn is None or not np.array_equal(aperture, drawn):
            drawn, border = aperture, outlines(aperture, most_points=100)
        yield View(frames=frames, shares=_shares(reconstruction, frames), border=border)


def _shares(reconstruction: Reconstruction, frames: slice) -> Shares:
    tally = Tally.of(reconstruction, frames)
    # Half the width in a range of two is the whole width in a range of one.
    return Shares(generated=tally.generated / tally.size, elsewhen=tally.elsewhen / tally.size, width=tally.half_width)
