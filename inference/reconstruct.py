"""From a collimated cine to its full field: VAE prior, Palette refinement, composite."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from config.errors import ConfigError
from inference.composite import compose
from inference.find_aperture import find_in_frames
from inference.network import FRAME_SIDE
from inference.palette import RESIDUAL_SCALE, condition
from inference.pixels import Cine
from inference.reconstruction import ApertureSource, Mode, Provenance, Reconstruction
from inference.sampler import best_estimate, sample
from inference.weights import Weights, load_weights

#: Steps of one draw, a network evaluation each.
SAMPLE_STEPS = 6
#: Frames that go through the networks together.
_BATCH = {"cpu": 4, "cuda": 32}


@dataclass(frozen=True, kw_only=True)
class Field:
    """The networks' full field for some frames, at the frames' own size.

    grey: (n, h, w) float32 in [-1, 1]; deviation: (n, h, w) float32, the standard deviation of `grey`.
    """

    grey: NDArray[np.float32]
    deviation: NDArray[np.float32]


class Reconstructor:
    """A profile's weights on a device, ready for any number of cines."""

    def __init__(self, weights: Weights, device: str) -> None:
        self.device = device
        self.weights = weights
        for network in (weights.finder, weights.vae, weights.palette):
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, profile: str, device: str = "auto") -> "Reconstructor":
        """Load a profile onto `auto` (cuda where there is one), `cpu` or `cuda`. Raises WeightsError, ConfigError."""
        return cls(load_weights(profile), choose_device(device))

    def reconstruct(
        self,
        cine: Cine,
        apertures: NDArray[np.bool_],
        aperture_source: ApertureSource,
        *,
        mode: Mode,
        seed: int,
        progress: Callable[[float], None] | None = None,
    ) -> Reconstruction:
        """Fill what the apertures (n, h, w) leave hidden; `progress` is told the share done, in (0, 1]."""
        count = len(cine.stored)
        stored = np.empty_like(cine.stored)
        uncertainty = np.zeros(cine.stored.shape, np.float32)
        step = _BATCH[self.device]
        for start in range(0, count, step):
            chunk = slice(start, min(start + step, count))
            field = self.generate(cine.mapping.to_grey(cine.stored[chunk]), apertures[chunk], mode=mode, seed=seed)
            for index in range(chunk.start, chunk.stop):
                generated = field.grey[index - start]
                stored[index] = compose(cine.stored[index], generated, apertures[index], cine.mapping)
                uncertainty[index] = np.where(apertures[index], 0, field.deviation[index - start])
            if progress is not None:
                progress(chunk.stop / count)
        return Reconstruction(
            stored=stored,
            aperture=apertures,
            uncertainty=uncertainty,
            provenance=self._provenance(mode, seed, aperture_source),
        )

    def find_apertures(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The measured pixels of frames (n, h, w) with grey levels in [-1, 1], see `find_in_frames`."""
        return find_in_frames(frames, self.weights.finder, self.device)

    @torch.inference_mode()
    def generate(self, frames: NDArray[np.float32], apertures: NDArray[np.bool_], *, mode: Mode, seed: int) -> Field:
        """The full field of some frames, (n, h, w) in [-1, 1], without compositing.

        In `sample` mode all frames share one noise picture, so that a draw does not flicker from frame to frame.
        """
        size = frames.shape[1:]
        aperture = _to_network(torch.from_numpy(apertures.astype(np.float32)), self.device).round()
        collimated = _to_network(torch.from_numpy(frames), self.device)
        frames_behind = torch.ones_like(aperture)
        prior = self.weights.vae(collimated, aperture, frames_behind)
        seen = condition(collimated, aperture, frames_behind, prior.mean)
        hidden = 1 - aperture

        def denoiser(noisy: Tensor, sigma: Tensor) -> Tensor:
            estimate: Tensor = self.weights.palette(noisy, sigma, seen)
            return estimate

        if mode == "mean":
            residual = best_estimate(denoiser, hidden)
        else:
            noise = torch.randn(1, 1, FRAME_SIDE, FRAME_SIDE, generator=torch.Generator().manual_seed(seed))
            residual = sample(denoiser, noise.to(self.device).expand_as(hidden), hidden, SAMPLE_STEPS)
        grey = prior.mean + RESIDUAL_SCALE * residual
        return Field(
            grey=_to_size(grey, size).clip(-1, 1),
            deviation=_to_size((0.5 * prior.log_variance).exp(), size).clip(0),
        )

    def _provenance(self, mode: Mode, seed: int, aperture_source: ApertureSource) -> Provenance:
        return Provenance(
            model=self.weights.profile,
            version=self.weights.version,
            digest=self.weights.digest,
            mode=mode,
            seed=seed,
            steps=1 if mode == "mean" else SAMPLE_STEPS,
            device=self.device,
            aperture_source=aperture_source,
        )


def choose_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu. Raises ConfigError for a device that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in _BATCH:
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but no CUDA device is available; use auto or cpu")
    return device


def _to_network(pictures: Tensor, device: str) -> Tensor:
    """(n, h, w) to (n, 1, 256, 256) on the device; reduced with antialiasing, as PIL's bilinear does."""
    size = (FRAME_SIDE, FRAME_SIDE)
    return F.interpolate(pictures[:, None].to(device), size, mode="bilinear", antialias=True)


def _to_size(pictures: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    """(n, 1, 256, 256) to (n, h, w) in main memory."""
    out: NDArray[np.float32] = F.interpolate(pictures.float(), size, mode="bicubic")[:, 0].cpu().numpy()
    return out
