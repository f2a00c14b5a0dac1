"""What a profile knows of itself, at work in the product."""

from dataclasses import replace

import numpy as np
import pytest

from config.errors import Declined, UnfamiliarImage
from config.mark import Mark
from dicom_node.workflow.reconstruction import results_of
from inference.calibration import read_calibration, uncalibrated, write_calibration
from inference.pixels import read_cine
from inference.reconstruct import Reconstructor
from tests.factory import centre, measured, xa


@pytest.fixture
def calibrated(reconstructor):
    """Gives the untrained profile with another calibration."""

    def change(*, limit=None, factors=None):
        weights = reconstructor.weights
        known = weights.calibration
        if limit is not None:
            known = replace(known, familiarity=replace(known.familiarity, limit=np.array([limit], np.float32)))
        if factors is not None:
            known = replace(known, factors=np.array(factors, np.float32))
        return Reconstructor(replace(weights, calibration=known), "cpu")

    return change


def reconstruct(reconstructor, source):
    cine = read_cine(source)
    aperture = measured(centre(*cine.stored.shape[1:]), *cine.stored.shape)
    return reconstructor.reconstruct(cine, aperture, "attributes", mode="mean", seed=3)


def collimated():
    """A frame whose header says what the collimator left open."""
    source = xa(frames=2)
    source.CollimatorShape = "RECTANGULAR"
    source.CollimatorLeftVerticalEdge, source.CollimatorRightVerticalEdge = 16, 48
    source.CollimatorUpperHorizontalEdge, source.CollimatorLowerHorizontalEdge = 16, 48
    return source


def test_a_stranger_is_declined_with_a_sentence_for_people(calibrated):
    with pytest.raises(UnfamiliarImage, match=r"^The image is unlike those that the model was trained on") as caught:
        results_of(collimated(), calibrated(limit=-1), route="all", mark=Mark(), mode="mean")

    assert isinstance(caught.value, Declined)


def test_a_known_picture_is_not_declined(calibrated):
    assert results_of(collimated(), calibrated(limit=1), route="all", mark=Mark(), mode="mean")


def test_strangeness_is_told_whatever_it_is(calibrated):
    assert reconstruct(calibrated(limit=1), xa(frames=5)).strangeness == pytest.approx(np.exp(-1))
    assert reconstruct(calibrated(limit=-1), xa(frames=5)).strangeness == pytest.approx(np.exp(1))


def test_uncertainty_is_half_the_width_of_the_calibrated_interval(calibrated):
    narrow, wide = (reconstruct(calibrated(factors=[f] * 4), xa(frames=1)).uncertainty for f in (1, 3))

    np.testing.assert_allclose(wide, 3 * narrow, rtol=1e-4)
    assert wide.max() > 0


def test_a_calibration_is_read_as_written(tmp_path):
    written = uncalibrated(12)
    write_calibration(written, tmp_path / "calibration.safetensors")

    read = read_calibration(tmp_path / "calibration.safetensors", 12)

    assert np.array_equal(read.factors, written.factors)
    for name, array in vars(written.familiarity).items():
        assert np.array_equal(getattr(read.familiarity, name), array)
