"""Memory that gives out on the way: fewer frames at once, then the cpu, the same pictures, and a word of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from inference.calibration import uncalibrated
from inference.familiarity import count_traits
from inference.find_aperture import ApertureFinder
from inference.palette import Palette
from inference.pixels import read_cine
from inference.reconstruct import Reconstructor
from inference.vae import VAE
from inference.weights import Weights
from tests.factory import centre, measured, xa

CHANNELS = (16, 16, 32, 32)

pytestmark = pytest.mark.usefixtures("gpu")


class Cramped(nn.Module):
    """A network on a GPU whose memory holds so many frames at once, until it is moved to the cpu."""

    def __init__(self, network, most, *, from_call=0):
        super().__init__()
        self.network, self.most, self.from_call = network, most, from_call
        self.device, self.batches = "", []

    def to(self, device, **options):
        self.device = device
        return super().to(device, **options)

    def forward(self, pictures, *others):
        self.batches.append(len(pictures))
        if self.device == "cuda" and len(pictures) > self.most and len(self.batches) > self.from_call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.network(pictures, *others)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is main memory under another name."""
    move = torch.Tensor.to

    def pretend(tensor, *args, **options):
        return move(tensor, *("cpu" if str(arg) == "cuda" else arg for arg in args), **options)

    monkeypatch.setattr(torch.Tensor, "to", pretend)
    # Without one, autocast warns that it does nothing.
    monkeypatch.setattr("inference.reconstruct.autocast", lambda _: torch.autocast("cpu", enabled=False))


@pytest.fixture
def source():
    return xa(frames=5)


def small():
    """Networks that are quick, and the same each time."""
    torch.manual_seed(0)
    vae = VAE(CHANNELS, 4).eval()
    nn.init.normal_(vae.decoder.out.weight, std=0.1)
    return Weights(
        profile="small",
        version="0.0",
        digest="",
        finder=ApertureFinder(CHANNELS).eval(),
        vae=vae,
        palette=Palette(CHANNELS).eval(),
        calibration=uncalibrated(count_traits(CHANNELS)),
    )


def cramped(name, most, **options):
    """A reconstructor on the GPU, and that one of its networks that has too little room."""
    weights = small()
    network = Cramped(getattr(weights, name), most, **options)
    return Reconstructor(replace(weights, **{name: network}), "cuda"), network


def roomy():
    return Reconstructor(small(), "cuda")


def reconstruct(reconstructor, source, mode="sample"):
    cine = read_cine(source)
    aperture = measured(centre(*cine.stored.shape[1:]), *cine.stored.shape)
    return reconstructor.reconstruct(cine, aperture, "attributes", mode=mode, seed=3)


def assert_same_pictures(first, second):
    assert np.abs(first.stored.astype(int) - second.stored).max() <= 1  # other batches may round otherwise
    np.testing.assert_allclose(first.uncertainty, second.uncertainty, rtol=1e-3)
    assert first.strangeness == pytest.approx(second.strangeness, rel=1e-3)


@pytest.mark.parametrize("mode", ["mean", "sample"])
@pytest.mark.parametrize("most", [1, 3])
def test_fewer_frames_at_once_give_the_same_pictures(source, mode, most):
    reconstructor, _ = cramped("vae", most)

    made = reconstruct(reconstructor, source, mode)

    assert_same_pictures(made, reconstruct(roomy(), source, mode))
    assert made.provenance.device == reconstructor.device == "cuda"


def test_the_smaller_number_is_told_and_remembered(source, caplog):
    reconstructor, vae = cramped("vae", 3)

    for _ in range(2):
        reconstruct(reconstructor, source)

    assert vae.batches == [5, 2, 2, 1, 2, 2, 1]
    assert caplog.messages == [
        "The memory of cuda does not hold 5 frames at once; from now on at most 2 go through the networks together."
    ]
    assert caplog.records[0].levelname == "WARNING"


def test_where_not_one_frame_fits_the_cpu_takes_over_and_says_so_once(source, caplog):
    reconstructor, vae = cramped("vae", 0)

    made, again = (reconstruct(reconstructor, source) for _ in range(2))

    assert_same_pictures(made, reconstruct(roomy(), source))
    assert made.provenance.device == again.provenance.device == reconstructor.device == vae.device == "cpu"
    told = "The memory of cuda does not suffice; the networks run on the cpu from now on."
    assert caplog.messages.count(told) == 1 and caplog.messages[-1] == told


def test_a_cine_made_on_both_devices_names_both(source, monkeypatch):
    """The memory holds the first batch, until something else takes it."""
    monkeypatch.setattr("inference.reconstruct._BATCH", {"cuda": 3, "cpu": 3})
    reconstructor, _ = cramped("vae", 0, from_call=1)

    made = reconstruct(reconstructor, source, "mean")

    assert made.provenance.device == "cuda and cpu"
    assert reconstruct(reconstructor, source, "mean").provenance.device == "cpu"


@pytest.mark.parametrize("most", [0, 2])
def test_apertures_are_found_in_the_memory_there_is(most):
    frames = np.random.default_rng(0).uniform(-1, 1, (5, 64, 48)).astype(np.float32)
    reconstructor, finder = cramped("finder", most)

    found = reconstructor.find_apertures(frames)

    assert np.array_equal(found, roomy().find_apertures(frames))
    assert reconstructor.device == ("cuda" if most else "cpu")
    assert finder.batches == ([5, 2, 2, 1] if most else [5, 2, 1, 5])


def test_frames_too_large_to_be_reduced_on_the_gpu_are_reduced_on_the_cpu(source, monkeypatch):
    reconstructor = roomy()
    interpolate = nn.functional.interpolate

    def exhausted(pictures, *args, **options):
        if reconstructor.device == "cuda":
            raise torch.OutOfMemoryError
        return interpolate(pictures, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(nn.functional, "interpolate", exhausted)
        made = reconstruct(reconstructor, source)

    assert made.provenance.device == "cpu"
    assert_same_pictures(made, reconstruct(Reconstructor(small(), "cpu"), source))


def test_networks_that_do_not_fit_at_all_are_loaded_on_the_cpu(monkeypatch, caplog):
    weights = small()
    move = weights.vae.to

    def exhausted(device, **options):
        if device == "cuda":
            raise torch.OutOfMemoryError
        return move(device, **options)

    monkeypatch.setattr(weights.vae, "to", exhausted)

    assert Reconstructor(weights, "cuda").device == "cpu"
    assert len(caplog.messages) == 1


def test_any_other_error_of_the_networks_stays_one(source, monkeypatch):
    reconstructor, vae = cramped("vae", 0)

    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(vae, "forward", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        reconstruct(reconstructor, source)
    assert reconstructor.device == "cuda"


def test_main_memory_that_does_not_suffice_ends_the_attempt(source, monkeypatch):
    reconstructor = Reconstructor(small(), "cpu")

    def exhausted(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(reconstructor.weights.vae, "forward", exhausted)
    with pytest.raises(MemoryError, match="does not hold the networks and a single frame"):
        reconstruct(reconstructor, source)
