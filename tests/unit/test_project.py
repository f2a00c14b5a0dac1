"""Projections of a CT: the right length of tissue, from the right side."""

import nibabel
import numpy as np
import pytest

from config.errors import ConfigError
from training.project import (
    HELD_OUT_PRIMARY_ANGLES,
    View,
    load_volume,
    project,
    random_view,
    shadow,
    volume,
    write_views,
)

WATER_PER_MM = 0.0192


def _ball(centre_mm=(0, 0, 0), radius=25.0, side=60, voxel=2.0):
    """Air with one ball of water at a place in millimetres to the left, to the front, to the head."""
    left, front, head = (np.arange(side) - (side - 1) / 2) * voxel * np.array([[-1], [1], [1]])
    distance = np.sqrt(
        (left[:, None, None] - centre_mm[0]) ** 2
        + (front[None, :, None] - centre_mm[1]) ** 2
        + (head[None, None] - centre_mm[2]) ** 2
    )
    to_world = np.diag([voxel, voxel, voxel, 1.0])
    return volume(np.where(distance < radius, 0, -1000).astype(np.float32), to_world)


def _middle_of_shadow(integrals):
    rows, columns = np.indices(integrals.shape) + 0.5
    return np.array([(columns * integrals).sum(), (rows * integrals).sum()]) / integrals.sum() / len(integrals)


def test_the_central_ray_counts_the_water_it_crosses():
    integrals = project(_ball(), View(primary_angle=30, secondary_angle=10), 65)
    assert integrals[32, 32] == pytest.approx(50 * WATER_PER_MM, rel=0.04)
    assert integrals.dtype == np.float32
    assert integrals[0, 0] == 0


def test_the_patients_left_is_on_the_right_and_the_head_is_up():
    across, down = _middle_of_shadow(project(_ball((20, 0, 20), radius=10), View(primary_angle=0), 64))
    assert across > 0.52
    assert down < 0.48


def test_a_left_oblique_detector_sees_the_front_move_to_the_right_of_the_patient():
    across, _ = _middle_of_shadow(project(_ball((0, 30, 0), radius=10), View(primary_angle=45), 64))
    assert across < 0.48


def test_a_cranial_detector_sees_the_front_move_towards_the_feet():
    _, down = _middle_of_shadow(project(_ball((0, 30, 0), radius=10), View(primary_angle=0, secondary_angle=30), 64))
    assert down > 0.52


@pytest.mark.parametrize("angles", [(0, 0), (35, 12), (-50, -20)])
def test_a_points_shadow_falls_where_the_projection_shows_it(angles):
    view = View(primary_angle=angles[0], secondary_angle=angles[1], offset=(6.0, -4.0, 10.0))
    seen = _middle_of_shadow(project(_ball((15, -12, 22), radius=8), view, 96))
    expected = shadow(view, np.array([[15.0, -12.0, 22.0]]))[0]
    np.testing.assert_allclose(seen, expected, atol=0.006)


def test_bands_change_nothing():
    ball = _ball()
    view = View(primary_angle=10)
    np.testing.assert_allclose(project(ball, view, 40, band=7), project(ball, view, 40, band=40), atol=1e-5)


def test_the_held_out_angles_are_never_drawn():
    rng = np.random.default_rng(0)
    angles = np.array([random_view(rng).primary_angle for _ in range(2000)])
    low, high = HELD_OUT_PRIMARY_ANGLES
    assert not ((angles >= low) & (angles <= high)).any()
    assert angles.min() < -50
    assert angles.max() > 50


def test_the_same_seed_writes_the_same_views(tmp_path):
    ct = tmp_path / "ct.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 600, (24, 20, 12)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-8.0, 8.0, 12.0, 1.0])), ct)
    for name in ("a.npy", "b.npy"):
        write_views(ct, tmp_path / name, count=3, size=24, seed=4)
    first, second = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 24, 24)
    assert first.dtype == np.float16
    assert not (tmp_path / "a.part").exists()


def test_the_orientation_of_the_file_does_not_matter(tmp_path):
    voxels = np.random.default_rng(1).integers(-1000, 600, (16, 16, 10)).astype(np.int16)
    affine = np.diag([8.0, 8.0, 12.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "straight.nii")
    turned = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    turned[0, 3] = 15 * 8.0
    nibabel.save(nibabel.Nifti1Image(voxels[::-1], turned), tmp_path / "turned.nii")
    views = [
        project(load_volume(tmp_path / name), View(primary_angle=15), 24) for name in ("straight.nii", "turned.nii")
    ]
    np.testing.assert_allclose(views[0], views[1], atol=1e-3)


def test_a_file_that_is_no_ct_is_told_in_one_line(tmp_path):
    def complaint(path):
        with pytest.raises(ConfigError) as caught:
            load_volume(path)
        return str(caught.value).removeprefix(f"{path}: ")

    assert complaint(tmp_path / "none.nii") == "not found"
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(b"no CT at all")
    assert complaint(path) == "not a readable NIfTI file"
    voxels = np.random.default_rng(0).integers(-1000, 600, (16, 16, 10)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-900])
    assert complaint(path) == "not a readable NIfTI file"
    nibabel.save(nibabel.Nifti1Image(voxels[:, :, 0], np.eye(4)), path)
    assert complaint(path) == "holds 16x16 values, which are no CT volume"
