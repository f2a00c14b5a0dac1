"""The solver of many steps, on data whose best denoiser and whose way from noise to data are known."""

import math
from itertools import pairwise

import pytest
import torch

from inference.sampler import LEVELS
from training.solver import DRAW_FROM, DRAW_TO, MIDDLE, RHO, TEACHER_STEPS, sigmas, solve

MEAN, SPREAD = 0.7, 0.5


def gaussian(noisy, sigma):
    """The optimal denoiser of pixels that are normal with MEAN and SPREAD (EDM, appendix B.3)."""
    variance = sigma[:, None, None, None] ** 2
    return (SPREAD**2 * noisy + variance * MEAN) / (SPREAD**2 + variance)


def way_of(noise):
    """Where EDM's equation 1 leads from DRAW_FROM * noise to sigma 0, solved by hand for that denoiser."""
    start = DRAW_FROM * noise
    return MEAN + (start - MEAN) * SPREAD / math.sqrt(SPREAD**2 + DRAW_FROM**2)


@pytest.fixture
def noise():
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_noise_levels_fall_from_the_highest_to_the_lowest_then_to_zero():
    levels = sigmas(6)

    assert levels.shape == (7,)
    assert levels[[0, -2, -1]].tolist() == pytest.approx([DRAW_FROM, DRAW_TO, 0], rel=1e-5)
    assert (levels.diff() < 0).all()


def test_noise_levels_follow_equation_5():
    steps = 5
    expected = [
        (DRAW_FROM ** (1 / RHO) + i / (steps - 1) * (DRAW_TO ** (1 / RHO) - DRAW_FROM ** (1 / RHO))) ** RHO
        for i in range(steps)
    ]

    assert sigmas(steps)[:-1].tolist() == pytest.approx(expected, rel=1e-5)


def test_one_step_goes_from_the_highest_level_straight_to_zero():
    assert sigmas(1).tolist() == pytest.approx([DRAW_FROM, 0])


def test_many_steps_lead_where_the_exact_solution_leads(noise):
    everywhere = torch.ones_like(noise)
    errors = [
        float((solve(gaussian, noise, everywhere, steps)[-1] - way_of(noise)).abs().max())
        for steps in (3, 12, 24, 48, 512)
    ]

    # What is left of it is the last step, from DRAW_TO straight to 0.
    assert errors[-1] < 0.01
    assert all(after < before for before, after in pairwise(errors[:-1]))


def test_few_steps_keep_most_of_the_spread():
    """What Euler's steps lose: the draws of a posterior vary as the posterior does."""
    noise = torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(1))

    assert float(solve(gaussian, noise, torch.ones_like(noise), 6)[-1].std()) > 0.9 * float(way_of(noise).std())


def test_many_draws_have_the_mean_and_the_spread_of_the_data():
    noise = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(1))
    drawn = solve(gaussian, noise, torch.ones_like(noise), 64)[-1]

    # A draw begins with noise around 0, and DRAW_FROM leaves a twentieth of the way from there to the mean.
    assert float(drawn.mean()) == pytest.approx(float(way_of(noise).mean()), abs=0.01)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.04)
    assert float(drawn.std()) == pytest.approx(SPREAD, abs=0.03)


def test_known_pixels_stay_zero_all_the_way(noise):
    hidden = torch.ones_like(noise)
    hidden[:, :, 4:10, 5:12] = 0
    seen = []

    def denoiser(noisy, sigma):
        seen.append(noisy)
        return gaussian(noisy, sigma)

    states = solve(denoiser, noise, hidden, 4)

    for picture in [*seen, *states]:
        assert (picture[hidden == 0] == 0).all()
    assert (states[-1][hidden == 1] != 0).all()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_draw_costs_an_evaluation_a_step(noise, steps):
    levels = []

    def denoiser(noisy, sigma):
        levels.append(sigma)
        return gaussian(noisy, sigma)

    states = solve(denoiser, noise, torch.ones_like(noise), steps)

    assert (len(levels), len(states)) == (steps, steps + 1)
    assert all(level.shape == (2,) and (level > 0).all() for level in levels)


def test_the_students_levels_are_where_its_teacher_comes_by():
    levels = sigmas(TEACHER_STEPS).tolist()

    assert pytest.approx([levels[0], levels[MIDDLE], levels[-1]], rel=1e-4) == LEVELS
