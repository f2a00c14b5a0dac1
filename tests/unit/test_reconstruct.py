"""From a cine and its apertures to the full field, on networks that have never been trained."""

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from inference.palette import RESIDUAL_SCALE, condition
from inference.pixels import read_cine
from inference.reconstruct import choose_device
from inference.sampler import SIGMA_MAX
from tests.factory import Box, centre, measured, xa


def reconstruct(reconstructor, source, aperture=None, *, mode="mean", seed=3, **options):
    cine = read_cine(source)
    if aperture is None:
        aperture = measured(centre(*cine.stored.shape[1:]), *cine.stored.shape)
    return reconstructor.reconstruct(cine, aperture, "attributes", mode=mode, seed=seed, **options)


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_measured_pixels_stay_and_only_the_others_are_uncertain(reconstructor, mode):
    source = xa(frames=2, rows=80, columns=48)
    made = reconstruct(reconstructor, source, mode=mode)

    inside = made.aperture
    assert made.stored.dtype == np.uint16
    assert np.array_equal(made.stored[inside], source.pixel_array[inside])
    assert not np.array_equal(made.stored[~inside], source.pixel_array[~inside])
    assert made.stored.max() < 4096
    assert (made.uncertainty[inside] == 0).all() and (made.uncertainty[~inside] > 0).all()


def test_it_is_told_what_made_the_pixels(reconstructor):
    made = reconstruct(reconstructor, xa(frames=1), mode="sample", seed=11).provenance

    assert (made.model, made.version, made.digest) == ("fullfield", "0.0", reconstructor.weights.digest)
    assert (made.mode, made.seed, made.steps, made.device) == ("sample", 11, 6, "cpu")
    assert made.aperture_source == "attributes"
    assert reconstruct(reconstructor, xa(frames=1)).provenance.steps == 1


def test_progress_rises_to_all(reconstructor):
    told = []
    reconstruct(reconstructor, xa(frames=6), progress=told.append)

    assert told == sorted(told) and told[0] > 0 and told[-1] == 1


def test_a_seed_gives_the_same_draw_again_and_the_best_estimate_needs_none(reconstructor):
    source = xa(frames=1)

    def stored(mode, seed):
        return reconstruct(reconstructor, source, mode=mode, seed=seed).stored

    assert np.array_equal(stored("sample", 1), stored("sample", 1))
    assert not np.array_equal(stored("sample", 1), stored("sample", 2))
    assert np.array_equal(stored("mean", 1), stored("mean", 2))


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_a_still_picture_does_not_flicker_wherever_its_frames_stand(reconstructor, mode):
    still = np.repeat(xa(frames=1).pixel_array[None], 5, axis=0)
    made = reconstruct(reconstructor, xa(stored=still), mode=mode)

    levels = made.stored.astype(int)
    assert np.abs(levels - levels[0]).max() <= 1  # as many frames at once as there are may round otherwise


def test_each_frame_has_its_own_aperture_and_one_that_is_open_stays_as_it_is(reconstructor):
    source = xa(frames=3)
    boxes = [Box(8, 8, 30, 40), Box(0, 0, 64, 64), Box(20, 8, 42, 40)]
    made = reconstruct(reconstructor, source, measured(boxes, 3, 64, 64))

    assert np.array_equal(made.stored[1], source.pixel_array[1])
    assert (made.uncertainty[1] == 0).all()
    for index in (0, 2):
        box = boxes[index]
        window = np.s_[box.top : box.bottom, box.left : box.right]
        assert np.array_equal(made.stored[index][window], source.pixel_array[index][window])
        assert not np.array_equal(made.stored[index], source.pixel_array[index])


def test_the_best_estimate_is_the_prior_plus_the_residual_where_the_field_is_hidden(reconstructor):
    draw = np.random.default_rng(0)
    frames = draw.uniform(-1, 1, (1, 256, 256)).astype(np.float32)
    aperture = measured(Box(60, 50, 200, 190), 1, 256, 256)

    field = reconstructor.generate(frames, aperture, mode="mean", seed=0)

    collimated, open_pixels = torch.from_numpy(frames)[None], torch.from_numpy(aperture)[None].float()
    with torch.no_grad():
        alone = torch.ones_like(open_pixels)
        prior = reconstructor.weights.vae(collimated, open_pixels, alone)
        seen = condition(collimated, open_pixels, alone, prior.mean)
        nothing = torch.zeros(1, 1, 256, 256)
        residual = reconstructor.weights.palette(nothing, torch.tensor([SIGMA_MAX]), seen) * (1 - open_pixels)
    grey = (prior.mean + RESIDUAL_SCALE * residual).clamp(-1, 1)[0].numpy()
    np.testing.assert_allclose(field.grey, grey, atol=1e-4)
    np.testing.assert_allclose(field.deviation, torch.exp(prior.log_variance / 2)[0].numpy(), rtol=1e-3)


def test_a_device_that_is_unknown_or_not_there_is_told():
    assert choose_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="device 'tpu' is unknown"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device is available"):
            choose_device("cuda")
