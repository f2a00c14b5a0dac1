"""Whether a classifier can tell drawn pictures from true ones: on invented pictures, where the answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from benchmarks import plausibility
from benchmarks._classifier import SIDE
from benchmarks.plausibility import (
    Region,
    accuracy,
    auroc,
    compressed_like,
    region_of,
    texture_view,
    verdicts,
    whole_view,
)
from tests.pairs import write_pairs
from training.pairs import aperture_mask, read_pairs

SHAPE = (128, 160)
STEPS = 25


@pytest.fixture(autouse=True)
def small_trainings(monkeypatch):
    """Enough for pictures as plain as these."""
    monkeypatch.setattr(plausibility, "_BATCH", 4)
    monkeypatch.setattr(plausibility, "_PARTS", 2)


def smooth(rng):
    picture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 6)
    return (0.3 * picture / picture.std()).astype(np.float32)


def noise(rng):
    return (0.3 * rng.standard_normal(SHAPE)).astype(np.float32)


def regions(count, drawn):
    """So many regions of unseen scenes, two a scene, and half as many of scenes that the networks learnt."""
    rng = np.random.default_rng(0)
    hidden = ~aperture_mask((0.3, 0.3, 0.6, 0.6), SHAPE)
    return [
        Region(
            true=smooth(rng) * hidden,
            drawn=drawn(rng) * hidden,
            hidden=hidden,
            scene=str(number // 2),
            unseen=number < count,
        )
        for number in range(count * 3 // 2)
    ]


@pytest.mark.parametrize(("view", "looks"), [(texture_view, 4), (whole_view, 1)])
def test_noise_is_told_from_smooth_pictures(view, looks):
    told = verdicts(regions(6, noise), view, looks, seed=0, steps=STEPS)
    assert accuracy(told) > 0.9
    assert auroc(told) > 0.95


def test_two_halves_of_one_distribution_cannot_be_told_apart():
    told = verdicts(regions(30, smooth), texture_view, 2, seed=0, steps=STEPS)
    assert 0.35 < accuracy(told) < 0.65
    assert 0.3 < auroc(told) < 0.7


def test_every_unseen_region_is_judged_once_by_a_classifier_that_has_not_seen_its_scene(monkeypatch):
    all_regions, shown = regions(12, smooth), []
    judged = []

    def view(region, count, _):
        shown.append(region)
        return (np.zeros((count, SIDE, SIDE), np.float32),) * 2

    def train(examples, *_):
        if learnt := train.learnt:
            judged.append((learnt, shown.copy()))
        shown.clear()
        for _ in range(200):
            examples(np.random.default_rng(len(shown)))
        train.learnt = {region.scene for region in shown}
        shown.clear()
        return lambda pictures: torch.zeros(len(pictures), 1)

    train.learnt = None
    monkeypatch.setattr(plausibility, "train_classifier", train)
    verdicts(all_regions, view, 1, seed=0)
    judged.append((train.learnt, shown))
    assert len(judged) == 2
    for learnt, tested in judged:
        assert learnt == {region.scene for region in all_regions} - {region.scene for region in tested}
    assert sorted(id(region) for _, tested in judged for region in tested) == sorted(
        id(region) for region in all_regions if region.unseen
    )


def test_the_verdicts_of_a_seed_are_the_same_again():
    first, again = (verdicts(regions(6, noise), texture_view, 2, seed=3, steps=2) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_accuracy_and_auroc_are_those_of_hand_made_verdicts():
    told = np.array([[-1.0, 2.0], [1.0, 3.0], [-2.0, -1.0], [-3.0, 0.5]])
    assert accuracy(told) == 6 / 8
    # Of 16 couples three are the wrong way round or level.
    assert auroc(told) == (13 + 0.5) / 16


def test_the_aperture_gives_nothing_away(tmp_path):
    pair = read_pairs(write_pairs(tmp_path, side=128, val=1))[0]
    seeds = []

    def reconstruct(cine, apertures, _, *, mode, seed):
        seeds.append((mode, seed))
        return SimpleNamespace(stored=np.where(apertures, cine.stored, 200))

    region = region_of(pair, SimpleNamespace(reconstruct=reconstruct), seed=7)
    aperture = aperture_mask(pair.aperture, (128, 128))
    assert seeds == [("sample", 7)]
    assert not region.hidden[aperture].any()
    assert not region.true[~region.hidden].any()
    assert not region.drawn[~region.hidden].any()
    np.testing.assert_allclose(region.drawn[region.hidden], 200 / 127.5 - 1, atol=1e-6)
    assert region.unseen


def test_a_block_that_the_aperture_touches_is_no_part_of_the_region(tmp_path):
    pair = read_pairs(write_pairs(tmp_path, side=100, val=1))[0]
    reconstructor = SimpleNamespace(reconstruct=lambda cine, *_, **__: SimpleNamespace(stored=cine.stored))
    region = region_of(pair, reconstructor, seed=0)
    aperture = aperture_mask(pair.aperture, (100, 100))
    for top in range(0, 100, 8):
        for left in range(0, 100, 8):
            block = np.s_[top : top + 8, left : left + 8]
            assert not (aperture[block].any() and region.hidden[block].any())


def test_a_drawn_picture_has_the_losses_of_its_pairs_file(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for name in ("coarse.jpg", "fine.jpg", "exact.png"):
        Image.fromarray(picture).save(tmp_path / name, **({"quality": 20} if name == "coarse.jpg" else {}))
        with Image.open(tmp_path / name) as file:
            np.testing.assert_array_equal(compressed_like(tmp_path / name, picture), np.asarray(file))


def test_crops_stay_within_the_picture_and_show_some_of_the_region():
    region = regions(1, noise)[0]
    true, drawn = texture_view(region, 50, np.random.default_rng(0))
    assert true.shape == drawn.shape == (50, SIDE, SIDE)
    for crop, other in zip(true, drawn, strict=True):
        np.testing.assert_array_equal(crop != 0, other != 0)
        assert (crop != 0).any()
