"""The thesis's method as a model to use: collimated frames and their apertures in, one draw of the field out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inference.reconstruct import choose_device
from inference.thesis.profile import ThesisWeights, load_thesis
from inference.thesis.sampler import draw, to_grey
from inference.thesis.schedule import SAMPLING, sampling_schedule
from inference.thesis.texture import condition
from inference.thesis.vae import SIDE

#: Frames that go through the networks together.
_BATCH = {"cpu": 1, "cuda": 16}


class ThesisReconstructor:
    """The thesis's networks on a device, ready for any number of frames."""

    def __init__(self, weights: ThesisWeights, device: str) -> None:
        self.device = device
        self.weights = weights
        for network in (weights.vae, weights.palette):
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> "ThesisReconstructor":
        """Load a profile's folder onto `auto`, `cpu` or `cuda`. Raises WeightsError, ConfigError."""
        return cls(load_thesis(folder), choose_device(device))

    @torch.inference_mode()
    def generate(
        self,
        frames: NDArray[np.float32],
        apertures: NDArray[np.bool_],
        *,
        seed: int,
        steps: int = SAMPLING[0],
        full: NDArray[np.float32] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float32]:
        """One draw of the full field of each frame, grey in [-1, 1], at the thesis's size: (n, 256, 256).

        frames: (n, h, w) collimated, grey in [-1, 1]; apertures: (n, h, w), True = measured; steps: evaluations of
        Palette a frame, the thesis's are 1,000; full: (n, h, w) full pictures whose pixels stand in the aperture, as
        in the thesis's test, where the frames' own stand without; progress: is told the share done, in (0, 1].

        All frames share one noise, so that a draw does not depend on the frames beside it.
        """
        schedule = sampling_schedule(steps)
        fields = np.empty((len(frames), SIDE, SIDE), np.float32)
        batch = _BATCH[self.device]
        for start in range(0, len(frames), batch):
            chunk = slice(start, min(start + batch, len(frames)))
            hidden = 1 - self._reduced(apertures[chunk].astype(np.float32)).round()
            collimated = self._reduced(frames[chunk])
            known = collimated if full is None else self._reduced(full[chunk])
            random = torch.Generator().manual_seed(seed)

            def noise(random: torch.Generator = random) -> Tensor:
                return torch.randn(1, 3, SIDE, SIDE, generator=random).to(self.device)

            def tell(share: float, chunk: slice = chunk) -> None:
                if progress is not None:
                    progress((chunk.start + share * (chunk.stop - chunk.start)) / len(frames))

            seen = condition(self.weights.vae, collimated, known, hidden, noise())
            picture = draw(self.weights.palette, seen, hidden, schedule, noise, tell)
            fields[chunk] = to_grey(picture).clamp(-1, 1).cpu().numpy()
        return fields

    def _reduced(self, pictures: NDArray[np.float32]) -> Tensor:
        """(n, h, w) to (n, 1, 256, 256) on the device; reduced with antialiasing, as PIL's bilinear does."""
        tensor = torch.from_numpy(np.ascontiguousarray(pictures))[:, None].to(self.device)
        return F.interpolate(tensor, (SIDE, SIDE), mode="bilinear", antialias=True)
