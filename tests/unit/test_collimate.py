"""The simulated exposure: what blades, scatter and noise do to the quanta."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from training.blades import Polygon, Rectangle, random_aperture
from training.collimate import (
    Exposure,
    blade_attenuation,
    detect,
    expected_quanta,
    random_exposure,
    simulate_cine,
    simulate_pair,
)
from training.devices import Cylinder, add_devices, draw, smooth_axis
from training.modality import EvenedContrast, random_modality

SIZE = 128
WINDOW = Rectangle(left=40, top=36, right=96, bottom=84)
OPEN = Exposure(margin=0, scatter_to_primary=0)


def _anatomy(seed=0):
    rows, columns = np.indices((SIZE, SIZE)) / SIZE
    ribs = 0.4 * np.sin(rows * 40 + 6 * columns) + 0.3 * np.cos(columns * 25)
    return (3.0 + ribs + 0.02 * np.random.default_rng(seed).standard_normal((SIZE, SIZE))).astype(np.float32)


def _evened(exposure):
    return simulate_pair(_anatomy(), WINDOW, exposure, EvenedContrast(), np.random.default_rng(3))


def _deep_inside():
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[WINDOW.top + 10 : WINDOW.bottom - 10, WINDOW.left + 10 : WINDOW.right - 10] = True
    return inside


def test_the_open_beam_follows_beer_and_lambert():
    quanta = expected_quanta(_anatomy(), None, OPEN)
    np.testing.assert_allclose(quanta, OPEN.quanta * np.exp(-_anatomy()), rtol=1e-5)


def test_the_blades_leave_the_middle_of_the_aperture_open():
    collimated = expected_quanta(_anatomy(), WINDOW, OPEN)
    np.testing.assert_allclose(collimated[_deep_inside()], expected_quanta(_anatomy(), None, OPEN)[_deep_inside()])


def test_each_pair_of_blades_passes_its_share_and_the_corners_both():
    transmitted = np.exp(-blade_attenuation((SIZE, SIZE), WINDOW, OPEN))
    sides, ends = OPEN.transmission
    assert transmitted[60, 5] == pytest.approx(sides, rel=1e-5)
    assert transmitted[5, 60] == pytest.approx(ends, rel=1e-5)
    assert transmitted[5, 5] == pytest.approx(sides * ends, rel=1e-5)


def test_the_penumbra_rises_steadily_from_the_apertures_edge_inwards():
    row = blade_attenuation((SIZE, SIZE), WINDOW, OPEN)[60]
    taper = int(np.ceil(OPEN.penumbra * SIZE))
    ramp = row[WINDOW.left - 1 : WINDOW.left + taper + 1]
    assert (np.diff(ramp) < 0).any()
    assert (np.diff(ramp) <= 0).all()
    assert ramp[-1] == 0
    assert ramp[0] == row[0]


def test_an_aperture_that_ends_at_the_rim_has_no_blade_there():
    at_the_rim = Rectangle(left=0, top=0, right=50, bottom=50)
    assert blade_attenuation((SIZE, SIZE), at_the_rim, OPEN)[10, 0] == 0


def test_scatter_reaches_behind_the_blades_and_fades_with_distance():
    scattering = replace(OPEN, scatter_to_primary=1.0, transmission=(1e-6, 1e-6))
    quanta = expected_quanta(_anatomy(), WINDOW, scattering)
    assert quanta[60, 30] > quanta[60, 10] > 0
    assert quanta[60, 30] < 0.5 * quanta[60, 68]


def test_the_hidden_field_is_darker_than_the_aperture():
    quanta = detect(_anatomy(), WINDOW, Exposure(), np.random.default_rng(0))
    hidden = ~WINDOW.mask((SIZE, SIZE))
    assert quanta[hidden].mean() < 0.1 * quanta[_deep_inside()].mean()


def test_quantum_noise_has_the_variance_of_its_mean():
    quiet = replace(OPEN, electronic_noise=0, line_noise=0, digit=1e-3, blur=1e-3)
    flat = np.full((512, 512), 3.0, dtype=np.float32)
    quanta = detect(flat, None, quiet, np.random.default_rng(0))
    assert quanta.var() == pytest.approx(quanta.mean(), rel=0.02)


def test_a_reduced_picture_has_the_noise_of_its_share_of_native_pixels():
    quiet = replace(OPEN, electronic_noise=0, line_noise=0, digit=1e-3, blur=1e-3)
    flat = np.full((256, 256), 3.0, dtype=np.float32)
    quanta = detect(flat, None, quiet, np.random.default_rng(0))
    assert quanta.var() == pytest.approx(quanta.mean() / 4, rel=0.04)


def test_the_apertures_anatomy_is_that_of_the_full_field():
    full, collimated = _evened(Exposure(quanta=1e6))
    assert np.corrcoef(full[_deep_inside()], collimated[_deep_inside()])[0, 1] > 0.8


def test_a_faint_copy_of_the_anatomy_remains_behind_thin_blades_and_none_behind_thick_ones():
    far = np.zeros((SIZE, SIZE), dtype=bool)
    far[WINDOW.top + 8 : WINDOW.bottom - 8, 8:28] = True

    def likeness(transmission):
        exposure = Exposure(quanta=1e6, transmission=transmission, scatter_to_primary=0.05, line_noise=0)
        full, collimated = _evened(exposure)
        return np.corrcoef(full[far], collimated[far])[0, 1]

    assert likeness((0.02, 0.02)) > 0.3
    assert abs(likeness((1e-9, 1e-9))) < 0.1


def test_leakage_arrives_behind_both_pairs_of_blades_and_changes_nothing_in_the_open():
    tight = replace(OPEN, transmission=(1e-6, 1e-6), leakage=1e-3)
    passed = np.exp(-blade_attenuation((SIZE, SIZE), WINDOW, tight))
    assert passed[4, 4] == pytest.approx(1e-3, rel=1e-2)
    assert passed[60, 4] == pytest.approx(1e-3, rel=1e-2)
    assert passed[60, 68] == pytest.approx(1)


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([96, 128, 200]))
def test_every_random_pair_is_a_pair_of_frames(seed, size):
    rng = np.random.default_rng(seed)
    anatomy = rng.uniform(0, 8) + 0.3 * rng.standard_normal((size, size)).astype(np.float32)
    aperture = random_aperture((size, size), rng)
    exposure = random_exposure(rng)
    modality = random_modality(exposure.quanta, rng)
    pair = simulate_pair(np.abs(anatomy).astype(np.float32), aperture, exposure, modality, rng)
    for frame in pair:
        assert frame.shape == (size, size)
        assert frame.dtype == np.float32
        assert np.isfinite(frame).all()
        assert -1 <= frame.min() <= frame.max() <= 1


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(64, 300), width=st.integers(64, 300))
def test_every_random_aperture_leaves_something_open_and_something_to_hide(seed, height, width):
    aperture = random_aperture((height, width), np.random.default_rng(seed))
    assert 0.005 < aperture.mask((height, width)).mean() < 0.92


@given(seed=st.integers(0, 2**32 - 1))
def test_beyond_its_outline_every_random_aperture_hides_and_deep_inside_it_hides_nothing(seed):
    aperture = random_aperture((SIZE, SIZE), np.random.default_rng(seed))
    attenuation = aperture.attenuation((SIZE, SIZE), 3.0, (0.01, 0.02))
    open_field = aperture.mask((SIZE, SIZE))
    assert attenuation[~open_field].min() >= -np.log(0.02) - 1e-9
    assert attenuation[open_field].max() <= -np.log(0.01) * 2
    # A blade may end just outside the picture and reach into it with its penumbra.
    inside = ndimage.distance_transform_edt(np.pad(open_field, 1))[1:-1, 1:-1]
    assert (attenuation[inside > 6] == 0).all()


def test_a_polygon_of_four_upright_blades_is_a_rectangle():
    corners = np.array([[40.0, 36], [96, 36], [96, 84], [40, 84]])
    polygon = Polygon(corners=corners)
    assert (polygon.mask((SIZE, SIZE)) == WINDOW.mask((SIZE, SIZE))).all()
    expected = WINDOW.attenuation((SIZE, SIZE), 3.0, (0.01, 0.02))
    np.testing.assert_allclose(polygon.attenuation((SIZE, SIZE), 3.0, (0.01, 0.02)), expected, atol=0.1, rtol=0.2)


def test_the_exposures_of_a_still_anatomy_differ_in_their_noise_alone():
    exposures = simulate_cine(_anatomy(), WINDOW, Exposure(), EvenedContrast(), np.random.default_rng(0))
    several = np.stack([next(exposures) for _ in range(8)])
    assert not np.array_equal(several[0], several[1])
    far = np.s_[:, 90:, :30]
    assert several[far].mean(axis=0).std() < 0.6 * several[far].std()


def test_the_same_seed_gives_the_same_pair():
    first, second = (_evened(Exposure()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_wire_adds_attenuation_along_its_way_only():
    axis = smooth_axis(np.array([[0.2, 0.5], [0.4, 0.5], [0.6, 0.5], [0.8, 0.5]]))
    empty = np.zeros((SIZE, SIZE), dtype=np.float32)
    drawn = draw(empty, Cylinder(axis=axis, radius=0.02, attenuation=0.7))
    assert drawn[SIZE // 2, SIZE // 2] == pytest.approx(0.7, rel=0.1)
    assert drawn[: SIZE // 2 - 6].max() == 0
    assert empty.max() == 0


@given(seed=st.integers(0, 2**32 - 1))
def test_devices_only_ever_take_quanta_away(seed):
    anatomy = _anatomy()
    assert (add_devices(anatomy, np.random.default_rng(seed)) >= anatomy).all()
