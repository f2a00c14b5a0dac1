import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from inference.composite import Composer
from inference.grey_mapping import GreyMapping
from tests.factory import Box, measured


@given(data=st.data(), bits=st.integers(8, 16), signed=st.booleans(), inverted=st.booleans())
def test_measured_pixels_leave_as_they_came_whatever_they_are(data, bits, signed, inverted):
    mapping = GreyMapping.full_range(bits_stored=bits, signed=signed, inverted=inverted)
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=24))
    stored = data.draw(arrays.arrays(mapping.dtype, shape))  # any bits, unused high ones too
    generated = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    aperture = data.draw(arrays.arrays(bool, shape))

    full = Composer(mapping).compose(stored, generated, aperture)

    assert full.dtype == stored.dtype
    assert np.array_equal(full[aperture], stored[aperture])
    assert (full[~aperture] >= mapping.lowest).all() and (full[~aperture] <= mapping.highest).all()


def scene(offset=0.2, noise=0.0):
    """A ramp of which the centre is measured, and a generated picture of it that is too bright by `offset`."""
    mapping = GreyMapping.full_range(bits_stored=12)
    truth = np.linspace(-0.6, 0.4, 256, dtype=np.float32)[None].repeat(256, 0)
    aperture = measured(Box(80, 90, 180, 170), 1, 256, 256)[0]
    noise = np.random.default_rng(0).normal(0, noise, truth.shape).astype(np.float32)
    return mapping, truth, mapping.to_stored(truth + noise), truth + np.float32(offset), aperture


def test_no_step_shows_at_the_edge():
    mapping, _, stored, generated, aperture = scene()

    grey = mapping.to_grey(Composer(mapping).compose(stored, generated, aperture))

    across_the_edge = np.abs(grey[90:170, 79] - grey[90:170, 80])
    assert across_the_edge.max() < 0.02


def test_the_shadow_of_the_blades_is_not_carried_outward():
    mapping, truth, _, _, aperture = scene()
    depth = ndimage.distance_transform_edt(aperture)
    shadow = np.where(aperture, 0.4 * np.clip(1 - (depth - 1) / 7, 0, 1), 0).astype(np.float32)

    grey = mapping.to_grey(Composer(mapping).compose(mapping.to_stored(truth - shadow), truth, aperture))

    assert np.abs(grey - truth)[~aperture].max() < 0.05


def test_far_from_the_edge_the_generated_grey_stands():
    mapping, _, stored, generated, aperture = scene()

    grey = mapping.to_grey(Composer(mapping).compose(stored, generated, aperture))

    assert np.abs(grey - generated)[:, :60].max() < 0.001
    assert np.abs(grey - generated)[:70].max() < 0.001


def test_noise_of_the_measured_side_is_not_smeared_outward():
    mapping, truth, stored, generated, aperture = scene(offset=0.0, noise=0.1)

    grey = mapping.to_grey(Composer(mapping).compose(stored, generated, aperture))

    assert np.abs(grey - truth)[~aperture].max() < 0.12
    assert np.abs(grey - truth)[~aperture].mean() < 0.005


def test_a_moving_aperture_is_followed_frame_by_frame():
    mapping, _, stored, generated, aperture = scene()
    composer = Composer(mapping)
    moved = np.roll(aperture, 30, axis=1)

    frames = [composer.compose(stored, generated, mask) for mask in (aperture, moved, aperture)]

    assert np.array_equal(frames[0], frames[2])
    assert np.array_equal(frames[1][moved], stored[moved])
    assert np.array_equal(frames[1], Composer(mapping).compose(stored, generated, moved))


def test_nothing_measured_is_all_generated_and_all_measured_is_the_source():
    mapping, _, stored, generated, aperture = scene()

    assert np.array_equal(Composer(mapping).compose(stored, generated, aperture & False), mapping.to_stored(generated))
    assert np.array_equal(Composer(mapping).compose(stored, generated, aperture | True), stored)
