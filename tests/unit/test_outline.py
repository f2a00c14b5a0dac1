"""Outlines go along the edges of a mask's pixels, whatever its shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from dicom_node.objects.outline import box_of, outlines
from tests.factory import Box, measured


def filled(lines, shape):
    """What lies within the lines, at four times the size, an odd number of times."""
    inside = np.zeros((shape[0] * 4, shape[1] * 4), dtype=bool)
    for line in lines:
        page = Image.new("1", inside.shape[::-1])
        ImageDraw.Draw(page).polygon([tuple(point * 4 - 0.5) for point in line], fill=1)
        inside ^= np.asarray(page)
    return inside[2::4, 2::4]


def circle(side, radius):
    down, across = np.ogrid[:side, :side]
    return (down - side / 2 + 0.5) ** 2 + (across - side / 2 + 0.5) ** 2 < radius**2


def test_a_rectangle_has_its_four_corners():
    (line,) = outlines(measured(Box(8, 5, 40, 50), 1, 64, 64)[0])
    assert line.tolist() == [[8, 5], [40, 5], [40, 50], [8, 50], [8, 5]]


def test_a_circle_needs_few_corners_and_no_pixel_changes_sides_but_at_the_rim():
    mask = circle(1024, 400)
    (line,) = outlines(mask)
    assert len(line) < 150
    away = np.abs(np.hypot(line[:, 0] - 512, line[:, 1] - 512) - 400)
    assert away.max() < 1.5
    assert (filled([line], mask.shape) != mask).mean() < 0.003


def test_a_hole_has_an_outline_of_its_own():
    mask = measured(Box(4, 4, 60, 60), 1, 64, 64)[0]
    mask[20:30, 20:40] = False
    assert [len(line) for line in outlines(mask)] == [5, 5]


@settings(deadline=None, max_examples=100)
@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()))
def test_every_outline_is_closed_and_lies_within_the_picture(mask):
    lines = outlines(mask)
    assert bool(lines) == mask.any()
    for line in lines:
        assert (line[0] == line[-1]).all()
        assert len(line) >= 4
        assert line.min() >= 0
        assert (line.max(axis=0) <= mask.shape[::-1]).all()


def test_a_line_holds_no_more_points_than_asked_for():
    comb = np.zeros((400, 400), dtype=bool)
    comb[::2, ::2] = True
    comb[1::2] = True
    assert max(len(line) for line in outlines(comb, 100)) <= 100


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (measured(Box(8, 5, 40, 50), 1, 64, 64)[0], (8, 5, 40, 50)),
        (np.ones((3, 4), dtype=bool), (0, 0, 4, 3)),
        (circle(20, 8), None),
        (np.zeros((3, 4), dtype=bool), None),
    ],
)
def test_a_box_is_found_where_a_mask_is_one(mask, box):
    assert box_of(mask) == box
