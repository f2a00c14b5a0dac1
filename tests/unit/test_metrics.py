"""The figures of an evaluation, against values worked out another way."""

import numpy as np
import pytest
from scipy import ndimage

from training.metrics import iou, log_spectrum, mse, psnr, ssim


def picture(seed, side=64):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((side, side)), 2) * 3
    return np.clip(smooth + 0.1 * rng.standard_normal(smooth.shape), -1, 1).astype(np.float32)


def similarity(a, b):
    """Wang et al. 2004, equations 13 to 16, with an 11x11 Gaussian of sigma 1.5 and zeros around the picture."""

    def mean(values):
        return ndimage.gaussian_filter(values, 1.5, radius=5, mode="constant", cval=0.0)

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    covariance = mean(a * b) - mean_a * mean_b
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def test_structural_similarity_is_that_of_a_direct_computation():
    a, b = picture(0), picture(1)
    where = np.zeros(a.shape, bool)
    where[10:40, 5:60] = True

    assert ssim(a, b) == pytest.approx(similarity(a, b).mean(), abs=1e-6)
    assert ssim(a, b, where) == pytest.approx(similarity(a, b)[where].mean(), abs=1e-6)
    assert ssim(a[:40], b[:40]) == pytest.approx(similarity(a[:40], b[:40]).mean(), abs=1e-6)


def test_a_picture_is_like_itself_and_unlike_another():
    assert ssim(picture(0), picture(0)) == pytest.approx(1)
    assert ssim(picture(0), picture(1)) < 0.1


def test_squared_error_is_the_mean_over_all_or_over_what_is_asked():
    a, b = np.zeros((4, 4), np.float32), np.full((4, 4), 0.5, np.float32)
    b[0] = -1
    where = np.zeros((4, 4), bool)
    where[0] = True

    assert mse(a, b) == pytest.approx((12 * 0.25 + 4) / 16)
    assert mse(a, b, where) == 1
    assert mse(a, b, ~where) == 0.25


def test_the_peak_is_2_so_an_error_of_4_is_0_db():
    assert psnr(4.0) == 0
    assert psnr(0.04) == pytest.approx(20)
    assert np.isfinite(psnr(0.0))


@pytest.mark.parametrize("frequency", [1, 7, 30, 127])
def test_a_sine_has_its_power_at_its_frequency_alone(frequency):
    waves = np.sin(2 * np.pi * frequency * np.arange(256) / 256)
    spectrum = log_spectrum((0.8 * np.tile(waves, (256, 1)) + 0.1).astype(np.float32))

    assert spectrum.shape == (127,)
    assert spectrum.argmax() == frequency - 1
    # Two lines of (0.8 / 2 * 256^2)^2 each, averaged over the ring of that radius.
    ring = sum(round(float(np.hypot(x, y))) == frequency for x in range(-128, 128) for y in range(-128, 128))
    assert spectrum[frequency - 1] == pytest.approx(np.log10(2 * (0.4 * 256**2) ** 2 / ring), abs=1e-4)
    others = np.delete(spectrum, frequency - 1)
    assert others.max() < spectrum[frequency - 1] - 6


def test_the_spectrum_of_white_noise_is_flat_and_knows_no_mean():
    noise = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    spectrum = log_spectrum(noise)

    assert spectrum[10:].mean() == pytest.approx(np.log10(256**2), abs=0.02)
    assert log_spectrum(noise + 3) == pytest.approx(spectrum, abs=1e-3)


def test_an_empty_picture_has_a_finite_spectrum():
    assert np.isfinite(log_spectrum(np.zeros((256, 256), np.float32))).all()


def test_overlap_is_the_share_of_the_union():
    a, b = np.zeros((2, 10, 10), bool)
    a[:, :6], b[:, 4:] = True, True

    assert iou(a, b) == pytest.approx(0.2)
    assert iou(a, a) == 1
    assert iou(a, ~a) == 0
    assert iou(a & False, b & False) == 1
