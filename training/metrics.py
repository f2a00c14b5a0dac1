"""The figures that `fullfield evaluate` prints, each after its definition in the thesis or the contract."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Half-width of the central 90 % of a normal distribution, in standard deviations.
NINETY_PERCENT = 1.6449
_WINDOW, _SIGMA, _C1, _C2 = 11, 1.5, 0.01**2, 0.03**2


def mse(a: Picture, b: Picture, where: Mask | None = None) -> float:
    """Mean squared difference of two pictures in [-1, 1], over the whole picture or where `where` is True."""
    squared = (a.astype(np.float64) - b) ** 2
    return float(squared.mean() if where is None else squared[where].mean())


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, for values that span 2."""
    return float(10 * np.log10(4 / max(error, 1e-12)))


def ssim_map(a: Picture, b: Picture) -> NDArray[np.float64]:
    """Structural similarity at each pixel (Wang et al. 2004, equation 13), as the thesis computes it.

    11x11 Gaussian window of sigma 1.5, zero padding, C1 = 0.01^2 and C2 = 0.03^2 on values in [-1, 1].
    """
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    x, y = torch.from_numpy(a.astype(np.float64)), torch.from_numpy(b.astype(np.float64))
    stack = torch.stack([x, y, x * x, y * y, x * y])[:, None]
    half = _WINDOW // 2
    blurred = F.conv2d(stack, line.view(1, 1, -1, 1), padding=(half, 0))
    blurred = F.conv2d(blurred, line.view(1, 1, 1, -1), padding=(0, half))[:, 0]
    mean_x, mean_y, xx, yy, xy = blurred
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    out: NDArray[np.float64] = (above / below).numpy()
    return out


def ssim(a: Picture, b: Picture, where: Mask | None = None) -> float:
    """Mean structural similarity, over the whole picture or where `where` is True."""
    values = ssim_map(a, b)
    return float(values.mean() if where is None else values[where].mean())


def log_spectrum(picture: Picture) -> NDArray[np.float64]:
    """log10 of the radially averaged power of a square picture, mean subtracted, at radial frequencies 1 to side/2 - 1."""
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
