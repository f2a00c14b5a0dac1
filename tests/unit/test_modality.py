"""The modality's grey levels: what is kept of an exposure, and what is not."""

import numpy as np
import pytest

from training.modality import EvenedContrast, LogCurve, random_modality

SIZE = 128
OPEN_BEAM = 60_000.0


def _quanta():
    rows, columns = np.indices((SIZE, SIZE)) / SIZE
    attenuation = 3.0 + 0.4 * np.sin(rows * 40 + 6 * columns) + 0.3 * np.cos(columns * 25)
    return (OPEN_BEAM * np.exp(-attenuation)).astype(np.float32)


def test_evened_contrast_ignores_how_bright_the_exposure_was():
    modality = EvenedContrast()
    np.testing.assert_allclose(modality.picture(_quanta()), modality.picture(2 * _quanta()), atol=0.01)


def test_an_even_field_is_mid_grey_in_evened_contrast():
    grey = EvenedContrast().picture(np.full((SIZE, SIZE), 5000, dtype=np.float32))
    np.testing.assert_allclose(grey, EvenedContrast().middle, atol=1e-3)


def test_the_log_curve_shows_a_share_of_the_beam_in_one_grey_whatever_lies_around_it():
    curve = LogCurve(open_beam=OPEN_BEAM, enhancement=0)
    quanta = _quanta()
    alone = curve.picture(quanta[:40, :40])
    np.testing.assert_array_equal(curve.picture(quanta)[:40, :40], alone)


def test_the_log_curve_rises_steadily_from_black_to_white():
    curve = LogCurve(open_beam=OPEN_BEAM, enhancement=0, dark=1e-3)
    logarithms = np.linspace(-14, 0, 2001)
    grey = curve.picture((OPEN_BEAM * np.exp(logarithms)).astype(np.float32)[None])[0]
    assert (np.diff(grey) >= 0).all()
    assert grey[0] == pytest.approx(-1, abs=0.02)
    assert grey[logarithms > curve.white].min() == pytest.approx(1, abs=0.01)
    assert np.abs(np.diff(grey)).max() < 0.01


def test_noise_below_zero_quanta_is_black_not_broken():
    grey = LogCurve(open_beam=OPEN_BEAM).picture(np.full((SIZE, SIZE), -50, dtype=np.float32))
    assert np.isfinite(grey).all()
    assert grey.max() < -0.8


def test_training_sees_both_kinds_of_modality():
    rng = np.random.default_rng(0)
    kinds = {type(random_modality(OPEN_BEAM, rng)) for _ in range(30)}
    assert kinds == {EvenedContrast, LogCurve}
