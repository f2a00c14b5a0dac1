"""What a profile knows of itself: how far off its estimates are, and which pictures it knows."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from config.errors import WeightsError
from inference.familiarity import distances
from inference.intervals import NORMAL_90, QUARTER_MIDDLES, half_width

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Statistics of held-out pictures, see training/calibrate.py; all float32."""

    #: (4,) half-width of a 90 % interval in the VAE's standard deviations, by distance from the aperture.
    factors: Floats
    #: (d,) mean of the traits of known pictures, and their spread.
    centre: Floats
    spread: Floats
    #: (d, k) from traits to whitened ones.
    axes: Floats
    #: (m, k) whitened traits of known pictures.
    known: Floats
    #: (1,) distance from the known pictures beyond which one is a stranger.
    limit: Floats

    def half_width(self, deviation: Floats, aperture: NDArray[np.bool_]) -> Floats:
        """Half-width of the 90 % interval around the best estimate, see `inference.intervals.half_width`."""
        return half_width(deviation, aperture, self.factors)

    def strangeness(self, traits: Floats) -> Floats:
        """How strange pictures are by their traits, (n, d) to (n,): 0 for a known one, a stranger above 1."""
        return distances(self.whitened(traits), self.known) / self.limit

    def whitened(self, traits: Floats) -> Floats:
        """Traits as they are compared, (n, d) to (n, k)."""
        return np.asarray((traits - self.centre) / self.spread @ self.axes, dtype=np.float32)


def uncalibrated(width: int) -> Calibration:
    """What is known of networks that nobody has calibrated: normal intervals, and no stranger.

    width: number of a picture's traits.
    """
    return Calibration(
        factors=np.full(len(QUARTER_MIDDLES), NORMAL_90, np.float32),
        centre=np.zeros(width, np.float32),
        spread=np.ones(width, np.float32),
        axes=np.zeros((width, 1), np.float32),
        known=np.zeros((1, 1), np.float32),
        limit=np.ones(1, np.float32),
    )


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write what a profile knows of itself beside its networks."""
    save_file({name: np.ascontiguousarray(array) for name, array in vars(calibration).items()}, path)


def read_calibration(path: Path, width: int) -> Calibration:
    """Read it; names, shapes and finiteness are checked. Raises WeightsError.

    width: number of a picture's traits, which follows from the networks.
    """
    name = f"weights {path.parent.name}/{path.name}"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{name} are missing or damaged; install them again") from error
    if set(state) != {field.name for field in fields(Calibration)} or not _fits(state, width):
        raise WeightsError(f"{name} belong to another network")
    if not all(np.isfinite(array).all() for array in state.values()):
        raise WeightsError(f"{name} hold numbers that are not finite")
    if min(float(state[positive].min()) for positive in ("factors", "spread", "limit")) <= 0:
        raise WeightsError(f"{name} hold a width that is not above zero")
    return Calibration(**state)


def _fits(state: dict[str, Floats], width: int) -> bool:
    if state["axes"].ndim != 2 or state["known"].ndim != 2 or not state["known"].size:
        return False
    shapes = {
        "factors": (len(QUARTER_MIDDLES),),
        "centre": (width,),
        "spread": (width,),
        "axes": (width, state["known"].shape[1]),
        "limit": (1,),
    }
    return all(state[key].shape == shape for key, shape in shapes.items()) and all(
        array.dtype == np.float32 for array in state.values()
    )
