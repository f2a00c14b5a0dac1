"""The figures that `fullfield evaluate` prints, each after its definition in the thesis or the contract."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

_WINDOW, _SIGMA, _C1, _C2 = 11, 1.5, 0.01**2, 0.03**2


def mse(a: Picture, b: Picture, where: Mask | None = None) -> float:
    """Mean squared difference of two pictures in [-1, 1], over the whole picture or where `where` is True."""
    squared = (a.astype(np.float64) - b) ** 2
    return float(squared.mean() if where is None else squared[where].mean())


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, for values that span 2."""
    return float(10 * np.log10(4 / max(error, 1e-12)))


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity at each pixel (Wang et al. 2004, equation 13), as the thesis computes it.

    11x11 Gaussian window of sigma 1.5, zero padding, C1 = 0.01^2 and C2 = 0.03^2 on values in [-1, 1]. The window
    is applied as a banded matrix from either side, whose gradient is far cheaper on a cpu than a convolution's.
    a, b: (n, h, w); gives (n, h, w).
    """
    down, across = (_window(size).to(a) for size in a.shape[-2:])
    blurred = down @ torch.stack([a, b, a * a, b * b, a * b]) @ across
    mean_a, mean_b, aa, bb, ab = blurred
    variance_a, variance_b, covariance = aa - mean_a.square(), bb - mean_b.square(), ab - mean_a * mean_b
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    below = (mean_a.square() + mean_b.square() + _C1) * (variance_a + variance_b + _C2)
    similarity: Tensor = above / below
    return similarity


def ssim(a: Picture, b: Picture, where: Mask | None = None) -> float:
    """Mean structural similarity, over the whole picture or where `where` is True."""
    first, second = (torch.from_numpy(picture.astype(np.float64))[None] for picture in (a, b))
    values = structural_similarity(first, second)[0].numpy()
    return float(values.mean() if where is None else values[where].mean())


def log_spectrum(picture: Picture) -> NDArray[np.float64]:
    """log10 of the radially averaged power of a square picture, mean subtracted, at frequencies 1 to side/2 - 1."""
    side = picture.shape[0]
    power = np.abs(np.fft.fft2(picture.astype(np.float64) - picture.mean())) ** 2
    frequency = np.fft.fftfreq(side) * side
    radius = np.rint(np.hypot(frequency[:, None], frequency[None])).astype(int)
    total = np.bincount(radius.ravel(), power.ravel())
    count = np.bincount(radius.ravel())
    return np.log10(total[1 : side // 2] / count[1 : side // 2] + 1e-12)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two apertures."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def _window(size: int) -> Tensor:
    """(size, size): the Gaussian window as a symmetric banded matrix; what falls outside counts as zero."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    distance = (torch.arange(size)[:, None] - torch.arange(size)[None]).abs()
    matrix = (line / line.sum())[(distance + _WINDOW // 2).clamp(max=_WINDOW - 1)]
    return torch.where(distance <= _WINDOW // 2, matrix, 0.0)
