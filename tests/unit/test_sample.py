"""The sample cine that the product ships, and the script that draws it."""

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, XRayAngiographicImageStorage
from scipy import ndimage

import dicom_node
from training.blades import Rectangle
from training.project import HELD_OUT_PRIMARY_ANGLES, load_volume
from training.sample import APERTURE, SIZE, expose, make_sample, rotation
from training.sample_header import sample_dataset

SHIPPED = Path(dicom_node.__file__).parent / "sample" / "thorax.dcm"


@pytest.fixture(scope="module")
def shipped():
    return dcmread(SHIPPED)


@pytest.fixture(scope="module")
def small_ct(tmp_path_factory):
    """A body of water with a spine and two lungs, 360 mm wide."""
    left, front, _ = np.indices((36, 36, 30)) - 17.5
    body = np.where((left / 17) ** 2 + (front / 12) ** 2 < 1, 0, -1000)
    body[(np.abs(left) > 5) & (np.abs(left) < 13) & (np.abs(front) < 7)] = -800
    body[(np.abs(left) < 2) & (np.abs(front + 8) < 3)] = 500
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(body.astype(np.int16), np.diag([-10.0, 10.0, 11.0, 1.0])), path)
    return path


def test_the_shipped_sample_is_a_twelve_bit_cine_of_an_invented_patient(shipped):
    assert shipped.SOPClassUID == XRayAngiographicImageStorage
    assert shipped.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert (shipped.NumberOfFrames, shipped.Rows, shipped.Columns) == (24, 512, 512)
    assert (shipped.BitsAllocated, shipped.BitsStored, shipped.PhotometricInterpretation) == (16, 12, "MONOCHROME2")
    assert shipped.PatientName == "Phantom^Thorax"
    assert SHIPPED.stat().st_size < 6_000_000


def test_dciodvfy_finds_no_error_in_the_shipped_sample():
    report = subprocess.run(["dciodvfy", str(SHIPPED)], capture_output=True, text=True, check=False)
    lines = (report.stdout + report.stderr).splitlines()
    assert "XAImage" in lines
    assert [line for line in lines if line.startswith(("Error", "Abort"))] == []


def test_the_collimator_attributes_are_the_edges_that_one_sees(shipped):
    """In shares of its brightness the picture rises most steeply where the blades end."""
    left, right = shipped.CollimatorLeftVerticalEdge - 1, shipped.CollimatorRightVerticalEdge
    top, bottom = shipped.CollimatorUpperHorizontalEdge - 1, shipped.CollimatorLowerHorizontalEdge
    assert (left, top, right, bottom) == (APERTURE.left, APERTURE.top, APERTURE.right, APERTURE.bottom)
    picture = np.mean(shipped.pixel_array, axis=0)
    across = np.median(picture[top + 40 : bottom - 40], axis=0)
    down = np.median(picture[:, left + 40 : right - 40], axis=1)
    for profile, first, last in ((across, left, right), (down, top, bottom)):
        rise = np.diff(np.log(profile + 100))
        assert abs(int(np.argmax(rise[first - 30 : first + 30])) - 30) <= 6
        assert abs(int(np.argmin(rise[last - 30 : last + 30])) - 30) <= 6


def test_the_shipped_c_arm_turns_within_the_angles_kept_from_training(shipped):
    angles = float(shipped.PositionerPrimaryAngle) + np.array(shipped.PositionerPrimaryAngleIncrement, dtype=float)
    low, high = HELD_OUT_PRIMARY_ANGLES
    assert len(angles) == shipped.NumberOfFrames
    assert low <= angles.min() < angles.max() <= high


def test_the_sample_is_drawn_alike_twice_and_decodes_to_what_was_drawn(small_ct, tmp_path):
    truth = tmp_path / "truth.npy"
    make_sample(small_ct, tmp_path / "a.dcm", truth, frames=2, size=64)
    make_sample(small_ct, tmp_path / "b.dcm", frames=2, size=64)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    pixels = dcmread(tmp_path / "a.dcm").pixel_array
    assert pixels.shape == np.load(truth).shape == (2, 64, 64)
    assert pixels.max() < 4096
    assert (np.load(truth) != pixels).any()


def test_compression_changes_no_pixel(tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4096, (3, 32, 32), dtype=np.uint16)
    dataset = sample_dataset(stored, rotation(3), Rectangle(left=8, top=9, right=20, bottom=22))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(dcmread(tmp_path / "a.dcm").pixel_array, stored)


def test_the_aperture_of_the_drawn_cine_shows_the_truth_and_the_rest_mostly_noise(small_ct):
    full, collimated = expose(load_volume(small_ct, reduction=1), rotation(1), 256)
    scale = 256 / SIZE
    inside = np.s_[0, round(APERTURE.top * scale) + 14 : round(APERTURE.bottom * scale) - 14]
    columns = slice(round(APERTURE.left * scale) + 14, round(APERTURE.right * scale) - 14)
    corner = np.s_[0, 20:40, 20:60]
    measured = np.corrcoef(full[inside][:, columns].ravel(), collimated[inside][:, columns].ravel())[0, 1]
    hidden = np.corrcoef(_detail(full[corner]).ravel(), _detail(collimated[corner]).ravel())[0, 1]
    assert measured > 0.6
    assert abs(hidden) < 0.4


def _detail(picture):
    """What is left of a picture without its broad light and dark, which scatter brings behind the blades too."""
    return picture - ndimage.gaussian_filter(picture.astype(float), 3)
