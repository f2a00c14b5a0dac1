"""From a cine and its apertures to the full field, on networks that have never been trained."""

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from inference.evidence import gather
from inference.grain import grain
from inference.grid import softened, without_weave
from inference.intervals import NORMAL_90
from inference.pixels import read_cine
from inference.precision import autocast
from inference.reconstruct import choose_device
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
    assert (made.mode, made.seed, made.steps, made.device) == ("sample", 11, 2, "cpu")
    assert made.aperture_source == "attributes"
    assert reconstruct(reconstructor, xa(frames=1)).provenance.steps == 0


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


def test_the_best_estimate_is_the_prior_without_its_weave_with_its_calibrated_interval(reconstructor):
    draw = np.random.default_rng(0)
    frames = draw.uniform(-1, 1, (1, 256, 256)).astype(np.float32)
    aperture = measured(Box(60, 50, 200, 190), 1, 256, 256)
    [evidence] = gather(lambda start, stop: frames[start:stop], aperture, aperture)

    field = reconstructor.generate(evidence, mode="mean", seed=0)

    collimated, open_pixels = torch.from_numpy(frames)[None], torch.from_numpy(aperture)[None].float()
    with torch.no_grad(), autocast("cpu"):
        alone = torch.ones_like(open_pixels)
        prior = reconstructor.weights.vae(collimated, open_pixels, alone)
    mean, log_variance = (without_weave(softened(part), 1 - open_pixels) for part in (prior.mean, prior.log_variance))
    np.testing.assert_allclose(field.grey, mean.clamp(-1, 1)[0].numpy(), atol=1e-4)
    half_width = NORMAL_90 * torch.exp(log_variance / 2)[0].numpy()
    np.testing.assert_allclose(field.half_width, half_width, rtol=1e-3)


def test_what_another_frame_saw_of_a_still_view_is_taken_from_there_and_told(reconstructor):
    """The blades move over a view that stands still: the second half of the cine sees what the first one hid."""
    noise = np.random.default_rng(0)
    view = 2000 + 500 * np.sin(np.arange(256) / 9)[:, None] * np.cos(np.arange(256) / 11)
    boxes = [Box(80, 40, 180, 120)] * 4 + [Box(80, 90, 180, 170)] * 4
    aperture = measured(boxes, 8, 256, 256)
    seen = view + noise.normal(0, 3, (8, 256, 256))
    hidden = 300 + 0.05 * view + noise.normal(0, 40, (8, 256, 256))
    source = xa(stored=np.where(aperture, seen, hidden).astype(np.uint16))

    made = reconstructor.reconstruct(read_cine(source), aperture, "attributes", mode="mean", seed=0)

    assert made.elsewhen[0, 132:158, 92:168].mean() > 0.9
    assert not (made.elsewhen & made.aperture).any()
    first_hid = made.elsewhen[0]
    assert np.abs(made.stored[0][first_hid] - view[first_hid]).max() < 20
    assert (made.uncertainty[0][first_hid] == 0).all()
    assert not made.elsewhen[:, :36].any()


@pytest.mark.parametrize("shape", [(512, 512), (300, 401)])
def test_the_grain_is_what_the_measured_region_has_beyond_the_networks_grid(shape):
    frame = np.random.default_rng(0).normal(0, 0.05, shape).astype(np.float32)
    aperture = measured(centre(*shape), 1, *shape)[0]

    drawn = grain(frame, aperture, np.random.default_rng(1))

    assert np.isfinite(drawn).all() and drawn.shape == shape
    assert 0.2 * frame.std() < drawn.std() < 1.2 * frame.std()
    assert abs(float(np.corrcoef(drawn.ravel(), frame.ravel())[0, 1])) < 0.02
    assert not grain(frame[:200, :200], aperture[:200, :200], np.random.default_rng(1)).any()


def test_a_device_that_is_unknown_or_not_there_is_told():
    assert choose_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="device 'tpu' is unknown"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device is available"):
            choose_device("cuda")
