"""Find the collimator's aperture in the pixels of a frame.

A small network tells measured from hidden pixels by what distinguishes them: noise, contrast, and the blades'
shadow between them. Blades are straight, so the answer is the rectangle that fits best; where none fits well,
there is none: rather nothing than nonsense.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import NoAperture
from inference.network import FRAME_SIDE, Decoder, Encoder

#: Least mean probability inside the rectangle, and greatest one outside it, for the rectangle to be believed.
_INSIDE, _OUTSIDE = 0.8, 0.1
#: Share of the frame from which on the field counts as open.
_OPEN = 0.9


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
def find_rectangles(frames: NDArray[np.float32], finder: ApertureFinder, device: str) -> NDArray[np.bool_]:
    """The measured pixels of frames with grey levels in [-1, 1]: (n, h, w) float32 to (n, h, w) bool.

    Raises NoAperture for a frame that shows none, or none of straight blades.
    """
    pictures = torch.from_numpy(frames[:, None]).to(device)
    reduced = F.interpolate(pictures, (FRAME_SIDE, FRAME_SIDE), mode="bilinear", antialias=True)
    probabilities = torch.sigmoid(finder(reduced).float())[:, 0].cpu().numpy()
    found = np.zeros(frames.shape, dtype=bool)
    height, width = frames.shape[1:]
    for mask, probability in zip(found, probabilities, strict=True):
        left, top, right, bottom = rectangle(probability)
        mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return found


def rectangle(probability: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of the aperture, as fractions of width and height.

    probability: (h, w), of each pixel to be measured. Raises NoAperture where no rectangle tells inside from outside.
    """
    height, width = probability.shape
    top, bottom = _extent(probability.max(axis=1) > 0.5)
    left, right = _extent(probability.max(axis=0) > 0.5)
    for _ in range(4):
        # An edge lies where half of the pixels along it, between the other edges, are measured.
        top, bottom = _extent(np.median(probability[:, left:right], axis=1) > 0.5)
        left, right = _extent(np.median(probability[top:bottom], axis=0) > 0.5)
    inside = probability[top:bottom, left:right]
    area = inside.size / probability.size
    if area > _OPEN:
        raise NoAperture("The field is open: no collimator blade shows in the pixels.")
    outside = (probability.sum() - inside.sum()) / (probability.size - inside.size)
    if inside.mean() < _INSIDE or outside > _OUTSIDE:
        raise NoAperture("No aperture with straight edges was found in the pixels.")
    rows = _edges(np.median(probability[:, left:right], axis=1), top, bottom)
    columns = _edges(np.median(probability[top:bottom], axis=0), left, right)
    return columns[0] / width, rows[0] / height, columns[1] / width, rows[1] / height


def _extent(measured: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last (excluded) of the longest run of measured rows or columns."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], measured, [False]])))
    if not len(steps):
        raise NoAperture("No aperture was found in the pixels.")
    starts, ends = steps[::2], steps[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])


def _edges(profile: NDArray[np.float32], first: int, last: int) -> tuple[float, float]:
    """Where the profile crosses one half near both ends, between pixels: in pixels from the frame's edge."""
    return _crossing(profile, first), len(profile) - _crossing(profile[::-1], len(profile) - last)


def _crossing(profile: NDArray[np.float32], first: int) -> float:
    """The crossing between pixel `first`, the first above one half, and the one before it."""
    if first == 0:
        return 0.0
    before, after = float(profile[first - 1]), float(profile[first])
    if not before <= 0.5 < after:
        return float(first)
    return first - 0.5 + (0.5 - before) / (after - before)
