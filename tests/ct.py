"""A small CT for the tests: a body of water with bones of random places.

write_ct(tmp_path / "ct.nii.gz")
"""

from pathlib import Path

import nibabel
import numpy as np


def write_ct(path: Path, *, seed: int = 0) -> Path:
    """Write a volume of 32x32x24 voxels of 10 mm in Hounsfield units (NIfTI)."""
    x, y, z = np.indices((32, 32, 24)) + 0.5
    hounsfield = np.full(x.shape, -1000, dtype=np.int16)
    hounsfield[((x - 16) / 14) ** 2 + ((y - 16) / 11) ** 2 < 1] = 0
    for middle in np.random.default_rng(seed).uniform((6, 8, 2), (26, 24, 22), (12, 3)):
        hounsfield[sum((axis - at) ** 2 for axis, at in zip((x, y, z), middle, strict=True)) < 5] = 800
    nibabel.save(nibabel.Nifti1Image(hounsfield, np.diag([-10.0, 10.0, 10.0, 1.0])), path)
    return path
