"""The grain of a frame: the fine noise that the networks' 256x256 pixels cannot carry, drawn anew.

A draw that is enlarged to the frame's own size is smooth beside the measured region. What a frame has beyond the
networks' grid is mostly the detector's noise; its spectrum is measured inside the aperture, and noise of the same
spectrum is added to the generated region. It is different in each frame, as noise is.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal

from inference.grid import enlarged, reduced
from inference.network import FRAME_SIDE

Floats = NDArray[np.float32]

#: Side of the squares whose spectra are averaged, in pixels.
_TILE = 32
#: Squares below which a spectrum is not trusted.
_FEWEST = 4


def grain(frame: Floats, aperture: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Noise with the spectrum that the measured region has beyond the networks' grid, (h, w) float32.

    frame: (h, w) grey in [-1, 1]; aperture: (h, w), True = measured. Nothing (zeros) for frames no larger than the
    networks' grid, and where the aperture is too small to tell.
    """
    height, width = frame.shape
    if min(height, width) <= FRAME_SIDE:
        return np.zeros_like(frame)
    fine = _beyond_the_grid(frame)
    tiles = _tiles(fine, aperture)
    if len(tiles) < _FEWEST:
        return np.zeros_like(frame)
    window = np.hanning(_TILE)[:, None] * np.hanning(_TILE)
    powers = np.abs(np.fft.fft2((tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    # The median over the squares leaves out those with an edge of the anatomy; a noise's power is exponentially
    # distributed, its median is ln 2 of its mean.
    power = np.median(powers, axis=0) / np.log(2) / np.square(window).sum()
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real).astype(np.float32)
    white = rng.standard_normal((height + _TILE, width + _TILE), dtype=np.float32)
    noise = signal.oaconvolve(white, kernel, mode="same")[_TILE // 2 :, _TILE // 2 :][:height, :width]
    return np.asarray(noise, dtype=np.float32)


def _beyond_the_grid(frame: Floats) -> Floats:
    """What a frame loses when it is reduced to the networks' grid and enlarged again."""
    picture = torch.from_numpy(np.ascontiguousarray(frame))[None, None]
    return np.asarray((picture - enlarged(reduced(picture), frame.shape))[0, 0].numpy(), dtype=np.float32)


def _tiles(fine: Floats, aperture: NDArray[np.bool_]) -> Floats:
    """(n, 32, 32): the half-overlapping squares that lie within the aperture."""
    step = _TILE // 2
    corners = [
        (top, left)
        for top in range(0, fine.shape[0] - _TILE + 1, step)
        for left in range(0, fine.shape[1] - _TILE + 1, step)
        if aperture[top : top + _TILE, left : left + _TILE].all()
    ]
    return np.array([fine[top : top + _TILE, left : left + _TILE] for top, left in corners], dtype=np.float32)
