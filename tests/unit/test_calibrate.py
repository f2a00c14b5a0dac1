"""Calibration: intervals that cover what they have not seen, and a limit of the familiar."""

import numpy as np
import pytest

from config.errors import WeightsError
from inference.calibration import read_calibration
from inference.familiarity import count_traits
from inference.intervals import QUARTER_MIDDLES
from inference.weights import VAE_CHANNELS
from tests.pairs import write_pairs
from tests.weights import PROFILE
from training.calibrate import Scores, calibrate, interval_factors
from training.pairs import read_pairs


def scene(rng, *, real=True, name=None, size=400, spread=1.0, far=False):
    """Errors of a scene whose deviation is too small by `spread`; farther from the aperture twice as much."""
    distance = rng.uniform(0.0 if not far else 0.46, 0.9, size).astype(np.float32)
    error = np.abs(rng.standard_normal(size)) * spread * np.where(distance > 0.45, 2, 1)
    return Scores(
        scene=name or str(rng.integers(1 << 60)),
        real=real,
        score=error.astype(np.float32),
        deviation=np.ones(size, np.float32),
        distance=distance,
    )


def coverage(factors, scores):
    """Share of the pixels covered, near and far."""
    far = scores.distance > 0.45
    return (scores.score[~far] <= factors[0]).mean(), (scores.score[far] <= factors[3]).mean()


def test_intervals_cover_nine_in_ten_pixels_of_other_scenes_near_and_far():
    rng = np.random.default_rng(0)

    factors = interval_factors([scene(rng, spread=1.3) for _ in range(60)])

    near, far = np.mean([coverage(factors, scene(rng, spread=1.3)) for _ in range(200)], axis=0)
    assert near == pytest.approx(0.9, abs=0.01) and far == pytest.approx(0.9, abs=0.01)
    assert factors[:3] == pytest.approx([1.3 * 1.645] * 3, rel=0.05)
    assert factors[3] == pytest.approx(2 * 1.3 * 1.645, rel=0.05)


def test_a_scene_of_many_pictures_counts_as_one():
    rng = np.random.default_rng(1)
    scenes = [scene(rng) for _ in range(20)]
    often = [scene(rng, name="often", spread=3.0) for _ in range(40)]

    once, many = interval_factors([*scenes, often[0]]), interval_factors([*scenes, *often])

    np.testing.assert_allclose(many, once, rtol=0.1)


def test_simulated_scenes_do_not_drown_the_real_ones():
    rng = np.random.default_rng(2)
    real = [scene(rng, spread=2.0) for _ in range(20)]
    few, many = ([scene(rng, real=False) for _ in range(count)] for count in (20, 400))

    np.testing.assert_allclose(interval_factors([*real, *many]), interval_factors([*real, *few]), rtol=0.06)


def test_real_scenes_count_twice_what_simulated_ones_do():
    rng = np.random.default_rng(3)
    real = [scene(rng, spread=2.0) for _ in range(60)]
    simulated = [scene(rng, real=False) for _ in range(60)]

    factors = interval_factors([*real, *simulated])

    held = [coverage(factors, scene(rng, spread=spread))[0] for spread in (2.0, 1.0) for _ in range(100)]
    among_real, among_simulated = np.mean(held[:100]), np.mean(held[100:])
    assert (2 * among_real + among_simulated) / 3 == pytest.approx(0.9, abs=0.01)


def test_few_scenes_that_differ_make_wider_intervals_than_many_that_do():
    spreads = np.linspace(0.5, 2, 6)
    few = [scene(np.random.default_rng(n), spread=s) for n, s in enumerate(spreads)]
    many = [scene(np.random.default_rng(n), spread=s) for n, s in enumerate(np.repeat(spreads, 40))]

    assert (interval_factors(few) > interval_factors(many)).all()


def test_a_quarter_that_no_scene_has_takes_the_factor_of_all():
    factors = interval_factors([scene(np.random.default_rng(n), far=True) for n in range(5)])

    assert np.isfinite(factors).all()
    assert factors[0] == factors[1] == factors[2] == pytest.approx(factors[3], rel=0.01)


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    """A folder with the untrained networks and the pairs that calibrate them."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("aperture", "vae", "distilled"):
        (folder / f"{name}.safetensors").symlink_to(models / PROFILE / f"{name}.safetensors")
    return folder, read_pairs(write_pairs(tmp_path_factory.mktemp("data"), val=2))


def test_a_run_is_calibrated_beside_its_networks(run):
    folder, pairs = run

    path = calibrate(folder, pairs, None)

    assert path == folder / "calibration.safetensors"
    made = read_calibration(path, count_traits(VAE_CHANNELS))
    assert made.factors.shape == (len(QUARTER_MIDDLES),) and (made.factors > 0).all()


def test_calibration_is_the_same_each_time(run):
    folder, pairs = run

    first, second = (calibrate(folder, pairs, None).read_bytes() for _ in range(2))

    assert first == second


def test_networks_that_are_not_there_cannot_be_calibrated(run, tmp_path):
    with pytest.raises(WeightsError, match=r"aperture\.safetensors are missing or damaged"):
        calibrate(tmp_path, run[1], None)
