"""What a training step is shown, and what validation is shown and training never."""

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from tests.pairs import APERTURE, write_pairs, write_table
from training.examples import HELD_OUT_EXAMPLES, Examples, fold_of
from training.pairs import aperture_mask, read_pairs, read_picture
from training.settings import TrainingSettings

#: Where the examples of a batch come from.
KINDS = ("_augmented", "_redrawn", "_on_ct")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_pairs(tmp_path_factory.mktemp("data"), train=3))


def write_views(path, count):
    """Line integrals of so many smooth invented bodies; the number of each is its mean."""
    y, x = np.mgrid[0:96, 0:96] / 96
    shape = np.sin(9 * x) * np.cos(7 * y)
    np.save(path, np.stack([3 + number / count + 0.3 * shape for number in range(count)]).astype(np.float16))
    return path


def shares(*, ct=0.0, redrawn=0.0, several=0.5, seed=1):
    return TrainingSettings(seed=seed, ct_share=ct, redrawn_share=redrawn, several_share=several)


def same(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("full", "collimated", "aperture", "frames", "fold")
    )


@pytest.mark.parametrize("views", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(pairs, tmp_path, views):
    path = write_views(tmp_path / "views.npy", 20) if views else None
    first, again, other = (Examples(pairs, path, TrainingSettings(seed=seed)) for seed in (1, 1, 2))

    again.batch(7, 2)
    assert same(first.batch(3, 4), again.batch(3, 4))
    assert not same(first.batch(3, 4), first.batch(4, 4))
    assert not same(first.batch(3, 4), other.batch(3, 4))
    assert same(first.held_out(pairs), other.held_out(pairs))


@pytest.mark.parametrize("settings", [shares(), shares(redrawn=1), shares(ct=1)], ids=KINDS)
def test_a_batch_is_what_the_networks_take(pairs, tmp_path, settings):
    batch = Examples(pairs, write_views(tmp_path / "views.npy", 20), settings).batch(0, 6)

    for picture in (batch.full, batch.collimated, batch.aperture):
        assert picture.shape == (6, 1, 256, 256) and picture.dtype == torch.float32
        assert torch.isfinite(picture).all()
    assert batch.collimated.min() >= -1 and batch.collimated.max() <= 1
    assert batch.full.min() >= -1.01 and batch.full.max() <= 1.01
    assert set(batch.aperture.unique().tolist()) == {0, 1}
    assert all(0.005 < share < 0.95 for share in batch.aperture.mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (shares(), (32, 0, 0)),
        (shares(redrawn=1), (0, 32, 0)),
        (shares(ct=1), (0, 0, 32)),
        (shares(ct=0.25, redrawn=0.5), (8, 16, 8)),
    ],
)
def test_examples_come_from_pairs_redrawn_objects_and_views_in_their_shares(
    pairs, tmp_path, monkeypatch, settings, expected
):
    drawn = []
    for kind in KINDS:
        draw = getattr(Examples, kind)

        def note(self, *given, kind=kind, draw=draw):
            drawn.append(kind)
            return draw(self, *given)

        monkeypatch.setattr(Examples, kind, note)
    examples = Examples(pairs, write_views(tmp_path / "views.npy", 20), settings)

    for step in range(4):
        examples.batch(step, 8)

    assert [drawn.count(kind) for kind in KINDS] == pytest.approx(expected, abs=6 * (max(expected) < 32))


def test_without_views_their_share_goes_to_the_pairs(pairs):
    with_share, without = (Examples(pairs, None, shares(ct=ct, redrawn=0.4)) for ct in (0.6, 0.0))
    assert same(with_share.batch(0, 4), without.batch(0, 4))


def test_a_redrawn_example_has_the_fold_of_its_pair(pairs):
    batch = Examples(pairs, None, shares(redrawn=1)).batch(0, 12)
    assert set(batch.fold.tolist()) == {fold_of(pair.scene) for pair in pairs}


@pytest.mark.parametrize("settings", [shares(redrawn=1, several=0), shares(ct=1, several=0)])
def test_no_frames_are_averaged_where_none_are_asked_for(pairs, tmp_path, settings):
    examples = Examples(pairs, write_views(tmp_path / "views.npy", 20), settings)
    assert (examples.batch(0, 6).frames == 1).all()


@pytest.mark.parametrize("settings", [shares(redrawn=1), shares(ct=1)], ids=KINDS[1:])
def test_an_average_of_frames_says_how_many_and_shows_less_noise(pairs, tmp_path, settings):
    examples = Examples(pairs, write_views(tmp_path / "views.npy", 20), settings)
    batches = [examples.batch(step, 8) for step in range(6)]
    frames = torch.cat([batch.frames for batch in batches])
    aperture = torch.cat([batch.aperture for batch in batches])

    assert frames.min() == 1 and 2 < frames.max() <= 64
    assert (frames[aperture == 1] == 1).all()
    assert 0.2 < float((frames.amax((1, 2, 3)) > 1).float().mean()) < 0.7


def test_pairs_of_one_exposure_are_averaged_behind_their_blades(tmp_path):
    folder = write_pairs(tmp_path / "data", train=2)
    for kind in ("full", "collimated"):
        (folder / kind / "1.png").write_bytes((folder / kind / "0.png").read_bytes())
    rows = [(number, *APERTURE, "same", "train") for number in range(2)]
    write_table(folder, *rows)
    examples = Examples(read_pairs(folder), None, shares())

    frames = torch.cat([examples.batch(step, 4).frames for step in range(4)])
    assert {round(value, 1) for value in frames.unique().tolist()} >= {1.0, 2.0}
    assert frames.max() == 2


def test_a_fold_that_is_left_out_is_never_shown(pairs, tmp_path):
    views = write_views(tmp_path / "views.npy", 20)
    for fold in range(2):
        batches = [Examples(pairs, views, TrainingSettings(), leave_out=fold).batch(step, 6) for step in range(3)]
        assert {value for batch in batches for value in batch.fold.tolist()} == {1 - fold}


def test_a_data_set_of_one_scene_cannot_be_cut_in_halves(tmp_path):
    folder = write_pairs(tmp_path / "data", train=1)
    [pair] = read_pairs(folder)
    with pytest.raises(ConfigError, match="no pairs are left: the data set has too few scenes"):
        Examples([pair], None, TrainingSettings(), leave_out=fold_of(pair.scene))


def test_validation_sees_the_pairs_as_they_are_and_examples_on_objects_redrawn_from_them(pairs):
    batch = Examples(pairs, None, TrainingSettings()).held_out(pairs)

    assert len(batch.full) == len(pairs) + HELD_OUT_EXAMPLES
    assert set(batch.fold[len(pairs) :].tolist()) == {fold_of(pair.scene) for pair in pairs}
    for index, pair in enumerate(pairs):
        assert np.array_equal(batch.full[index, 0], read_picture(pair.full, 256))
        assert np.array_equal(batch.collimated[index, 0], read_picture(pair.collimated, 256))
        assert np.array_equal(batch.aperture[index, 0] == 1, aperture_mask(APERTURE, (256, 256)))


@pytest.mark.parametrize("count", [2, 5, 40])
def test_validation_sees_views_that_training_never_does(pairs, tmp_path, monkeypatch, count):
    examples = Examples(pairs, write_views(tmp_path / "views.npy", count), shares(ct=1))
    drawn = []
    simulate = Examples._on_ct

    def note(self, rng, first, last, leave_out=None):
        drawn.append(range(first, last))
        return simulate(self, rng, first, last, leave_out)

    monkeypatch.setattr(Examples, "_on_ct", note)
    for step in range(3):
        examples.batch(step, 4)
    training = {view for views in drawn for view in views}
    drawn.clear()
    held_out = examples.held_out(pairs)

    validation = {view for views in drawn for view in views}
    assert training and validation and not training & validation
    assert training | validation == set(range(count))
    assert len(held_out.full) == len(pairs) + 2 * HELD_OUT_EXAMPLES


def test_one_view_alone_is_not_enough(pairs, tmp_path):
    with pytest.raises(ConfigError, match="holds one view"):
        Examples(pairs, write_views(tmp_path / "views.npy", 1), TrainingSettings())
