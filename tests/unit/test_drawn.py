"""Examples drawn ahead of training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from tests.pairs import write_pairs
from training.drawn import PART, DrawnExamples, draw_ahead
from training.examples import Examples
from training.loop import Material, train
from training.pairs import read_pairs
from training.settings import TrainingSettings
from training.train import vae_task

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(redrawn_share=0.5, ct_share=0, steps=2, batch=2, validate_every=1, mixed_precision="no")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_pairs(tmp_path_factory.mktemp("data"), train=4), "train")


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "examples"
    assert draw_ahead(pairs, None, SETTINGS, out, count=PART + 1) == 2 * PART
    return out


def test_what_is_drawn_ahead_is_what_would_be_drawn_on_the_way(pairs, folder):
    drawn, examples = DrawnExamples(folder, SETTINGS), Examples(pairs, None, SETTINGS)
    on_the_way = torch.cat([examples.batch(number, PART).full for number in range(2)])
    batch = drawn.batch(0, 24).to(CPU)

    for picture in batch.full:
        nearest = (on_the_way - picture).abs().amax((1, 2, 3)).min()
        # Whole numbers hold a grey level a hundred times as finely as eight bits do.
        assert nearest < 1 / 32767


def test_an_unpacked_batch_is_what_the_networks_take(folder):
    batch = DrawnExamples(folder, SETTINGS).batch(0, 32).to(CPU)

    assert set(batch.aperture.unique().tolist()) == {0, 1}
    assert batch.collimated.min() >= -1 and batch.collimated.max() <= 1
    assert (batch.frames[batch.aperture == 1] == 1).all() and 1 < batch.frames.max() <= 64
    assert {tensor.dtype for tensor in (batch.full, batch.collimated, batch.frames)} == {torch.float32}


def test_a_batch_depends_on_seed_and_step_alone(folder):
    first, again = (DrawnExamples(folder, SETTINGS) for _ in range(2))
    other = DrawnExamples(folder, SETTINGS.model_copy(update={"seed": 2}))

    again.batch(7, 2)
    assert torch.equal(first.batch(3, 8).pictures, again.batch(3, 8).pictures)
    assert not torch.equal(first.batch(3, 8).pictures, first.batch(4, 8).pictures)
    assert not torch.equal(first.batch(3, 8).pictures, other.batch(3, 8).pictures)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_is_left_out(folder, fold):
    batches = [DrawnExamples(folder, SETTINGS, leave_out=fold).batch(step, 16) for step in range(4)]
    assert set(torch.cat([batch.fold for batch in batches]).tolist()) == {1 - fold}


def test_a_training_learns_from_them_and_says_which(pairs, folder, tmp_path):
    material = Material(training=pairs, validation=pairs[:1], projections=None, drawn=folder)
    weights = train(vae_task(SETTINGS, (32, 32, 32, 32)), material, SETTINGS, tmp_path)

    assert weights.is_file()
    data = json.loads((tmp_path / "vae.json").read_text())["provenance"]["data"]
    assert len(data["examples"]) == 64


def test_other_shares_than_the_trainings_are_refused(folder):
    other = SETTINGS.model_copy(update={"redrawn_share": 0.25})
    with pytest.raises(ConfigError, match=r"drawn with redrawn_share = 0\.5, but the training's is 0\.25; draw anew"):
        DrawnExamples(folder, other)


@pytest.mark.parametrize("about", [None, "{", "[]", '{"shares": {}}'], ids=["empty", "damaged", "list", "no parts"])
def test_a_folder_without_examples_is_refused(tmp_path, about):
    if about is not None:
        (tmp_path / "examples.json").write_text(about)
    with pytest.raises(ConfigError, match="not a folder of examples that `fullfield train draw` wrote"):
        DrawnExamples(tmp_path, SETTINGS)


def test_parts_of_another_kind_are_refused(folder, tmp_path):
    (tmp_path / "examples.json").write_text((folder / "examples.json").read_text())
    np.save(tmp_path / "part-00000.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="not a folder of examples"):
        DrawnExamples(tmp_path, SETTINGS)


def test_examples_are_not_drawn_over_something_else(pairs, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(ConfigError, match="holds something already; choose a new folder"):
        draw_ahead(pairs, None, SETTINGS, tmp_path, count=1)


def test_a_fold_that_nothing_is_left_without_is_refused(pairs, tmp_path):
    alike = [replace(pair, scene=pairs[0].scene) for pair in pairs]
    draw_ahead(alike, None, SETTINGS, tmp_path / "examples", count=1)
    fold = int(DrawnExamples(tmp_path / "examples", SETTINGS).batch(0, 1).fold[0])
    with pytest.raises(ConfigError, match=f"holds no example without fold {fold}; draw more"):
        DrawnExamples(tmp_path / "examples", SETTINGS, leave_out=fold)
