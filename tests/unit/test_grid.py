"""Between a frame's own pixels and the networks' grid."""

import pytest
import torch

from inference.grid import enlarged, reduced
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
