"""The thesis's two training loops, on networks so small that a step takes a moment."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from config.errors import ConfigError, FullfieldError
from inference.thesis.palette import Palette
from inference.thesis.profile import load_thesis
from inference.thesis.schedule import training_schedule
from inference.thesis.vae import VAE
from tests.pairs import write_pairs
from training import thesis
from training.pairs import aperture_mask, read_pairs, read_picture
from training.thesis import (
    PALETTE_SETTINGS,
    VAE_SETTINGS,
    ThesisSettings,
    kaiming,
    seal_thesis,
    train_thesis_palette,
    train_thesis_vae,
)

SETTINGS = ThesisSettings(epochs=2, batch=2, seed=3, save_every=2)
SIDE = 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = write_pairs(tmp_path_factory.mktemp("data"), train=3, val=1)
    return read_pairs(folder, "train"), read_pairs(folder, "val")


@pytest.fixture(scope="module", autouse=True)
def accelerate_starts_anew():
    """Accelerate holds a process to the precision that it began with."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(thesis, "SIDE", SIDE)


def small_vae():
    return VAE((4, 4, 4), latents=SIDE, side=SIDE)


def small_palette():
    return Palette(32, (1, 1, 1, 1))


def fixed_vae():
    torch.manual_seed(0)
    return small_vae()


def teach_vae(pairs, out, **changes):
    return train_thesis_vae(*pairs, out, replace(SETTINGS, **changes), small_vae)


def teach_palette(pairs, out, **changes):
    return train_thesis_palette(fixed_vae(), *pairs, out, replace(SETTINGS, **changes), small_palette)


both = pytest.mark.parametrize("teach", [teach_vae, teach_palette])


def run_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_the_hyperparameters_are_the_thesis_s():
    assert (VAE_SETTINGS.epochs, VAE_SETTINGS.decay, VAE_SETTINGS.ema, thesis.KL_WEIGHT) == (500, 0.95, 0, 7e-7)
    assert (PALETTE_SETTINGS.decay, PALETTE_SETTINGS.ema) == (1, 0.9999)
    for settings in (VAE_SETTINGS, PALETTE_SETTINGS):
        assert (settings.batch, settings.learning_rate, settings.mixed_precision) == (3, 2e-4, "no")


@both
def test_a_run_leaves_weights_a_history_and_its_last_checkpoint(pairs, tmp_path, teach):
    path = teach(pairs, tmp_path)

    history = run_of(path)["history"]
    # Three pictures in batches of two: two steps an epoch, the second of one picture.
    assert [(row["step"], row["epoch"]) for row in history] == [(2, 1.0), (4, 2.0)]
    assert all(0 < row["loss"] < 100 and 0 < row["validation"] < 100 for row in history)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())
    name = path.stem
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"{name}-checkpoint-4",
        f"{name}.json",
        f"{name}.safetensors",
    ]


@both
@pytest.mark.parametrize("first_end", [{"epochs": 1}, {"steps": 3}], ids=["between epochs", "within an epoch"])
def test_a_run_that_goes_on_ends_with_the_weights_of_one_that_never_stopped(pairs, tmp_path, teach, first_end):
    whole = teach(pairs, tmp_path / "whole", decay=0.5)
    teach(pairs, tmp_path / "parts", decay=0.5, **first_end)

    parts = teach(pairs, tmp_path / "parts", decay=0.5)

    assert parts.read_bytes() == whole.read_bytes()
    assert run_of(parts)["history"][-1]["validation"] == run_of(whole)["history"][-1]["validation"]


def test_a_finished_run_is_not_trained_further(pairs, tmp_path):
    before = teach_vae(pairs, tmp_path).read_bytes()
    assert teach_vae(pairs, tmp_path).read_bytes() == before
    assert len(run_of(tmp_path / "vae.json")["history"]) == 2


def test_the_learning_rate_falls_after_each_epoch(pairs, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *arguments, **more):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    teach_vae(pairs, tmp_path, epochs=3, decay=0.95, save_every=100)
    assert rates == pytest.approx([2e-4, 2e-4, 1.9e-4, 1.9e-4, 1.805e-4, 1.805e-4])


def test_each_epoch_takes_every_picture_once_in_another_order(pairs, tmp_path, monkeypatch):
    taken = []
    at = thesis.Views.at

    def watched(self, places, device):
        if len(self.full) == 3:
            taken.append(places)
        return at(self, places, device)

    monkeypatch.setattr(thesis.Views, "at", watched)
    teach_vae(pairs, tmp_path, epochs=4, save_every=100)

    epochs = [taken[step] + taken[step + 1] for step in range(0, 8, 2)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_vae_is_taught_the_collimated_picture_outside_the_aperture(pairs, tmp_path):
    path = teach_vae(pairs, tmp_path, steps=1)
    pair = pairs[1][0]
    hidden = ~aperture_mask(pair.aperture, (SIDE, SIDE))
    target = np.repeat(((read_picture(pair.collimated, SIDE) + 1) / 2 * hidden)[None], 3, axis=0)
    vae = small_vae().eval()
    vae.load_state_dict(load_file(path))
    with torch.no_grad():
        given = vae.decode(vae.encode(torch.from_numpy(target)[None].float())[0])[0].numpy()

    by_hand = float(np.mean((given * hidden - target) ** 2))
    assert run_of(path)["history"][0]["validation"] == pytest.approx(by_hand, rel=1e-4)


class Watched(nn.Module):
    """In Palette's place: tells a noise of nothing but its one parameter, and keeps what it was shown."""

    shown: list

    def __init__(self):
        super().__init__()
        self.told = nn.Parameter(torch.zeros(()))
        type(self).shown = []

    def forward(self, condition, noisy, gamma):
        self.shown.append((condition.detach(), noisy.detach(), gamma.detach()))
        return self.told.expand_as(noisy)


def test_palette_is_shown_known_pixels_and_scored_on_hidden_ones(pairs, tmp_path):
    path = train_thesis_palette(
        fixed_vae(), *pairs, tmp_path, replace(SETTINGS, epochs=20, batch=3, save_every=100), Watched
    )

    training = Watched.shown[:20]
    measured = torch.from_numpy(aperture_mask(pairs[0][0].aperture, (SIDE, SIDE)))
    fulls = torch.stack([torch.from_numpy(read_picture(pair.full, SIDE)) for pair in pairs[0]])
    levels = training_schedule().gamma
    for condition, noisy, gamma in training:
        assert condition.shape == noisy.shape == (3, 3, SIDE, SIDE)
        assert torch.equal(condition[..., measured], noisy[..., measured])
        assert all(any(torch.equal(one[0], full[measured]) for full in fulls) for one in noisy[..., measured])
        assert ((gamma >= levels[-1]) & (gamma <= levels[0])).all()
        # What is left of the picture, and noise beside it: variances of about gamma * 0.1 and 1 - gamma.
        spread = noisy[..., ~measured].var(dim=(1, 2))
        assert torch.allclose(spread, 1 - gamma, atol=0.25)
    gammas = torch.cat([gamma for _, _, gamma in training])
    assert gammas.min() < 0.05 and gammas.max() > 0.9
    # Told nothing, the mean squared error is the share of hidden pixels, for the noise's variance is 1.
    share = 1 - float(measured.float().mean())
    assert run_of(path)["history"][-1]["validation"] == pytest.approx(share, abs=0.02)
    assert run_of(path)["history"][-1]["loss"] == pytest.approx(share, abs=0.02)


def test_what_is_kept_of_palette_is_the_average(pairs, tmp_path):
    paths = [
        train_thesis_palette(
            fixed_vae(), *pairs, tmp_path / str(steps), replace(SETTINGS, steps=steps, ema=0.75, save_every=1), Watched
        )
        for steps in (1, 2)
    ]
    first = load_file(paths[0])["told"]
    second = load_file(tmp_path / "2" / "palette-checkpoint-2" / "model.safetensors")["told"]
    assert not torch.equal(first, second)
    torch.testing.assert_close(load_file(paths[1])["told"], 0.75 * first + 0.25 * second)


def test_palette_begins_with_weights_of_he_and_no_layer_at_zero():
    torch.manual_seed(5)
    palette = kaiming(Palette())
    for layer, fan_in in ((palette.down[10][0].second, 512 * 9), (palette.last, 64 * 9), (palette.middle[1].out, 512)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert not layer.bias.any()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(pairs, tmp_path, monkeypatch):
    divergence, calls = thesis.kl_divergence, []

    def spoilt(mean, log_variance):
        calls.append(0)
        return divergence(mean, log_variance) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(thesis, "kl_divergence", spoilt)
    with pytest.raises(FullfieldError, match="training vae stopped at step 3: the loss is not finite; the last"):
        teach_vae(pairs, tmp_path)
    assert run_of(tmp_path / "vae.safetensors")["history"][-1]["step"] == 2
    assert (tmp_path / "vae-checkpoint-2").is_dir()


def test_a_folder_that_holds_a_run_with_other_settings_is_left_alone(pairs, tmp_path):
    before = teach_vae(pairs, tmp_path).read_bytes()
    with pytest.raises(ConfigError, match=r"vae\.json: holds a run with other settings"):
        teach_vae(pairs, tmp_path, learning_rate=1e-3)
    assert (tmp_path / "vae.safetensors").read_bytes() == before


def test_a_checkpoint_that_cannot_be_resumed_is_told_in_one_line(pairs, tmp_path):
    teach_vae(pairs, tmp_path)
    for file in (tmp_path / "vae-checkpoint-4").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match=r"vae-checkpoint-4: missing or of another network; remove .*vae\.json"):
        teach_vae(pairs, tmp_path, epochs=3)


def test_two_runs_in_one_folder_are_sealed_as_a_profile(pairs, tmp_path):
    teach_vae(pairs, tmp_path)
    with pytest.raises(ConfigError, match="holds no run of palette"):
        seal_thesis(tmp_path, "0.1")
    teach_palette(pairs, tmp_path)

    seal_thesis(tmp_path, "0.1")

    assert load_thesis(tmp_path, small_vae(), small_palette()).version == "0.1"
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["origin"]["palette"]["step"] == 4
    assert card["origin"]["vae"]["settings"]["batch"] == 2
