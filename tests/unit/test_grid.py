"""Between a frame's own pixels and the networks' grid."""

import pytest
import torch

from inference.grid import enlarged, reduced, without_weave
from inference.network import FRAME_SIDE


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


def test_what_repeats_with_every_patch_is_halved_and_shapes_stay():
    rows = torch.linspace(-3, 3, FRAME_SIDE)
    shapes = 0.8 * (rows[:, None].sin() * (2 * rows).cos())[None, None]
    weave = torch.tensor([1.0, -1.0, -1.0, 1.0]).repeat(FRAME_SIDE // 4)
    left = without_weave(shapes + 0.05 * weave) - without_weave(shapes)
    assert left[..., 2:-2].abs().max() == pytest.approx(0.025, rel=1e-3)
    assert (without_weave(shapes) - shapes).abs().max() < 0.02
    assert without_weave(torch.full_like(shapes, 0.3)).sub(0.3).abs().max() < 1e-6


def test_an_estimate_is_smoothed_in_single_precision_where_the_networks_compute_in_half(fine):
    with torch.autocast("cpu", torch.bfloat16):
        halved = without_weave(fine)
    assert halved.dtype == torch.float32
    assert torch.equal(halved, without_weave(fine))
