"""From the network's probabilities to the rectangle of the blades, or to a clear no."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.errors import NoAperture
from inference.find_aperture import rectangle

SIDE = 256


def _probability(left, top, right, bottom, *, blur=1.0):
    """What a good network says of an aperture with these edges in pixels, fractions of a pixel included."""
    places = np.arange(SIDE) + 0.5

    def inside(first, last):
        ramp = np.minimum(places - first, last - places) / blur
        return 1 / (1 + np.exp(-4 * np.clip(ramp, -20, 20)))

    return (inside(top, bottom)[:, None] * inside(left, right)[None]).astype(np.float32)


@given(left=st.floats(2, 150), top=st.floats(2, 150), width=st.floats(24, 100), height=st.floats(24, 100))
@example(left=2.0, top=2.5, width=24.0, height=24.0)  # edges in the middle of a pixel
def test_every_rectangle_is_found_to_a_fraction_of_a_pixel(left, top, width, height):
    edges = (left, top, left + width, top + height)
    assert rectangle(_probability(*edges)) == pytest.approx([edge / SIDE for edge in edges], abs=0.4 / SIDE)


def test_an_aperture_that_ends_at_the_rim_reaches_the_rim():
    left, top, right, bottom = rectangle(_probability(-20, -20, 90, 80))
    assert (left, top) == (0, 0)
    assert (right, bottom) == pytest.approx((90 / SIDE, 80 / SIDE), abs=0.4 / SIDE)


def test_small_islands_elsewhere_do_not_move_the_edges():
    probability = _probability(60, 70, 140, 150)
    clean = rectangle(probability)
    probability[200:206, 20:26] = 1
    probability[10:14, 230:240] = 1
    assert rectangle(probability) == pytest.approx(clean, abs=0.4 / SIDE)


def test_a_hole_within_does_not_matter():
    probability = _probability(60, 70, 140, 150)
    clean = rectangle(probability)
    probability[100:110, 90:100] = 0
    assert rectangle(probability) == pytest.approx(clean, abs=0.4 / SIDE)


def test_an_open_field_is_told_apart_from_no_aperture():
    with pytest.raises(NoAperture, match="The field is open"):
        rectangle(np.full((SIDE, SIDE), 0.99, np.float32))
    with pytest.raises(NoAperture, match="No aperture"):
        rectangle(np.full((SIDE, SIDE), 0.01, np.float32))


def test_what_is_not_a_rectangle_is_declined():
    rows, columns = np.indices((SIDE, SIDE))
    triangle = (rows > columns).astype(np.float32)
    with pytest.raises(NoAperture, match="straight edges"):
        rectangle(triangle)


def test_a_network_that_does_not_know_is_declined():
    unsure = np.random.default_rng(0).uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
    with pytest.raises(NoAperture):
        rectangle(unsure)
