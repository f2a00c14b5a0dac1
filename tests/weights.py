"""Weights for the tests: a profile whose networks have never been trained.

Nothing that a test asks of them depends on how good a picture is. torch is imported by the fixtures alone, so
that tests without it start at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from inference.reconstruct import Reconstructor

#: Name of the untrained profile: that of the package, so that it can stand in its place.
PROFILE = "fullfield"


def write_untrained_profile(models: Path, profile: str = PROFILE) -> Path:
    """Write a profile of freshly initialised networks under `models`; the folder of the profile."""
    import torch

    from inference import weights
    from inference.calibration import uncalibrated, write_calibration
    from inference.familiarity import count_traits
    from inference.find_aperture import ApertureFinder
    from inference.palette import Palette
    from inference.vae import VAE

    folder = models / profile
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights.write_weights(ApertureFinder(weights.FINDER_CHANNELS), folder / "aperture.safetensors")
    vae = VAE(weights.VAE_CHANNELS, weights.VAE_LATENT_CHANNELS)
    weights.write_weights(vae, folder / "vae.safetensors")
    weights.write_weights(Palette(weights.PALETTE_CHANNELS), folder / "distilled.safetensors")
    width = count_traits(weights.VAE_CHANNELS)
    write_calibration(uncalibrated(width), folder / "calibration.safetensors")
    weights.write_card(folder, "0.0", {"examples": 0})
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of profiles with the untrained one in it, as `inference.weights.MODELS` is one."""
    folder = tmp_path_factory.mktemp("models")
    write_untrained_profile(folder)
    return folder


@pytest.fixture(scope="session")
def reconstructor(models: Path) -> "Reconstructor":
    """The untrained profile, loaded on the CPU."""
    from inference.reconstruct import Reconstructor
    from inference.weights import load_weights

    return Reconstructor(load_weights(PROFILE, models), "cpu")
