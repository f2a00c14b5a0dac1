"""From frames to their apertures, whatever size they have and whatever one of them shows."""

import numpy as np
import torch
from torch import nn

from inference.find_aperture import find_in_frames


class Bright(nn.Module):
    """Stands where the trained network is: what is bright was measured."""

    def forward(self, frames):
        return 20 * frames


def frame(size, measured):
    picture = np.full(size, -1, np.float32)
    picture[measured] = 1
    return picture


def found(*frames):
    return find_in_frames(np.stack(frames), Bright(), "cpu")


def test_each_frame_has_its_own_aperture_at_its_own_size():
    for size in ((512, 512), (1024, 1024), (300, 451)):
        boxes = [np.s_[40:200, 60:280], np.s_[90:290, 150:]]
        for mask, box in zip(found(*(frame(size, box) for box in boxes)), boxes, strict=True):
            expected = np.zeros(size, bool)
            expected[box] = True
            assert mask.shape == size
            assert np.sum(mask & expected) / np.sum(mask | expected) > 0.97


def test_a_circle_is_one_in_a_frame_that_is_not_square():
    rows, columns = np.indices((300, 500))
    expected = np.hypot(rows - 140, columns - 260) < 90

    [mask] = found(frame((300, 500), expected))

    assert np.sum(mask & expected) / np.sum(mask | expected) > 0.97


def test_a_frame_without_an_aperture_says_so_and_leaves_the_others_alone():
    size, box = (256, 256), np.s_[40:200, 60:190]
    noise = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)

    first, black, unclear, whole, last = found(
        frame(size, box), frame(size, np.s_[:0]), noise, frame(size, np.s_[:]), frame(size, box)
    )

    assert not black.any() and not unclear.any()
    assert whole.all()
    assert np.array_equal(first, last) and first[50, 70] and not first[10, 10]


def test_no_gradient_is_kept():
    with torch.enable_grad():
        assert found(frame((256, 256), np.s_[40:200, 60:190])).dtype == bool
