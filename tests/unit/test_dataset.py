"""Paired data sets made from a CT, and the check that finds what is wrong with one."""

import json

import numpy as np
import pytest
from PIL import Image

from config.errors import ConfigError
from tests.ct import write_ct
from tests.pairs import APERTURE, COLUMNS, write_pairs, write_table
from training.blades import Rectangle
from training.dataset import SCENE_GAP, make_dataset, scene_of
from training.dataset_check import check_dataset
from training.pairs import aperture_mask, read_pairs, read_picture, scenes_in_two_splits
from training.project import HELD_OUT_PRIMARY_ANGLES, View


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("ct") / "ct.nii.gz")


@pytest.fixture(scope="module")
def made(ct, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "pairs"
    counts = make_dataset(ct, folder, count=30, size=64, seed=2, splits={"train": 0.6, "val": 0.2, "test": 0.2})
    return folder, counts


@pytest.fixture
def folder(tmp_path):
    """A sound data set of three pairs for training and one for validation."""
    return write_pairs(tmp_path / "data", train=3, val=1)


def parameters(folder):
    return json.loads((folder / "parameters.json").read_text())


def test_a_made_data_set_is_one_and_has_no_fault(made):
    folder, counts = made
    pairs = read_pairs(folder)
    assert len(pairs) == sum(counts.values()) == 30
    assert {split: len(read_pairs(folder, split)) for split in ("train", "val", "test")} == counts
    assert read_picture(pairs[0].full).shape == (64, 64)
    assert check_dataset(folder).faults == []


def test_each_split_has_about_its_share_and_no_scene_is_in_two(made):
    folder, counts = made
    assert scenes_in_two_splits(read_pairs(folder)) == []
    assert counts["train"] == pytest.approx(18, abs=4)
    assert min(counts.values()) > 1


def test_views_of_one_scene_are_alike_and_of_two_scenes_are_not(made):
    folder, _ = made
    views = {name: pair["view"] for name, pair in parameters(folder)["pairs"].items()}
    pairs = read_pairs(folder)
    assert len({pair.scene for pair in pairs}) < len(pairs)
    for first in pairs:
        for second in pairs:
            apart = max(
                abs(views[first.id][angle] - views[second.id][angle]) for angle in ("primary_angle", "secondary_angle")
            )
            assert apart <= 8 if first.scene == second.scene else apart >= SCENE_GAP


def test_a_view_between_two_scenes_is_of_neither():
    assert scene_of(View(primary_angle=-1.5, secondary_angle=12.0)) == "-10/+10"
    assert scene_of(View(primary_angle=-8.5, secondary_angle=18.0)) == "-10/+10"
    assert scene_of(View(primary_angle=-0.5, secondary_angle=12.0)) is None
    assert scene_of(View(primary_angle=5.0, secondary_angle=10.5)) is None


def test_the_angles_of_the_shipped_sample_are_left_out(made):
    low, high = HELD_OUT_PRIMARY_ANGLES
    angles = [pair["view"]["primary_angle"] for pair in parameters(made[0])["pairs"].values()]
    assert not any(low <= angle <= high for angle in angles)


def test_the_table_tells_the_aperture_that_the_simulator_was_given(made):
    folder, _ = made
    for pair in read_pairs(folder):
        given = Rectangle(**parameters(folder)["pairs"][pair.id]["aperture"])
        assert (aperture_mask(pair.aperture, (64, 64)) == given.mask((64, 64))).all()


def test_parameters_tell_exposure_and_modality_of_each_pair(made):
    folder, _ = made
    told = parameters(folder)
    assert (told["seed"], told["size"], len(told["ct_sha256"])) == (2, 64, 64)
    assert all(pair["exposure"]["quanta"] > 0 for pair in told["pairs"].values())
    assert {pair["modality"]["kind"] for pair in told["pairs"].values()} == {"LogCurve", "EvenedContrast"}


def test_the_blades_hide_what_the_full_picture_shows(made):
    darker = []
    for pair in read_pairs(made[0]):
        hidden = ~aperture_mask(pair.aperture, (64, 64))
        darker.append(read_picture(pair.full)[hidden].mean() > read_picture(pair.collimated)[hidden].mean())
    assert np.mean(darker) > 0.7


def test_the_same_seed_makes_the_same_data_set_and_another_another(ct, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_dataset(ct, tmp_path / name, count=3, size=64, seed=seed)
    first, again, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    )
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_what_cannot_be_made_is_told_in_one_line(ct, tmp_path):
    with pytest.raises(ConfigError, match="the pairs are of 1 scenes, too few for 2 splits; make more pairs"):
        make_dataset(ct, tmp_path / "one", count=1, size=64)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a").touch()
    with pytest.raises(ConfigError, match="taken: holds something already; choose a new folder"):
        make_dataset(ct, tmp_path / "taken", count=4, size=64)
    with pytest.raises(ConfigError, match=r"none\.nii: not found"):
        make_dataset(tmp_path / "none.nii", tmp_path / "new", count=4, size=64)
    assert not (tmp_path / "new").exists() and not (tmp_path / "one").exists()


def test_a_sound_data_set_is_described(folder):
    findings = check_dataset(folder)
    assert findings.faults == []
    assert findings.facts[:4] == [
        "split train: 3 pairs of 3 scenes",
        "split val: 1 pairs of 1 scenes",
        "sizes: 4 of 128x128",
        "apertures: 12.5% to 12.5% of the picture",
    ]
    pixels = np.stack([np.asarray(Image.open(path)) for path in (folder / "full").iterdir()])
    mean, spread = pixels.mean(), pixels.std(axis=(1, 2)).mean()
    assert findings.facts[4] == f"grey, full field: mean {mean:.1f}, standard deviation {spread:.1f} of 255"


def test_every_fault_is_told_and_not_the_first_alone(folder):
    copy = (folder / "full" / "0.png").read_bytes()
    (folder / "collimated" / "0.png").write_bytes(copy)
    Image.new("L", (128, 128), 90).save(folder / "full" / "1.png")
    (folder / "full" / "2.png").write_bytes(copy[: len(copy) // 2])
    Image.new("L", (64, 64)).save(folder / "collimated" / "3.png")
    write_table(
        folder,
        ("0", *APERTURE, 0, "train"),
        ("1", *APERTURE, 4, "train"),
        ("2", *APERTURE, 4, "val"),
        ("3", *APERTURE, 12, "val"),
        ("4", *APERTURE, 16, "val"),
        ("0", *APERTURE, 0, "train"),
        ("5", 0, 0, 1, 1, 0, "train"),
    )

    assert check_dataset(folder).faults == [
        f"{folder}/pairs.csv, line 5: the full picture is 128x128, the collimated one 64x64",
        f"{folder}/full/4: no PNG or JPEG picture of this name",
        f"{folder}/pairs.csv: id 0 stands in more than one line",
        f"{folder}/pairs.csv, line 8: the aperture leaves no pixel hidden",
        f"{folder}/pairs.csv: scene 4 stands in the splits train and val; split by scene",
        f"{folder}/collimated/0.png: the same file as {folder}/full/0.png",
        f"{folder}/full/1.png: the same grey everywhere",
        f"{folder}/full/2.png: not a readable PNG or JPEG picture",
    ]


def test_an_aperture_that_touches_no_pixel_of_a_small_picture_is_a_fault(folder):
    """256 pixels have one in it, 128 have none."""
    write_table(folder, ("0", 0.2512, 0.1, 0.2535, 0.9, 0, "train"), ("1", *APERTURE, 4, "val"))
    assert check_dataset(folder).faults == [f"{folder}/full/0.png: the aperture leaves no pixel open"]


def test_pictures_that_the_table_does_not_name_are_mentioned(folder):
    write_table(folder, *((str(number), *APERTURE, number, "train") for number in range(3)))
    assert "full/: 1 files that no sound line of pairs.csv names" in check_dataset(folder).facts


def test_a_table_without_a_line_is_a_fault_and_a_missing_one_an_error(folder):
    write_table(folder, columns=COLUMNS)
    assert check_dataset(folder).faults == [f"{folder}/pairs.csv: no pairs"]
    (folder / "pairs.csv").unlink()
    with pytest.raises(ConfigError, match=r"pairs\.csv: not found"):
        check_dataset(folder)
