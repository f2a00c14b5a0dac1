"""What a reconstruction is: pixels, which of them were measured, and how the others came to be."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["mean", "sample"]
ApertureSource = Literal["attributes", "pixels"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Which model made the generated pixels, and with which settings; enough to make them again."""

    #: Profile of the model, such as ``fullfield``.
    model: str
    #: Version of the weights, such as ``1.0``.
    version: str
    #: SHA-256 over the weights files, lower-case hexadecimal.
    digest: str
    #: ``mean``: best estimate of the hidden field; ``sample``: one draw of the model's posterior.
    mode: Mode
    #: Seed of the noise of the first frame.
    seed: int
    #: Network evaluations of Palette per frame.
    steps: int
    #: Where it ran, such as ``cpu`` or ``cuda``.
    device: str
    #: Whether shutter or collimator attributes gave the aperture, or the pixels did.
    aperture_source: ApertureSource
    #: Frames that tell of a hidden pixel, on average over the cine: 1 to 64, see inference/evidence.py.
    frames_behind: float
    #: How much of the generated detail lies in the faint picture measured behind the blades: the square of their
    #: correlation, 0 (all of it invented) to 1.
    residual_signal: float
    #: Number of the way from weights to pixels: another one gives other pixels with the same weights.
    method: int = 1


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A full-field cine in the stored values of its source.

    stored: (n, h, w) integers of the source's type; equal to the source where `aperture` is True.
    aperture: (n, h, w) bool, True = measured.
    elsewhen: (n, h, w) bool, True = measured at another time: hidden in this frame, and taken over from another one of
        the same still view that saw it through its aperture.
    uncertainty: (n, h, w) float32 >= 0, half the width of the 90 % interval around the best estimate of the grey level,
        in units of the frame's [-1, 1]; 0 where measured. See inference/intervals.py.
    strangeness: how unlike the pictures that the networks know the frames are, median over the frames: 0 for one that
        they know, above 1 for a stranger, which nobody should reconstruct. See inference/familiarity.py.
    """

    stored: NDArray[np.integer]
    aperture: NDArray[np.bool_]
    elsewhen: NDArray[np.bool_]
    uncertainty: NDArray[np.float32]
    strangeness: float = 0.0
    provenance: Provenance

    @property
    def generated(self) -> NDArray[np.bool_]:
        """(n, h, w) bool, True = made by the model, in no frame measured."""
        return np.asarray(~(self.aperture | self.elsewhen))
