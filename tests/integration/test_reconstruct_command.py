"""`fullfield reconstruct`: files and folders in, result objects and pictures of before and after out, no node."""

import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from tests.dciodvfy import errors_in
from tests.factory import centre, measured, write, xa

NO_PIXELS = "The object has no PixelData (PS3.3 C.7.6.3); the sender must send the image itself."


@pytest.fixture
def reconstruct(fullfield, models):
    """The command with the untrained profile; its exit status, and its lines on standard output and error."""

    def command(*arguments):
        status, out, err = fullfield("reconstruct", *arguments, "--models", models, "--device", "cpu")
        return status, out.splitlines(), [line for line in err.splitlines() if line.strip()]

    return command


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def beside(name):
    """The files of what goes beside a picture, in their order."""
    return [f"{name}-fullfield-{kind}.dcm" for kind in ("marked", "measured", "report", "segmentation")]


def test_a_file_gives_a_valid_result_and_a_picture(reconstruct, tmp_path):
    source = xa(frames=3)
    path = write(source, tmp_path / "cine.dcm")

    status, out, err = reconstruct(path, "-o", tmp_path / "results")

    assert status == 0
    assert out == [f"1 of 1 images reconstructed into {tmp_path / 'results'}."]
    picture = tmp_path / "results" / "cine-fullfield.png"
    assert err == [f"{path}: 3 frames reconstructed into 1 object and 4 beside, shown in {picture}."]
    assert files_in(tmp_path / "results") == [
        *beside("cine"),
        "cine-fullfield.dcm",
        "cine-fullfield.png",
    ]
    result = tmp_path / "results" / "cine-fullfield.dcm"
    assert errors_in(result) == []
    inside = measured(centre(64, 64), 3, 64, 64)
    assert np.array_equal(dcmread(result).pixel_array[inside], source.pixel_array[inside])
    segmentation = tmp_path / "results" / "cine-fullfield-segmentation.dcm"
    assert errors_in(segmentation) == []
    assert np.array_equal(dcmread(segmentation).pixel_array, ~inside)


def test_the_picture_shows_before_and_after_side_by_side(reconstruct, tmp_path):
    source = xa(frames=3, rows=96, columns=128)
    reconstruct(write(source, tmp_path / "cine.dcm"), "-o", tmp_path)

    picture = np.asarray(Image.open(tmp_path / "cine-fullfield.png"))

    before, after = picture[:96, :128], picture[:96, -128:]
    inside = measured(centre(96, 128), 1, 96, 128)[0]
    assert np.array_equal(before[inside], after[inside])
    assert (before[~inside] != after[~inside]).mean() > 0.9
    assert before[inside].mean() > before[~inside].mean() + 50


def test_a_folder_is_looked_through_and_good_and_bad_files_are_told_apart(reconstruct, tmp_path):
    given = tmp_path / "given"
    (given / "deep").mkdir(parents=True)
    write(xa(frames=1), given / "deep" / "good.dcm", JPEGLSLossless)
    write(xa(frames=0), given / "single")
    write(xa(missing=["PixelData"]), given / "empty.dcm")
    write(xa(frames=1), given / "cut.dcm", JPEGLSLossless)
    whole = (given / "cut.dcm").read_bytes()
    (given / "cut.dcm").write_bytes(whole[: len(whole) * 3 // 4])
    (given / "notes.txt").write_text("not an image")

    status, out, err = reconstruct(given, "-o", tmp_path / "results")

    assert status == 0
    assert out == [f"2 of 4 images reconstructed into {tmp_path / 'results'}."]
    assert err == [
        f"{given / 'cut.dcm'}: not reconstructed: "
        "The object is cut off, so that it cannot be read as DICOM; send it again.",
        f"{given / 'deep' / 'good.dcm'}: 1 frame reconstructed into 1 object and 4 beside, shown in "
        f"{tmp_path / 'results' / 'deep' / 'good-fullfield.png'}.",
        f"{given / 'empty.dcm'}: not reconstructed: {NO_PIXELS}",
        f"{given / 'single'}: 1 frame reconstructed into 1 object and 4 beside, shown in "
        f"{tmp_path / 'results' / 'single-fullfield.png'}.",
    ]
    assert files_in(tmp_path / "results") == [
        *beside("deep/good"),
        "deep/good-fullfield.dcm",
        "deep/good-fullfield.png",
        *beside("single"),
        "single-fullfield.dcm",
        "single-fullfield.png",
    ]


def test_a_cine_that_no_multi_frame_class_holds_gives_an_object_a_frame(reconstruct, tmp_path):
    path = write(xa(frames=3, signed=True), tmp_path / "cine.dcm")

    status, _, err = reconstruct(path, "-o", tmp_path / "results")

    assert status == 0
    assert "3 frames reconstructed into 3 objects and 4 beside" in err[0]
    assert files_in(tmp_path / "results") == [
        "cine-fullfield-0001.dcm",
        "cine-fullfield-0002.dcm",
        "cine-fullfield-0003.dcm",
        *beside("cine"),
        "cine-fullfield.png",
    ]


def test_nothing_reconstructed_is_a_failure(reconstruct, tmp_path):
    path = write(xa(missing=["PixelData"]), tmp_path / "empty.dcm")

    status, out, err = reconstruct(path, "-o", tmp_path / "results")

    assert status == 1
    assert out == [f"0 of 1 images reconstructed into {tmp_path / 'results'}."]
    assert err == [f"{path}: not reconstructed: {NO_PIXELS}"]
    assert not (tmp_path / "results").exists()


def test_two_files_of_one_name_do_not_overwrite_each_other(reconstruct, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = [write(xa(frames=1), tmp_path / folder / "cine.dcm") for folder in ("a", "b")]

    status, _, _ = reconstruct(*paths, "-o", tmp_path / "results")

    assert status == 0
    assert files_in(tmp_path / "results") == [
        *beside("cine-2"),
        "cine-2-fullfield.dcm",
        "cine-2-fullfield.png",
        *beside("cine"),
        "cine-fullfield.dcm",
        "cine-fullfield.png",
    ]


def test_a_result_given_again_is_not_reconstructed_once_more(reconstruct, tmp_path):
    reconstruct(write(xa(frames=1), tmp_path / "cine.dcm"), "-o", tmp_path)

    status, _, err = reconstruct(tmp_path / "cine-fullfield.dcm", "-o", tmp_path / "results")

    assert status == 1
    assert err == [
        f"{tmp_path / 'cine-fullfield.dcm'}: not reconstructed: The picture is itself generated (SyntheticData is YES)."
    ]


def test_a_seed_gives_the_same_draw_again_and_another_seed_another(reconstruct, tmp_path):
    path = write(xa(frames=1), tmp_path / "cine.dcm")
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert reconstruct(path, "--mode", "sample", "--seed", seed, "-o", tmp_path / folder)[0] == 0

    first, again, other = (dcmread(tmp_path / folder / "cine-fullfield.dcm") for folder in "abc")

    assert first.PixelData == again.PixelData != other.PixelData
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert "mode sample, seed 5" in first.DerivationDescription


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("missing.dcm", "missing.dcm: there is no such file or folder."),
        ("notes.txt", "notes.txt: is not a DICOM file."),
        ("folder", "There is no DICOM file in folder."),
    ],
)
def test_a_mistake_of_the_user_is_one_line(reconstruct, tmp_path, given, line):
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder").mkdir()

    assert reconstruct(given, "-o", "results") == (1, [], [f"fullfield: {line}"])


def test_an_output_that_is_a_file_is_one_line(reconstruct, tmp_path):
    (tmp_path / "results").write_text("in the way")

    status, out, err = reconstruct(write(xa(frames=1), tmp_path / "cine.dcm"), "-o", "results")

    assert (status, out) == (1, [])
    assert err == ["fullfield: results: File exists."]


def test_a_profile_that_is_not_there_is_one_line(fullfield, tmp_path):
    path = write(xa(frames=1), tmp_path / "cine.dcm")

    status, out, err = fullfield("reconstruct", path, "-o", "results", "--profile", "other", "--models", tmp_path)

    assert (status, out) == (1, "")
    assert err.startswith("fullfield: weights of profile other are not installed: ")


def test_a_changed_weight_is_one_line(fullfield, models, tmp_path):
    shutil.copytree(models, tmp_path / "models")
    with next((tmp_path / "models").rglob("distilled.safetensors")).open("ab") as weights:
        weights.write(b"\0")
    path = write(xa(frames=1), tmp_path / "cine.dcm")

    status, _, err = fullfield("reconstruct", path, "-o", "results", "--models", tmp_path / "models")

    assert status == 1
    assert err == (
        "fullfield: weights fullfield/distilled.safetensors do not match the digest in model.json; install them again\n"
    )
