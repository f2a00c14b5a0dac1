"""How much of a generated picture follows what was measured behind the blades, on pictures where that is known."""

import numpy as np
import pytest
from scipy import ndimage

from inference.evidence import gather
from inference.residual_signal import ResidualSignal

SIDE = 256


def field(seed):
    """Detail of medium size, of standard deviation 0.2."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 3)
    return (0.2 * noise / noise.std()).astype(np.float32)


def aperture():
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[:, 60:120, 70:160] = True
    return mask


def share_of(picture, generated, mask=None):
    mask = aperture() if mask is None else mask
    [evidence] = gather(lambda start, stop: picture[None][start:stop], mask, mask)
    signal = ResidualSignal()
    signal.add(evidence, generated[None])
    return signal


def test_what_repeats_the_faint_picture_follows_it_whatever_the_contrast():
    assert share_of(0.1 * field(1), field(1)).share == pytest.approx(1, abs=0.01)


def test_what_is_invented_does_not():
    assert share_of(field(1), field(2)).share < 0.03


def test_half_of_each_is_half():
    assert share_of(field(1), field(1) + field(2)).share == pytest.approx(0.5, abs=0.06)


def test_what_lies_in_the_aperture_does_not_count():
    measured = np.where(aperture()[0], field(3), field(1))
    generated = np.where(aperture()[0], field(3), field(2))
    assert share_of(measured, generated).share < 0.03


def test_one_frame_tells_of_one_and_no_hidden_pixel_of_nothing():
    assert share_of(field(1), field(2)).frames_behind == 1
    nothing = share_of(field(1), field(2), np.ones((1, SIDE, SIDE), bool))
    assert (nothing.frames_behind, nothing.share) == (1, 0)
