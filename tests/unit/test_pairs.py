"""Paired data sets: what is read from one, and the one clear sentence that each mistake in it gets."""

import numpy as np
import pytest
from PIL import Image

from config.errors import ConfigError
from tests.pairs import COLUMNS, write_pairs, write_table
from training.pairs import aperture_mask, read_pairs, read_picture


@pytest.fixture
def folder(tmp_path):
    """A data set of one pair, called 0."""
    return write_pairs(tmp_path / "data", train=1)


def mistake(folder):
    """The sentence that reading the data set ends with, without the place of the table."""
    with pytest.raises(ConfigError) as caught:
        read_pairs(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.startswith(str(folder))
    return sentence.removeprefix(f"{folder}/").removeprefix("pairs.csv").removeprefix(":").strip(", ")


def test_pairs_are_read_with_their_pictures(folder):
    [pair] = read_pairs(folder)

    assert (pair.id, pair.scene, pair.split) == ("0", "0", "train")
    assert pair.aperture == (0.25, 0.375, 0.75, 0.625)
    assert (pair.full, pair.collimated) == (folder / "full" / "0.png", folder / "collimated" / "0.png")


def test_scene_and_split_may_be_missing(folder):
    write_table(folder, ("0", 0.1, 0.1, 0.9, 0.9), columns=COLUMNS[:5])

    [pair] = read_pairs(folder)

    assert (pair.scene, pair.split) == ("0", "")


def test_only_a_split_is_read_if_one_is_named(tmp_path):
    folder = write_pairs(tmp_path / "data", train=2, val=1)

    assert [pair.id for pair in read_pairs(folder, "val")] == ["2"]
    assert len(read_pairs(folder)) == 3


def test_a_table_that_a_spreadsheet_wrote_is_read(folder):
    table = folder / "pairs.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())

    assert len(read_pairs(folder)) == 1


def test_a_folder_without_a_table(tmp_path):
    assert mistake(tmp_path) == "not found; a paired data set has full/, collimated/ and pairs.csv"


@pytest.mark.parametrize("column", COLUMNS[:5])
def test_a_missing_column(folder, column):
    write_table(folder, columns=tuple(name for name in COLUMNS if name != column))

    assert mistake(folder) == f"column {column} is missing"


def test_an_empty_table(folder):
    (folder / "pairs.csv").write_text("")
    assert mistake(folder) == "column id is missing"
    write_table(folder)
    assert mistake(folder) == "no pairs"


def test_a_split_that_has_no_pairs(folder):
    with pytest.raises(ConfigError, match=r"pairs\.csv: no pairs in split test$"):
        read_pairs(folder, "test")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("0", "left", 0.1, 0.9, 0.9), "line 2: the aperture's edges must be numbers"),
        (("0", 0.1, 0.1, 0.9), "line 2: the aperture's edges must be numbers"),
        (("0", "", 0.1, 0.9, 0.9), "line 2: the aperture's edges must be numbers"),
        (("0", 0.9, 0.1, 0.1, 0.9), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", 0.1, 0.5, 0.9, 0.5), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", 26, 26, 230, 230), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", -0.1, 0.1, 0.9, 0.9), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", "nan", 0.1, 0.9, 0.9), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", 0.1, 0.1, 0.9, "inf"), "line 2: the aperture's edges must be fractions, left < right, top < bottom"),
        (("0", 0, 0, 1, 1), "line 2: the aperture leaves no pixel hidden"),
        (("0", 0.5001, 0.1, 0.5002, 0.9), "line 2: the aperture leaves no pixel open"),
        (("", 0.1, 0.1, 0.9, 0.9), "line 2: the id is missing"),
        (("1", 0.1, 0.1, 0.9, 0.9), "full/1: no PNG or JPEG picture of this name"),
    ],
)
def test_a_wrong_line(folder, row, sentence):
    write_table(folder, row)

    assert mistake(folder) == sentence


def test_a_line_is_counted_as_an_editor_counts_it(folder):
    table = folder / "pairs.csv"
    table.write_text(table.read_text().replace(",0,train", ',"a scene\nof two lines",train') + "1,0.9,0,0.1,1\n")

    assert mistake(folder).startswith("line 4:")


def test_an_id_that_stands_twice(folder):
    write_table(folder, ("0", 0.1, 0.1, 0.9, 0.9), ("0", 0.1, 0.1, 0.8, 0.8))

    assert mistake(folder) == "id 0 stands in more than one line"


def test_a_picture_that_only_one_side_has(folder):
    (folder / "collimated" / "0.png").unlink()

    assert mistake(folder) == "collimated/0: no PNG or JPEG picture of this name"


@pytest.mark.parametrize("content", ["Jörg".encode("latin-1"), b"a" * 200_000])
def test_a_table_that_is_no_table(folder, content):
    with (folder / "pairs.csv").open("ab") as table:
        table.write(content)

    assert mistake(folder) == "not a table of comma-separated values in UTF-8"


def test_a_picture_is_grey_on_minus_one_to_one(tmp_path):
    Image.fromarray(np.array([[0, 51], [204, 255]], np.uint8)).save(tmp_path / "a.png")

    assert read_picture(tmp_path / "a.png") == pytest.approx(np.array([[-1, -0.6], [0.6, 1]]))
    assert read_picture(tmp_path / "a.png", 8).shape == (8, 8)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_that_is_cut_off(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])

    with pytest.raises(ConfigError, match="not a readable PNG or JPEG picture"):
        read_picture(path)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_whatever_happened_to_a_picture_it_is_read_or_told(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8)).save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[at] ^= int(rng.integers(1, 256))
        path.write_bytes(spoilt)
        try:
            assert read_picture(path, 16).shape == (16, 16)
        except ConfigError as error:
            assert str(path) in str(error)


def test_a_picture_of_16_bits_is_not_silently_cut_to_8(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((32, 32), 3000, np.uint16)).save(path)

    with pytest.raises(ConfigError, match="more than 8 bits"):
        read_picture(path)


def test_a_pixel_is_in_the_aperture_when_its_centre_is():
    mask = aperture_mask((0.25, 0.0, 0.75, 0.4), (5, 4))

    assert mask.tolist() == [[False, True, True, False]] * 2 + [[False] * 4] * 3
