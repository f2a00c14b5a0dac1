"""Find the collimator's aperture in the pixels of a frame.

A small network tells measured from hidden pixels by what distinguishes them: noise, contrast, and the blades'
shadow between them. The answer is the simplest shape that blades can leave open and that fits well, see
`aperture_shape`; where none does, there is none: rather nothing than nonsense.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from config.errors import NoAperture
from inference.aperture_shape import fit_shape, rasterise
from inference.grid import reduced
from inference.network import Decoder, Encoder


class ApertureFinder(nn.Module):
    """Tells for each pixel of a frame whether the collimator left it open."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder(1, channels)
        self.decoder = Decoder(1, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (n, 1, 256, 256) grey in [-1, 1]; gives (n, 1, 256, 256) logits, above 0 = measured."""
        features = self.encoder(frames)
        logits: Tensor = self.decoder(features[-1], features)
        return logits


@torch.inference_mode()
def find_in_frames(frames: NDArray[np.float32], finder: ApertureFinder, device: str) -> NDArray[np.bool_]:
    """The measured pixels of frames with grey levels in [-1, 1]: (n, h, w) float32 to (n, h, w) bool.

    A frame that shows no aperture has no measured pixel, one that shows the open field has nothing else.
    """
    pictures = torch.from_numpy(frames[:, None]).to(device)
    probabilities = torch.sigmoid(finder(reduced(pictures)).float())[:, 0].cpu().numpy()
    found = np.zeros(frames.shape, dtype=bool)
    size = (frames.shape[1], frames.shape[2])
    for mask, probability in zip(found, probabilities, strict=True):
        try:
            mask[:] = rasterise(fit_shape(probability, size), size)
        except NoAperture:
            continue
    return found
