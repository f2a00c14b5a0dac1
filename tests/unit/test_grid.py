"""Between a frame's own pixels and the networks' grid."""

import pytest
import torch

from inference.grid import enlarged, reduced, softened, without_weave
from inference.network import FRAME_SIDE, PATCH


@pytest.fixture
def fine():
    """A picture with as much of every detail that the grid can hold: noise."""
    return torch.randn(1, 1, FRAME_SIDE, FRAME_SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(512, 512), (1024, 768), (300, 421)])
def test_an_enlarged_picture_gives_the_small_one_when_it_is_reduced_again(fine, size):
    again = reduced(enlarged(fine, size))
    plain = reduced(torch.nn.functional.interpolate(fine, size, mode="bicubic"))
    assert enlarged(fine, size).shape == (1, 1, *size)
    assert (again - fine).square().mean() < 0.5 * (plain - fine).square().mean()


@pytest.mark.parametrize("size", [(256, 256), (200, 512)])
def test_a_picture_that_is_nowhere_larger_than_the_grid_is_resized_plainly(fine, size):
    assert torch.equal(enlarged(fine, size), torch.nn.functional.interpolate(fine, size, mode="bicubic"))


def waves():
    rows = torch.linspace(-3, 3, FRAME_SIDE)
    return 0.8 * (rows[:, None].sin() * (2 * rows).cos())[None, None]


def test_what_repeats_with_every_patch_is_taken_away_where_hidden_and_nothing_else():
    shapes, hidden = waves(), torch.ones(1, 1, FRAME_SIDE, FRAME_SIDE)
    hidden[..., 90:150, 40:130] = 0
    noise = 0.1 * torch.randn(shapes.shape, generator=torch.Generator().manual_seed(1))
    weave = torch.randn(PATCH, PATCH, generator=torch.Generator().manual_seed(2)).tile(2 * (FRAME_SIDE // PATCH,))
    woven = shapes + noise + 0.05 * (weave - weave.mean())

    plain, left = without_weave(shapes + noise, hidden), without_weave(woven, hidden)

    # A period of four pixels has a filter's blind spot at none of its lines.
    apart = ((left - plain) * hidden)[..., 24:-24, 24:-24]
    assert apart.abs().max() < 0.05 * 0.05 * weave.abs().max()
    assert torch.equal(left[hidden == 0], woven[hidden == 0])
    # Of a picture's own shapes and noise nearly all stays.
    assert (without_weave(shapes, hidden) - shapes).abs().max() < 5e-3
    assert (plain - shapes - noise).square().mean() < 0.03 * noise.square().mean()


def test_the_apertures_outline_is_no_weave():
    hidden = torch.ones(1, 1, FRAME_SIDE, FRAME_SIDE)
    hidden[..., 88:152, 40:128] = 0
    picture = torch.where(hidden > 0, 0.2, -0.9)
    assert (without_weave(picture, hidden) - picture).abs().max() < 1e-6


def test_where_all_is_measured_there_is_nothing_to_take_away(fine):
    assert torch.equal(without_weave(fine, torch.zeros_like(fine)), fine)


def test_softening_takes_the_finest_detail_and_leaves_shapes():
    shapes = waves()
    stripes = torch.tensor([1.0, -1.0]).repeat(FRAME_SIDE // 2)
    left = softened(shapes + 0.05 * stripes) - softened(shapes)
    assert left[..., 2:-2].abs().max() < 1e-6
    assert (softened(shapes) - shapes).abs().max() < 0.02
    assert softened(torch.full_like(shapes, 0.3)).sub(0.3).abs().max() < 1e-6


@pytest.mark.parametrize("smooth", [softened, lambda picture: without_weave(picture, torch.ones_like(picture))])
def test_grey_levels_stay_in_single_precision_where_the_networks_compute_in_half(fine, smooth):
    with torch.autocast("cpu", torch.bfloat16):
        halved = smooth(fine)
    assert halved.dtype == torch.float32
    assert torch.equal(halved, smooth(fine))
