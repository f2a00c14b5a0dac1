"""What a training step is shown, and what validation is shown and training never."""

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from tests.pairs import APERTURE, write_pairs
from training.examples import HELD_OUT_EXAMPLES, Examples
from training.pairs import aperture_mask, read_pairs, read_picture


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_pairs(tmp_path_factory.mktemp("data"), train=3))


def write_views(path, count):
    """Line integrals of so many smooth invented bodies; the number of each is its mean."""
    y, x = np.mgrid[0:96, 0:96] / 96
    shape = np.sin(9 * x) * np.cos(7 * y)
    np.save(path, np.stack([3 + number / count + 0.3 * shape for number in range(count)]).astype(np.float16))
    return path


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("full", "collimated", "aperture"))


@pytest.mark.parametrize("views", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(pairs, tmp_path, views):
    path = write_views(tmp_path / "views.npy", 20) if views else None
    first, again, other = (Examples(pairs, path, seed) for seed in (1, 1, 2))

    again.batch(7, 2)
    assert same(first.batch(3, 4), again.batch(3, 4))
    assert not same(first.batch(3, 4), first.batch(4, 4))
    assert not same(first.batch(3, 4), other.batch(3, 4))
    assert same(first.held_out(pairs), other.held_out(pairs))


def test_a_batch_is_what_the_networks_take(pairs, tmp_path):
    batch = Examples(pairs, write_views(tmp_path / "views.npy", 20), 1).batch(0, 6)

    for picture in (batch.full, batch.collimated, batch.aperture):
        assert picture.shape == (6, 1, 256, 256) and picture.dtype == torch.float32
        assert torch.isfinite(picture).all()
    assert batch.collimated.min() >= -1 and batch.collimated.max() <= 1
    assert batch.full.min() >= -1.01 and batch.full.max() <= 1.01
    assert set(batch.aperture.unique().tolist()) == {0, 1}
    assert all(0.005 < share < 0.95 for share in batch.aperture.mean((1, 2, 3)))


def test_validation_sees_the_pairs_as_they_are(pairs):
    batch = Examples(pairs, None, 1).held_out(pairs)

    assert len(batch.full) == len(pairs)
    for index, pair in enumerate(pairs):
        assert np.array_equal(batch.full[index, 0], read_picture(pair.full, 256))
        assert np.array_equal(batch.collimated[index, 0], read_picture(pair.collimated, 256))
        assert np.array_equal(batch.aperture[index, 0] == 1, aperture_mask(APERTURE, (256, 256)))


@pytest.mark.parametrize("count", [2, 5, 40])
def test_validation_sees_views_that_training_never_does(pairs, tmp_path, monkeypatch, count):
    examples = Examples(pairs, write_views(tmp_path / "views.npy", count), 1)
    drawn = []
    simulate = Examples._simulated

    def note(self, rng, first, last):
        drawn.append(range(first, last))
        return simulate(self, rng, first, last)

    monkeypatch.setattr(Examples, "_simulated", note)
    for step in range(3):
        examples.batch(step, 4)
    training = {view for views in drawn for view in views}
    drawn.clear()
    held_out = examples.held_out(pairs)

    validation = {view for views in drawn for view in views}
    assert training and validation and not training & validation
    assert training | validation == set(range(count))
    assert len(held_out.full) == len(pairs) + HELD_OUT_EXAMPLES


def test_one_view_alone_is_not_enough(pairs, tmp_path):
    with pytest.raises(ConfigError, match="holds one view"):
        Examples(pairs, write_views(tmp_path / "views.npy", 1), 1)
