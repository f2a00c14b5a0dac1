"""The half-width of an interval at a pixel: the VAE's deviation times a factor of the distance from the aperture."""

import numpy as np
import pytest

from inference.intervals import QUARTER_EDGES, QUARTER_MIDDLES, distance_to, half_width, quarter_of


def opened(side=64):
    aperture = np.zeros((1, side, side), bool)
    aperture[:, :, : side // 4] = True
    return aperture


def test_distance_is_in_widths_whatever_the_size():
    for side in (64, 256):
        distance = distance_to(opened(side))[0]
        assert (distance[:, : side // 4] == 0).all()
        assert distance[5, -1] == pytest.approx(0.75)
        assert distance[5, side // 4] == pytest.approx(1 / side)


def test_each_frame_has_the_distance_from_its_own_aperture():
    still = opened()
    moved = still[:, :, ::-1]

    distance = distance_to(np.concatenate([still, still, moved]))

    assert np.array_equal(distance[0], distance[1])
    assert np.array_equal(distance[2], distance[0][:, ::-1])


def test_where_nothing_was_measured_all_is_far_away():
    assert (distance_to(np.zeros((1, 8, 8), bool)) == 1).all()


def test_quarters_count_from_the_aperture_outwards():
    assert [int(quarter_of(np.float32(middle))) for middle in QUARTER_MIDDLES] == [0, 1, 2, 3]
    assert [int(quarter_of(np.float64(edge))) for edge in QUARTER_EDGES] == [1, 2, 3]


def test_the_half_width_follows_the_deviation_and_the_factor_of_the_distance():
    aperture = opened(200)
    deviation = np.random.default_rng(0).uniform(0.1, 0.3, aperture.shape).astype(np.float32)
    factors = np.array([1, 2, 3, 4], np.float32)

    ratio = half_width(deviation, aperture, factors)[0, 100] / deviation[0, 100]

    for middle, factor in zip(QUARTER_MIDDLES, factors, strict=True):
        assert ratio[49 + round(200 * middle)] == pytest.approx(factor, rel=0.02)
    assert (np.diff(ratio[49:]) >= 0).all() and np.diff(ratio[49:]).max() < 0.05  # no step that shows
