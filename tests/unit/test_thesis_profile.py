"""A profile of the thesis's method: written, verified, and put to use on frames."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from config.errors import ConfigError, WeightsError
from inference.thesis.palette import Palette
from inference.thesis.profile import is_thesis, load_thesis, write_network, write_thesis_card
from inference.thesis.reconstruct import ThesisReconstructor
from inference.thesis.vae import VAE


def small():
    """Networks that are quick, at the thesis's size of pictures."""
    return {"vae": VAE((4, 4, 4)), "palette": Palette(32, (1, 1, 1, 1))}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "old"
    folder.mkdir()
    torch.manual_seed(0)
    for name, network in small().items():
        write_network(network, folder / f"{name}.safetensors")
    write_thesis_card(folder, "1.5", {"vae": {"file": "last.ckpt"}})
    return folder


@pytest.fixture
def profile(written, tmp_path):
    return shutil.copytree(written, tmp_path / "old")


@pytest.fixture(scope="module")
def reconstructor(written):
    return ThesisReconstructor(load_thesis(written, **small()), "cpu")


@pytest.fixture
def frames():
    random = np.random.default_rng(1)
    apertures = np.zeros((2, 256, 256), bool)
    apertures[0, 60:130, 90:200] = True
    apertures[1, 10:50, 20:240] = True
    return random.uniform(-1, 1, (2, 256, 256)).astype(np.float32), apertures


def fault(folder):
    with pytest.raises(WeightsError) as error:
        load_thesis(folder, **small())
    return str(error.value)


def test_a_profile_is_loaded_as_it_was_written(written):
    weights = load_thesis(written, **small())

    digests = [
        hashlib.sha256((written / name).read_bytes()).hexdigest() for name in ("vae.safetensors", "palette.safetensors")
    ]
    assert (weights.profile, weights.version) == ("old", "1.5")
    assert weights.digest == hashlib.sha256("".join(digests).encode()).hexdigest()
    kept = load_file(written / "palette.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights.palette.state_dict().items())
    assert not weights.vae.training and not weights.palette.training


def test_weights_can_be_read_by_the_user_that_a_node_runs_as(written):
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in written.glob("*.safetensors"))


def test_a_profile_says_which_method_it_is_of(profile):
    assert is_thesis(profile)
    assert not is_thesis(profile.parent)
    (profile / "model.json").write_text('{"version": "1", "sha256": {}}')
    assert not is_thesis(profile)
    assert fault(profile) == "weights of profile old are not of the thesis's method"


def test_files_that_are_missing_or_other_than_the_card_says(profile):
    (profile / "vae.safetensors").write_bytes(b"other")
    assert fault(profile) == "weights old/vae.safetensors do not match the digest in model.json; install them again"
    (profile / "vae.safetensors").unlink()
    assert fault(profile) == "weights old/vae.safetensors are missing; install them again"
    (profile / "model.json").unlink()
    assert fault(profile) == "weights of profile old are not installed: model.json is missing"


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"method": "thesis", "version": "1", "sha256": 3}'])
def test_a_card_that_cannot_be_read(profile, content):
    (profile / "model.json").write_text(content)
    assert fault(profile) == "weights of profile old: model.json is damaged; install them again"


def test_weights_that_are_damaged_before_they_are_sealed(profile):
    path = profile / "palette.safetensors"
    whole = path.read_bytes()
    state = load_file(path)
    for spoil, told in (
        (lambda: path.write_bytes(whole[:-100]), "are missing or damaged; install them again"),
        (lambda: save_file({"a": torch.zeros(2)}, path), "belong to another network"),
        (
            lambda: save_file({**state, "last.bias": torch.full((3,), float("nan"))}, path),
            "hold numbers that are not finite",
        ),
    ):
        spoil()
        write_thesis_card(profile, "1.5", {})
        assert fault(profile) == f"weights old/palette.safetensors {told}"


def test_a_draw_keeps_the_frames_own_pixels_in_the_aperture(reconstructor, frames):
    pictures, apertures = frames
    field = reconstructor.generate(pictures, apertures, seed=3, steps=2)

    assert (field.shape, field.dtype) == ((2, 256, 256), np.float32)
    np.testing.assert_allclose(field[apertures], pictures[apertures], atol=1e-6)
    assert np.abs(field[~apertures] - pictures[~apertures]).mean() > 0.1
    assert np.abs(field).max() <= 1


def test_in_the_thesis_protocol_the_full_picture_stands_in_the_aperture(reconstructor, frames):
    pictures, apertures = frames
    full = -pictures
    field = reconstructor.generate(pictures, apertures, seed=3, steps=2, full=full)
    np.testing.assert_allclose(field[apertures], full[apertures], atol=1e-6)


def test_a_draw_follows_from_its_seed_and_its_frame_alone(reconstructor, frames):
    pictures, apertures = frames
    both = reconstructor.generate(pictures, apertures, seed=3, steps=2)
    second = reconstructor.generate(pictures[1:], apertures[1:], seed=3, steps=2)
    other = reconstructor.generate(pictures[1:], apertures[1:], seed=4, steps=2)

    assert np.array_equal(both[1:], second)
    assert not np.array_equal(second, other)


def test_frames_of_any_size_are_drawn_at_256(reconstructor):
    pictures = np.zeros((1, 300, 517), np.float32)
    apertures = np.zeros((1, 300, 517), bool)
    apertures[:, 75:150, 100:400] = True
    pictures[apertures] = 0.5
    field = reconstructor.generate(pictures, apertures, seed=0, steps=1)
    assert field.shape == (1, 256, 256)
    assert field[0, 96, 128] == pytest.approx(0.5, abs=1e-6)


def test_the_share_done_is_told_step_by_step(reconstructor, frames):
    shares = []
    reconstructor.generate(*frames, seed=0, steps=2, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_steps_and_devices_that_there_are_not(reconstructor, frames, written):
    with pytest.raises(ConfigError, match="takes 1 to 1000 steps, not 0"):
        reconstructor.generate(*frames, seed=0, steps=0)
    with pytest.raises(WeightsError):
        # The small networks are not the thesis's.
        ThesisReconstructor.load(written, "cpu")
