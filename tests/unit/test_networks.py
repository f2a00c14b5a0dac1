"""The VAE prior and Palette: shapes, what an untrained one gives, and EDM's preconditioning by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from inference.network import (
    DARK,
    Attention,
    Encoder,
    ResidualBlock,
    _box,
    detail,
    evidence_level,
    lifted,
    sinusoidal_embedding,
)
from inference.palette import Palette, condition
from inference.vae import VAE, Prior

CHANNELS = (16, 16, 32, 32)


@pytest.fixture
def palette():
    torch.manual_seed(0)
    return Palette(CHANNELS).eval()


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(CHANNELS, 4).eval()


def pictures(count, channels=1, seed=0):
    return torch.randn(count, channels, 256, 256, generator=torch.Generator().manual_seed(seed))


# Palette (EDM, table 1, sigma_data = 1)


class Spy(nn.Module):
    """Stands in the place of a network part, and notes what it is given."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.given = []

    def forward(self, *given):
        self.given.append(given)
        return self.answer


@torch.no_grad()
@pytest.mark.parametrize(
    ("sigma", "c_skip", "c_out", "c_in", "c_noise"),
    [
        # 1 / (s^2 + 1), s / sqrt(s^2 + 1), 1 / sqrt(s^2 + 1), ln(s) / 4
        (0.02, 0.99960016, 0.01999600, 0.99980006, -0.97800575),
        (1.0, 0.5, 0.70710678, 0.70710678, 0.0),
        (3.0, 0.1, 0.94868330, 0.31622777, 0.27465307),
        (40.0, 0.00062461, 0.99968765, 0.02499219, 0.92221986),
    ],
)
def test_the_denoiser_is_preconditioned_as_in_table_1(palette, sigma, c_skip, c_out, c_in, c_noise):
    noisy, seen = pictures(1), pictures(1, 5, seed=1)
    field = pictures(1, seed=2)
    features = [torch.zeros(1)]
    palette.embed, palette.encoder, palette.decoder = Spy(torch.zeros(1, 64)), Spy(features), Spy(field)

    estimate = palette(noisy, torch.tensor([sigma]), seen)

    finished = field + palette.finish(torch.cat([field, c_in * noisy], dim=1))
    torch.testing.assert_close(estimate, c_skip * noisy + c_out * finished, rtol=1e-4, atol=1e-5)
    [(picture, _)] = palette.encoder.given
    torch.testing.assert_close(picture[:, :1], c_in * noisy, rtol=1e-4, atol=1e-5)
    assert torch.equal(picture[:, 1:], seen)
    [(embedded,)] = palette.embed.given
    torch.testing.assert_close(embedded, sinusoidal_embedding(torch.tensor([c_noise]), 64), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_an_untrained_denoiser_gives_back_its_share_of_the_input(palette):
    """The last convolution begins with weights of 0, so that nothing but its bias and c_skip * x is left."""
    palette.decoder.out.bias.zero_()
    palette.finish.second.bias.zero_()
    noisy = pictures(3)

    estimate = palette(noisy, torch.tensor([0.02, 1.0, 40.0]), pictures(3, 5, seed=1))

    for picture, given, c_skip in zip(estimate, noisy, (0.99960016, 0.5, 0.00062461), strict=True):
        torch.testing.assert_close(picture, c_skip * given, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_each_picture_of_a_batch_has_its_own_noise_level(palette):
    nn.init.normal_(palette.decoder.out.weight, std=0.1)
    noisy, seen, sigma = pictures(2), pictures(2, 5, seed=1), torch.tensor([0.1, 10.0])

    together = palette(noisy, sigma, seen)
    alone = torch.cat([palette(noisy[i : i + 1], sigma[i : i + 1], seen[i : i + 1]) for i in range(2)])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_condition_is_picture_aperture_prior_the_picture_lifted_and_the_evidence():
    collimated, aperture, frames, prior = (torch.full((2, 1, 256, 256), value) for value in (0.5, 1.0, 8.0, 0.25))

    seen = condition(collimated, aperture, frames, prior)

    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([0.5, 1.0, 0.25, float(lifted(collimated).mean()), 0.5])


def test_the_evidence_of_1_to_64_frames_is_0_to_1():
    assert evidence_level(torch.tensor([1.0, 2.0, 8.0, 64.0])).tolist() == pytest.approx([0, 1 / 6, 0.5, 1])


@torch.no_grad()
def test_the_finish_sees_across_the_patches_that_the_network_thinks_in(palette):
    nn.init.normal_(palette.finish.second.weight)
    point = torch.zeros(1, 2, 16, 16)
    point[..., 7, 7] = 1
    changed = palette.finish(point)[0, 0] != palette.finish(torch.zeros_like(point))[0, 0]
    assert changed[8, 8] and changed[7, 4] and not changed[7, 11]


def test_lifting_pulls_the_dark_end_apart_and_keeps_the_order():
    grey = torch.tensor([-1.5, -1.0, -0.98, -0.9, 0.0, 1.0])

    out = lifted(grey)

    # 1 - 2 ln(share of white + 0.01) / ln 0.01, by hand
    assert out.tolist() == pytest.approx([-1.0, -1.0, -0.698970, -0.221849, 0.707570, 1.004321], abs=1e-4)


def window():
    aperture = torch.zeros(1, 1, 256, 256)
    aperture[..., 80:170, 90:180] = 1
    return aperture


def faint(contrast):
    """Anatomy at several scales behind the blades, of this contrast in lifted grey levels, (1, 1, 256, 256)."""
    noise = np.random.default_rng(0).standard_normal((3, 256, 256))
    scales = [ndimage.gaussian_filter(field, spread) * spread for field, spread in zip(noise, (1.5, 4, 9), strict=True)]
    shown = -0.5 + contrast * torch.from_numpy(np.sum(scales, axis=0, dtype=np.float32))
    return (2 * (DARK ** ((1 - shown) / 2) - DARK) - 1)[None, None]


def test_detail_is_at_three_scales_and_0_where_it_was_measured():
    seen = detail(faint(0.1), window())

    assert seen.shape == (1, 3, 256, 256)
    assert (seen * window() == 0).all()
    assert (seen.std((2, 3)) > 0.3).all()


def test_detail_does_not_depend_on_what_is_measured():
    collimated, measured = faint(0.1), torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    other = torch.where(window() > 0, measured, collimated)

    assert torch.equal(detail(collimated, window()), detail(other, window()))


def test_detail_of_ten_times_the_contrast_is_nearly_the_same():
    weak, strong = detail(faint(0.03), window()), detail(faint(0.3), window())

    assert np.corrcoef(weak.flatten(), strong.flatten())[0, 1] > 0.99
    assert 1 < float(strong.std() / weak.std()) < 1.4


@pytest.mark.parametrize("grey", [-1.0, -0.9, 0.5])
def test_where_the_blades_hide_everything_there_is_no_detail(grey):
    assert detail(torch.full((1, 1, 256, 256), grey), window()).abs().max() < 0.05
    assert (detail(torch.full((1, 1, 256, 256), -1.0), window()) == 0).all()


def test_detail_is_finite_for_an_aperture_that_leaves_nothing_or_all_open():
    for aperture in (torch.zeros(1, 1, 256, 256), torch.ones(1, 1, 256, 256)):
        assert torch.isfinite(detail(faint(0.1), aperture)).all()


@pytest.mark.parametrize("side", [3, 7, 15, 31, 63])
def test_means_over_squares_are_those_of_scipy_with_nothing_beyond_the_picture(side):
    drawn = torch.randn(2, 3, 90, 120, generator=torch.Generator().manual_seed(0))

    expected = ndimage.uniform_filter(drawn.double().numpy(), (1, 1, side, side), mode="constant")

    np.testing.assert_allclose(_box(drawn, side).numpy(), expected, atol=1e-5)


# VAE


def test_the_prior_sees_picture_aperture_the_picture_lifted_the_evidence_and_the_detail(vae):
    collimated, aperture = faint(0.1), window()
    vae.encoder = Spy([torch.zeros(1, CHANNELS[-1], 8, 8)])
    vae.decoder = Spy(torch.zeros(1, 2, 256, 256))

    vae(collimated, aperture, torch.full_like(aperture, 8))

    [(seen,)] = vae.encoder.given
    levels = [collimated, aperture, lifted(collimated), torch.full_like(aperture, 0.5), detail(collimated, aperture)]
    torch.testing.assert_close(seen, torch.cat(levels, dim=1))


def test_the_divergence_of_a_standard_normal_is_zero_and_follows_the_formula():
    def prior(mean, log_variance):
        empty = torch.zeros(1)
        return Prior(mean=empty, log_variance=empty, latent_mean=mean, latent_log_variance=log_variance)

    assert float(prior(torch.zeros(3), torch.zeros(3)).kl()) == 0
    # One latent of mean 2 and variance 4: (4 + 4 - 1 - ln 4) / 2.
    assert float(prior(torch.tensor([2.0]), torch.tensor([math.log(4)])).kl()) == pytest.approx(2.8068528, rel=1e-6)


@torch.no_grad()
def test_the_prior_estimates_grey_and_variance_of_every_pixel(vae):
    prior = vae(pictures(2), torch.zeros(2, 1, 256, 256), torch.ones(2, 1, 256, 256))

    assert prior.mean.shape == prior.log_variance.shape == (2, 1, 256, 256)
    assert prior.latent_mean.shape == prior.latent_log_variance.shape == (2, 4, 8, 8)


@torch.no_grad()
def test_a_draw_of_the_latents_changes_the_estimate_and_their_mean_does_not(vae):
    nn.init.normal_(vae.decoder.out.weight, std=0.1)
    seen = pictures(1), torch.zeros(1, 1, 256, 256), torch.ones(1, 1, 256, 256)
    first, second = (vae(*seen).mean for _ in range(2))
    drawn, again = (vae(*seen, draw=True).mean for _ in range(2))

    assert torch.equal(first, second)
    assert not torch.equal(drawn, again)


@torch.no_grad()
@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_variances_stay_within_bounds_whatever_the_network_says(vae, far):
    vae.decoder.out.bias.fill_(far)
    vae.to_latent.bias.fill_(far)

    prior = vae(pictures(1), torch.zeros(1, 1, 256, 256), torch.ones(1, 1, 256, 256))

    assert prior.log_variance.min() >= -8 and prior.log_variance.max() <= 2
    assert prior.latent_log_variance.abs().max() <= 10
    assert torch.isfinite(prior.kl())


# Parts


@torch.no_grad()
def test_blocks_begin_as_the_identity():
    x = torch.randn(1, 32, 8, 8)
    block, attention = ResidualBlock(32, 32, embedding=16), Attention(32)
    block.second.bias.zero_()
    attention.out.bias.zero_()

    torch.testing.assert_close(block(x, torch.randn(1, 16)), x)
    torch.testing.assert_close(attention(x), x)


@torch.no_grad()
def test_attention_is_softmax_of_products_over_the_root_of_the_width():
    torch.manual_seed(0)
    attention = Attention(32)
    nn.init.eye_(attention.out.weight.view(32, 32))
    attention.out.bias.zero_()
    x = torch.randn(1, 32, 2, 3)

    q, k, v = attention.qkv(attention.norm(x)).reshape(3, 32, 6).transpose(1, 2)
    mixed = torch.softmax(q @ k.T / math.sqrt(32), dim=-1) @ v

    torch.testing.assert_close(attention(x), x + mixed.T.reshape(1, 32, 2, 3), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_encoder_knows_where_in_the_frame_it_looks():
    torch.manual_seed(0)
    first = Encoder(1, CHANNELS)(torch.zeros(1, 1, 256, 256))[0]

    assert [feature.shape[-1] for feature in Encoder(1, CHANNELS)(torch.zeros(1, 1, 256, 256))] == [64, 32, 16, 8]
    assert not torch.allclose(first[..., 8, 8], first[..., 56, 56])


def test_the_embedding_is_sines_and_cosines_of_frequencies_from_1_to_1000():
    row = sinusoidal_embedding(torch.tensor([0.3]), 8)[0].tolist()

    angles = [0.3 * frequency for frequency in (1, 10, 100, 1000)]
    assert row == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-3)
