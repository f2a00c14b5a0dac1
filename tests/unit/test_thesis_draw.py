"""The thesis's schedule, texture and draw, against numbers computed by hand."""

import math

import numpy as np
import pytest
import torch

from config.errors import ConfigError
from inference.thesis.sampler import draw, to_grey
from inference.thesis.schedule import sampling_schedule, training_schedule
from inference.thesis.texture import condition, texture
from inference.thesis.vae import VAE


def betas(steps, first, last):
    return [first + (last - first) * step / (steps - 1) for step in range(steps)]


SAMPLED = betas(1000, 1e-4, 0.09)


@pytest.mark.parametrize(
    ("schedule", "added"),
    [(training_schedule(), betas(2000, 1e-6, 0.01)), (sampling_schedule(), SAMPLED)],
    ids=["training", "sampling"],
)
def test_the_variances_added_rise_linearly(schedule, added):
    assert schedule.steps == len(added)
    for step in (0, 1, 10, 500, len(added) - 1):
        left = math.exp(sum(math.log1p(-beta) for beta in added[: step + 1]))
        assert float(schedule.gamma[step]) == pytest.approx(left, rel=1e-5)


def test_what_is_left_of_a_picture_at_the_end_of_each_schedule():
    # -ln(gamma) is about the sum of the betas and half the sum of their squares: 10.001 + 0.0333 in training.
    assert float(training_schedule().gamma[-1]) == pytest.approx(4.387e-5, rel=0.001)
    assert float(sampling_schedule().gamma[-1]) < 1e-20


@pytest.mark.parametrize("step", [1, 40, 700])
def test_the_posterior_is_that_of_ho(step):
    gamma, before = (math.exp(sum(math.log1p(-beta) for beta in SAMPLED[:n])) for n in (step + 1, step))
    beta = SAMPLED[step]
    schedule = sampling_schedule()

    assert float(schedule.clean_weight[step]) == pytest.approx(math.sqrt(before) * beta / (1 - gamma), rel=1e-4)
    assert float(schedule.noisy_weight[step]) == pytest.approx(
        math.sqrt(1 - beta) * (1 - before) / (1 - gamma), rel=1e-4
    )
    assert float(schedule.deviation[step]) == pytest.approx(math.sqrt(beta * (1 - before) / (1 - gamma)), rel=1e-4)


def test_the_last_step_gives_the_clean_estimate():
    schedule = sampling_schedule()
    assert [float(field[0]) for field in (schedule.clean_weight, schedule.noisy_weight, schedule.deviation)] == [
        1,
        0,
        0,
    ]


def test_fewer_steps_are_levels_of_the_thousand():
    whole = sampling_schedule().gamma.tolist()
    assert sampling_schedule(4).gamma.tolist() == [whole[step] for step in (249, 499, 749, 999)]
    assert sampling_schedule(1).gamma.tolist() == [whole[999]]
    for steps in (0, -1, 1001):
        with pytest.raises(ConfigError, match=f"takes 1 to 1000 steps, not {steps}"):
            sampling_schedule(steps)


def test_row_i_of_the_texture_is_256_draws_of_latent_i():
    torch.manual_seed(0)
    mean, deviation = torch.randn(2, 256), torch.rand(2, 256) + 0.1
    made = texture(mean, 2 * deviation.log(), torch.randn(2, 3, 256, 256))

    assert made.shape == (2, 3, 256, 256)
    drawn = made * 0.5 + 0.5
    rows = drawn.transpose(1, 2).reshape(2, 256, 3 * 256)
    # The mean of 768 draws lies within five of its standard errors in each of 512 rows.
    assert ((rows.mean(dim=-1) - mean).abs() < 5 * deviation / math.sqrt(768)).all()
    assert ((rows.std(dim=-1) / deviation - 1).abs() < 5 / math.sqrt(2 * 768)).all()
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_the_condition_is_texture_where_hidden_and_the_known_picture_in_the_aperture():
    torch.manual_seed(1)
    vae = VAE((4, 4, 4), latents=32, side=32).eval()
    collimated, full = torch.rand(2, 1, 1, 32, 32) * 2 - 1
    hidden = torch.ones(1, 1, 32, 32)
    hidden[..., 8:24, 4:20] = 0
    noise = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        made = condition(vae, collimated, full, hidden, noise)
        mean, log_variance = vae.encode(((collimated + 1) / 2 * hidden).repeat(1, 3, 1, 1))

    assert torch.equal(made[..., 8:24, 4:20], full[..., 8:24, 4:20].expand(1, 3, 16, 16))
    latent = float(mean[0, 30] + math.exp(0.5 * log_variance[0, 30]) * noise[0, 2, 30, 7])
    assert float(made[0, 2, 30, 7]) == pytest.approx(2 * latent - 1, rel=1e-5)


def test_the_vae_sees_nothing_of_the_aperture():
    vae = VAE((4, 4, 4), latents=32, side=32).eval()
    collimated = torch.rand(1, 1, 32, 32) * 2 - 1
    hidden = torch.ones(1, 1, 32, 32)
    hidden[..., 8:24, 4:20] = 0
    other = torch.where(hidden.bool(), collimated, -collimated)
    noise = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(
            condition(vae, collimated, collimated, hidden, noise), condition(vae, other, collimated, hidden, noise)
        )


def test_a_draw_of_two_steps_by_hand():
    """One hidden and one known pixel; the denoiser tells the mean of what it is shown, the noise is 0.5."""
    start, known = 0.3, -0.8
    seen = []

    def denoiser(condition, noisy, gamma):
        seen.append((condition.clone(), noisy.clone(), gamma.clone()))
        return 0.5 * (condition + noisy)

    given = torch.tensor([start, known]).expand(1, 3, 1, 2)
    hidden = torch.tensor([[[[1.0, 0.0]]]])
    shares = []
    made = draw(denoiser, given, hidden, sampling_schedule(2), lambda: torch.full((1, 3, 1, 2), 0.5), shares.append)

    gammas = [math.exp(sum(math.log1p(-beta) for beta in SAMPLED[: step + 1])) for step in (499, 999)]
    y = start
    for gamma, before in ((gammas[1], gammas[0]), (gammas[0], 1.0)):
        told = 0.5 * (start + y)
        clean = max(-1.0, min(1.0, y / math.sqrt(gamma) - math.sqrt(1 / gamma - 1) * told))
        beta = 1 - gamma / before
        mean = math.sqrt(before) * beta / (1 - gamma) * clean + math.sqrt(1 - beta) * (1 - before) / (1 - gamma) * y
        y = mean + math.sqrt(beta * (1 - before) / (1 - gamma)) * 0.5
    np.testing.assert_allclose(made[0, :, 0, 0].numpy(), [y] * 3, rtol=1e-5)
    assert torch.equal(made[..., 1], given[..., 1])
    assert shares == [0.5, 1.0]
    # It begins with the condition itself, and known pixels stand in all that the denoiser is shown.
    assert torch.equal(seen[0][1], given)
    assert all(torch.equal(noisy[..., 1], given[..., 1]) for _, noisy, _ in seen)
    assert [float(gamma) for _, _, gamma in seen] == pytest.approx(gammas[::-1], rel=1e-5)


def test_a_denoiser_that_knows_the_truth_draws_it():
    truth = torch.linspace(-0.9, 0.9, 48).reshape(1, 3, 4, 4)
    torch.manual_seed(2)

    def denoiser(_, noisy, gamma):
        share = gamma[:, None, None, None]
        return (noisy - share.sqrt() * truth) / (1 - share).sqrt()

    made = draw(
        denoiser, torch.zeros_like(truth), torch.ones(1, 1, 4, 4), sampling_schedule(), lambda: torch.randn(1, 3, 4, 4)
    )

    torch.testing.assert_close(made, truth, atol=0.01, rtol=0)


def test_three_channels_become_one_grey_by_luma():
    picture = torch.tensor([0.2, -0.4, 0.9]).reshape(1, 3, 1, 1)
    assert float(to_grey(picture)) == pytest.approx(0.299 * 0.2 - 0.587 * 0.4 + 0.114 * 0.9, rel=1e-6)
