"""`fullfield dataset`: from a CT to pairs that a training takes."""

import pytest
from accelerate.state import AcceleratorState

from tests.ct import write_ct
from tests.pairs import write_pairs


@pytest.fixture(autouse=True)
def accelerate_starts_anew():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_what_is_made_passes_the_check_and_can_be_trained_on(fullfield, tmp_path):
    ct, pairs = write_ct(tmp_path / "ct.nii.gz"), tmp_path / "pairs"

    words = ("--count", 6, "--size", 64, "--seed", 1, "--split", "train=2,val=1")
    status, out, err = fullfield("dataset", "make", ct, "-o", pairs, *words)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith(f"6 pairs in {pairs}: ")

    status, out, _ = fullfield("dataset", "check", pairs)
    assert (status, out.splitlines()[-1]) == (0, "no fault found")

    run = ("-o", tmp_path / "run", "--steps", 1, "--batch", 1)
    status, out, _ = fullfield("train", "aperture", "--data", pairs, *run, "--precision", "no", "--dry-run")
    assert status == 0
    assert "of 1 pictures" in out


def test_faults_are_lines_on_standard_error_and_status_1(fullfield, tmp_path):
    data = write_pairs(tmp_path / "data", train=2, val=1)
    for name in ("0", "2"):
        (data / "full" / f"{name}.png").unlink()

    status, out, err = fullfield("dataset", "check", data)

    assert status == 1
    assert out.startswith("split train: 1 pairs of 1 scenes\n")
    assert err.splitlines() == [
        f"fullfield: {data}/full/0: no PNG or JPEG picture of this name",
        f"fullfield: {data}/full/2: no PNG or JPEG picture of this name",
    ]


@pytest.mark.parametrize("split", ["train", "train=", "train=half", "=0.5", "train=-1,val=1", "train=nan", ""])
def test_splits_that_are_none_are_told_in_one_line(fullfield, tmp_path, split):
    ct = write_ct(tmp_path / "ct.nii.gz")
    status, out, err = fullfield("dataset", "make", ct, "-o", tmp_path / "pairs", "--count", 2, "--split", split)
    assert (status, out) == (1, "")
    assert err == (
        f"fullfield: --split {split}: write NAME=SHARE,NAME=SHARE with shares above 0, such as train=0.8,val=0.2\n"
    )


def test_a_ct_that_is_none_is_told_in_one_line(fullfield, tmp_path):
    (tmp_path / "ct.nii").write_bytes(b"no CT")
    status, _, err = fullfield("dataset", "make", tmp_path / "ct.nii", "-o", tmp_path / "pairs", "--count", 2)
    assert (status, err) == (1, f"fullfield: {tmp_path / 'ct.nii'}: not a readable NIfTI file\n")
