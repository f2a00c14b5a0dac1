"""Objects redrawn from pictures: of the same shapes, and such as can be in a beam."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.modality import EvenedContrast
from training.redraw import redraw

SIDE = 256
OPEN_BEAM = 60_000.0


def exposed(line_integrals):
    """The object's picture with evened-out contrast, without blades, scatter and noise."""
    return EvenedContrast().picture((OPEN_BEAM * np.exp(-line_integrals)).astype(np.float32))


def picture(seed=0):
    """Of a body with bones, edges and fine structure, as a modality that evens out contrast shows it."""
    noise = np.random.default_rng(seed).standard_normal((3, SIDE, SIDE))
    layers = [ndimage.gaussian_filter(field, spread) * spread for field, spread in zip(noise, (3, 8, 20), strict=True)]
    return exposed(3 + 0.3 * (layers[0] + layers[1] + (layers[2] > 0)))


def likeness(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("seed", range(6))
def test_the_objects_picture_looks_like_the_one_it_came_from(seed):
    original = picture()
    assert likeness(exposed(redraw(original, np.random.default_rng(seed))), original) > 0.6


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    grey=st.sampled_from(["black", "white", "noise", "anatomy"]),
    shape=st.tuples(st.integers(8, 64), st.integers(8, 64)),
)
def test_every_line_integral_of_every_picture_is_a_number_and_at_least_0(seed, grey, shape):
    pictures = {
        "black": np.full(shape, -1, np.float32),
        "white": np.full(shape, 1, np.float32),
        "noise": np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32),
        "anatomy": picture()[: shape[0], : shape[1]],
    }
    redrawn = redraw(pictures[grey], np.random.default_rng(seed))
    assert redrawn.shape == shape and redrawn.dtype == np.float32
    assert np.isfinite(redrawn).all() and redrawn.min() >= 0


def test_a_seed_gives_the_same_object_and_another_one_another():
    original = picture()
    first, again, other = (redraw(original, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_bright_let_more_of_the_beam_through():
    stripes = np.where(np.arange(SIDE) // 8 % 2, 0.3, -0.3).astype(np.float32)
    redrawn = redraw(np.tile(stripes, (SIDE, 1)), np.random.default_rng(0))
    assert redrawn[:, stripes > 0].mean() < redrawn[:, stripes < 0].mean()


def test_contrast_and_broad_light_and_dark_are_drawn_at_random():
    original = picture()
    objects = [redraw(original, np.random.default_rng(seed)) for seed in range(30)]
    contrasts = [float((body - ndimage.gaussian_filter(body, 16)).std()) for body in objects]
    assert max(contrasts) > 2 * min(contrasts)
    assert np.ptp([body.mean() for body in objects]) > 1
