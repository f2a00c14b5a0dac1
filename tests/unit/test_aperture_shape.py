"""From the network's probabilities to the shape that the blades left open, or to a clear no."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from config.errors import NoAperture
from inference.aperture_shape import OPEN, Blades, Iris, fit_shape, rasterise

SIDE = 256
SIZES = [(256, 256), (512, 512), (240, 320), (511, 383), (200, 400)]


def centres(shape, size):
    """x and y of the pixels of a map of a frame, in pixels of the frame."""
    rows, columns = np.indices(shape) + 0.5
    return columns * size[1] / shape[1], rows * size[0] / shape[0]


def straight(angles, distances):
    """What blades leave open that stand at these distances from the middle, at scale 1."""

    def is_open(x, y, scale):
        beyond = [np.cos(a) * x + np.sin(a) * y > scale * d for a, d in zip(angles, distances, strict=True)]
        return ~np.any(beyond, axis=0)

    return is_open


def oval(aspect, angle):
    def is_open(x, y, scale):
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return np.hypot(along / aspect, across * aspect) < scale

    return is_open


def rectangle(aspect, angle):
    return straight(angle + np.arange(4) * np.pi / 2, [aspect, 1 / aspect, aspect, 1 / aspect])


def lamella(angle):
    return straight([angle, angle + np.pi], [1, 1])


def polygon(corners, turn, shifts, distances):
    """Blades all around, none quite where it stands in a regular polygon."""
    return straight(turn + (np.arange(corners) + shifts[:corners]) * 2 * np.pi / corners, distances[:corners])


TURN = st.floats(0, np.pi)
ASPECT = st.floats(0.8, 1.25)
SIX = {"min_size": 6, "max_size": 6}
SHAPES = {
    "rectangle": st.builds(rectangle, ASPECT, st.just(0.0)),
    "rotated rectangle": st.builds(rectangle, ASPECT, TURN),
    "circle": st.just(oval(1, 0)),
    "ellipse": st.builds(oval, ASPECT, TURN),
    "polygon": st.builds(
        polygon,
        st.integers(3, 6),
        TURN,
        st.lists(st.floats(-0.15, 0.15), **SIX),
        st.lists(st.floats(0.85, 1.15), **SIX),
    ),
    "lamella": st.builds(lamella, TURN),
}


def drawn(is_open, middle, share, size):
    """The open pixels of a frame, and of its map, at the scale that leaves this share open."""
    x, y = centres((SIDE, SIDE), size)
    x, y = x - middle[0] * size[1], y - middle[1] * size[0]
    least, most = 0.0, 4.0 * max(size)
    for _ in range(24):
        scale = (least + most) / 2
        least, most = (scale, most) if is_open(x, y, scale).mean() < share else (least, scale)
    full_x, full_y = centres(size, size)
    frame = is_open(full_x - middle[0] * size[1], full_y - middle[1] * size[0], scale)
    return frame, is_open(x, y, scale)


def as_the_network_says(mask, blur, seed):
    """Soft, noisy, with a few holes and specks."""
    random = np.random.default_rng(seed)
    probability = np.clip(gaussian_filter(mask.astype(float), blur), 0.02, 0.98)
    for _ in range(4):
        row, column, side = random.integers([0, 0, 2], [SIDE, SIDE, 6])
        probability[row : row + side, column : column + side] = random.integers(2)
    return np.clip(probability + random.normal(0, 0.1, mask.shape), 0, 1).astype(np.float32)


def iou(first, second):
    return np.sum(first & second) / np.sum(first | second)


@pytest.mark.parametrize("kind", SHAPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_shape_is_found_at_every_place_and_size(kind, data):
    size = data.draw(st.sampled_from(SIZES), "size")
    is_open = data.draw(SHAPES[kind], "shape")
    middle = data.draw(st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)), "middle")
    # A lamella of 1 % would be narrower than the blur.
    share = data.draw(st.floats(0.05 if kind == "lamella" else 0.01, 0.9), "share")
    blur, seed = data.draw(st.floats(1, 3), "blur"), data.draw(st.integers(0, 99), "seed")
    frame, small = drawn(is_open, middle, share, size)

    found = rasterise(fit_shape(as_the_network_says(small, blur, seed), size), size)

    assert found.shape == size
    # Blur rounds the corners of small shapes.
    assert iou(found, frame) >= (0.7 if share < 0.05 else 0.85)


def soft_rectangle(left, top, right, bottom):
    """What a good network says of an aperture with these edges in pixels, fractions of a pixel included."""
    places = np.arange(SIDE) + 0.5

    def inside(first, last):
        return 1 / (1 + np.exp(-4 * np.clip(np.minimum(places - first, last - places), -20, 20)))

    return (inside(top, bottom)[:, None] * inside(left, right)[None]).astype(np.float32)


def upright(probability, size=(SIDE, SIDE)):
    """Left, top, right and bottom edge of the upright rectangle that is found; none where it reaches the rim."""
    found = fit_shape(probability, size)
    assert isinstance(found, Blades)
    offsets = dict(zip(np.rad2deg(found.angles).round(6), found.offsets, strict=True))
    assert offsets.keys() <= {180, -90, 0, 90}
    places = [(180, size[1] / 2, -1), (-90, size[0] / 2, -1), (0, size[1] / 2, 1), (90, size[0] / 2, 1)]
    return tuple(middle + sign * offsets[side] if side in offsets else None for side, middle, sign in places)


@settings(deadline=None)
@given(left=st.floats(2, 150), top=st.floats(2, 150), width=st.floats(26, 100), height=st.floats(26, 100))
@example(left=2.0, top=2.5, width=26.0, height=26.0)  # edges in the middle of a pixel
def test_every_rectangle_is_found_to_a_fraction_of_a_pixel(left, top, width, height):
    edges = (left, top, left + width, top + height)
    assert upright(soft_rectangle(*edges)) == pytest.approx(edges, abs=0.4)


def test_an_aperture_that_ends_at_the_rim_reaches_the_rim():
    left, top, right, bottom = upright(soft_rectangle(-20, -20, 90, 80))
    assert (left, top) == (None, None)
    assert (right, bottom) == pytest.approx((90, 80), abs=0.4)


@pytest.mark.parametrize("share", [0.01, 0.9])
def test_what_is_measured_in_a_frame_of_another_size_lies_at_the_same_place(share):
    size = (1024, 768)
    frame, small = drawn(rectangle(1, 0), (0.5, 0.5), share, size)
    assert iou(rasterise(fit_shape(small.astype(np.float32), size), size), frame) > 0.95


def test_islands_and_holes_do_not_move_the_edges():
    clean = soft_rectangle(60, 70, 140, 150)
    spotted = clean.copy()
    spotted[200:206, 20:26] = spotted[10:14, 230:240] = 1
    spotted[100:110, 90:100] = 0
    assert upright(spotted) == pytest.approx(upright(clean), abs=0.1)


def test_of_several_regions_the_largest_is_the_aperture():
    both = np.maximum(soft_rectangle(20, 30, 120, 150), soft_rectangle(200, 200, 230, 230))
    assert upright(both) == pytest.approx((20, 30, 120, 150), abs=0.4)


def test_the_simplest_shape_that_fits_is_taken():
    def found(kind):
        _, small = drawn(kind, (0.5, 0.5), 0.2, (SIDE, SIDE))
        return fit_shape(as_the_network_says(small, 1, 0), (SIDE, SIDE))

    assert len(found(rectangle(1.2, 0)).angles) == 4
    assert np.ptp(np.unique(np.round(found(rectangle(1.2, 0.5)).angles % (np.pi / 2), 6))) == 0
    circle, ellipse = found(oval(1, 0)), found(oval(1.2, 0.5))
    assert isinstance(circle, Iris) and circle.first == circle.second
    assert isinstance(ellipse, Iris) and ellipse.first != pytest.approx(ellipse.second, rel=0.2)
    assert len(found(lamella(0.5)).angles) == 2
    assert len(found(straight(np.arange(5) * 2 * np.pi / 5, np.ones(5))).angles) == 5


def test_the_open_field_is_told_apart_from_no_aperture():
    assert fit_shape(np.full((SIDE, SIDE), 0.99, np.float32), (32, 48)) is OPEN
    assert rasterise(OPEN, (32, 48)).all()
    with pytest.raises(NoAperture, match=r"^No aperture was found in the pixels\.$"):
        fit_shape(np.full((SIDE, SIDE), 0.01, np.float32), (32, 48))


ROWS, COLUMNS = np.indices((SIDE, SIDE))
FROM_MIDDLE = np.hypot(ROWS - 128, COLUMNS - 128)
NONSENSE = {
    "noise": np.random.default_rng(0).uniform(0, 1, (SIDE, SIDE)),
    "coarse noise": gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), 8) > 0,
    "unsure everywhere": np.full((SIDE, SIDE), 0.6),
    "unsure of one half": np.where(COLUMNS < 128, 0.6, 0.05),
    "unsure of the other half": np.where(COLUMNS < 128, 0.98, 0.3),
    "a ramp": COLUMNS / (SIDE - 1),
    "a ring": (FROM_MIDDLE < 100) & (FROM_MIDDLE > 60),
    "a cross": (abs(ROWS - 128) < 30) | (abs(COLUMNS - 128) < 30),
    "an angle": (FROM_MIDDLE < 100) & ((ROWS > 128) | (COLUMNS > 128)),
    "a chequered board": (ROWS // 32 + COLUMNS // 32) % 2,
    "two regions alike": np.isin(COLUMNS // 32, [1, 2, 5, 6]) & (abs(ROWS - 128) < 50),
    "a crescent": (FROM_MIDDLE < 80) & (np.hypot(ROWS - 128, COLUMNS - 160) > 70),
    "nothing that is a number": np.full((SIDE, SIDE), np.nan),
    "a speck": FROM_MIDDLE < 5,
}


@pytest.mark.parametrize("what", NONSENSE)
def test_what_no_blades_leave_open_is_declined(what):
    with pytest.raises(NoAperture):
        fit_shape(NONSENSE[what].astype(np.float32), (512, 512))
