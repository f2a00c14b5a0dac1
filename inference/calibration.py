"""What a profile knows of itself: how far off its estimates are, and which pictures it knows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from config.errors import WeightsError
from inference.familiarity import Familiarity
from inference.intervals import NORMAL_90, QUARTER_MIDDLES, half_width

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What training/calibrate.py found out about trained networks."""

    #: (4,) half-width of a 90 % interval in the VAE's standard deviations, by quarter of the distance.
    factors: Floats
    familiarity: Familiarity

    def half_width(self, deviation: Floats, aperture: NDArray[np.bool_]) -> Floats:
        """Half-width of the 90 % interval around the best estimate, see `inference.intervals.half_width`."""
        return half_width(deviation, aperture, self.factors)

    def strangeness(self, traits: Floats) -> Floats:
        """How strange pictures are by their traits, see `Familiarity.strangeness`."""
        return self.familiarity.strangeness(traits)


def uncalibrated(traits: int) -> Calibration:
    """What is known of networks that nobody has calibrated: normal intervals, and no stranger.

    traits: number of a picture's traits.
    """
    return Calibration(
        factors=np.full(len(QUARTER_MIDDLES), NORMAL_90, np.float32),
        familiarity=Familiarity(
            centre=np.zeros(traits, np.float32),
            spread=np.ones(traits, np.float32),
            layer=np.zeros((traits, 1), np.float32),
            offset=np.zeros(1, np.float32),
            odds=np.zeros(1, np.float32),
            limit=np.full(1, 20, np.float32),
        ),
    )


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write what a profile knows of itself beside its networks."""
    arrays = {"factors": calibration.factors, **vars(calibration.familiarity)}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_calibration(path: Path, traits: int) -> Calibration:
    """Read it; names, shapes and numbers are checked. Raises WeightsError.

    traits: number of a picture's traits, which follows from the networks.
    """
    name = f"weights {path.parent.name}/{path.name}"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{name} are missing or damaged; install them again") from error
    width = state["layer"].shape[-1:] if "layer" in state else ()
    shapes = {
        "factors": (len(QUARTER_MIDDLES),),
        "centre": (traits,),
        "spread": (traits,),
        "layer": (traits, *width),
        "offset": width,
        "odds": width,
        "limit": (1,),
    }
    if {key: (array.shape, array.dtype) for key, array in state.items()} != {
        key: (shape, np.dtype(np.float32)) for key, shape in shapes.items()
    }:
        raise WeightsError(f"{name} belong to another network")
    if not all(np.isfinite(array).all() for array in state.values()):
        raise WeightsError(f"{name} hold numbers that are not finite")
    factors = state.pop("factors")
    if factors.min() <= 0 or state["spread"].min() <= 0:
        raise WeightsError(f"{name} hold a width that is not above zero")
    return Calibration(factors=factors, familiarity=Familiarity(**state))
