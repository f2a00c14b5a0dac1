"""A draw of the product's, on denoisers whose way from noise to data is known."""

from itertools import pairwise

import pytest
import torch

from inference.sampler import LEVELS, SAMPLE_STEPS, sample


@pytest.fixture
def noise():
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_noise_levels_fall_to_zero():
    assert all(before > after for before, after in pairwise(LEVELS)) and LEVELS[-1] == 0


def test_each_step_is_the_straight_way_towards_the_estimate(noise):
    """A denoiser that knows the data gives the same residual at each level, and every state is that plus noise."""
    data = torch.linspace(-2, 2, 16).expand_as(noise)
    seen = []

    def denoiser(noisy, sigma):
        seen.append((noisy, sigma))
        return data

    drawn = sample(denoiser, noise, torch.ones_like(noise))

    assert torch.allclose(drawn, data, atol=1e-5)
    for (noisy, sigma), level in zip(seen, LEVELS, strict=False):
        assert sigma.tolist() == [pytest.approx(level)] * 2
        share = 1 - level / LEVELS[0]
        assert torch.allclose(noisy, share * data + level * noise, atol=1e-4)


def test_a_draw_costs_an_evaluation_a_step_and_the_last_estimate_is_the_draw(noise):
    estimates = []

    def denoiser(noisy, _):
        estimates.append(0.3 * noisy + len(estimates))
        return estimates[-1]

    drawn = sample(denoiser, noise, torch.ones_like(noise))

    assert len(estimates) == SAMPLE_STEPS
    assert torch.equal(drawn, estimates[-1])


def test_known_pixels_stay_zero_all_the_way(noise):
    hidden = torch.ones_like(noise)
    hidden[:, :, 4:10, 5:12] = 0
    seen = []

    def denoiser(noisy, _):
        seen.append(noisy)
        return 0.5 * noisy + 1

    drawn = sample(denoiser, noise, hidden)

    for picture in [*seen, drawn]:
        assert (picture[hidden == 0] == 0).all()
    assert (drawn[hidden == 1] != 0).all()
