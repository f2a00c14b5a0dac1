"""What stands in for the networks in the harness's workers: a grey field outside the aperture, after a while.

A worker with the real ones takes longer to start than all that a fault leaves to be done. `tests/faults/test_kills.py`
kills those.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from inference.pixels import Cine
from inference.reconstruction import ApertureSource, Mode, Provenance, Reconstruction

#: Seconds a frame: a cine of some frames outlasts a heartbeat, so that its lease is renewed.
SECONDS_A_FRAME = 0.25


class Reconstructor:
    """In the place of `inference.reconstruct.Reconstructor`."""

    device = "cpu"

    def __init__(self, profile: str) -> None:
        self.weights = SimpleNamespace(profile=profile, version="0.0", digest="0" * 64)

    @classmethod
    def load(cls, profile: str, device: str = "auto") -> "Reconstructor":  # noqa: ARG003
        """Nothing is read."""
        return cls(profile)

    def find_apertures(self, grey: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The harness sends cines whose attributes tell of their aperture."""
        raise NotImplementedError

    def reconstruct(
        self,
        cine: Cine,
        apertures: NDArray[np.bool_],
        aperture_source: ApertureSource,
        *,
        mode: Mode,
        seed: int,
        progress: Callable[[float], None],
    ) -> Reconstruction:
        """The same for the same cine, as of the real one."""
        for number in range(len(cine.stored)):
            time.sleep(SECONDS_A_FRAME)
            progress((number + 1) / len(cine.stored))
        return Reconstruction(
            stored=np.where(apertures, cine.stored, cine.stored[apertures].max()).astype(cine.stored.dtype),
            aperture=apertures,
            elsewhen=np.zeros_like(apertures),
            uncertainty=np.where(apertures, 0, 0.25).astype(np.float32),
            provenance=Provenance(
                model=self.weights.profile,
                version=self.weights.version,
                digest=self.weights.digest,
                mode=mode,
                seed=seed,
                steps=1,
                device=self.device,
                aperture_source=aperture_source,
                frames_behind=1.0,
                residual_signal=0.0,
            ),
        )


def choose_device(device: str) -> str:
    """In the place of `inference.reconstruct.choose_device`."""
    return "cpu" if device == "auto" else device
