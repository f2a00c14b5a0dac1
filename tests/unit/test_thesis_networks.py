"""The thesis's two networks against what is known of them: sizes, and layers computed by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inference.thesis.checkpoints import read_palette
from inference.thesis.palette import Attention, Palette, ResidualBlock, gamma_embedding
from inference.thesis.vae import VAE, kl_divergence
from tests.thesis_checkpoints import each_parameter, palette_shapes, vae_shapes, write_palette


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module")
def palette():
    torch.manual_seed(0)
    return Palette().eval()


def test_palette_has_the_parameters_that_the_thesis_says(palette):
    assert size(palette) == 62_641_347
    assert size(palette) == sum(math.prod(shape) for shape in each_parameter(palette_shapes()))


def test_the_vae_has_most_of_its_parameters_in_three_dense_layers():
    vae = VAE()
    assert size(vae) == sum(math.prod(shape) for shape in each_parameter(vae_shapes())) == 100_991_203
    dense = [vae.to_mean, vae.to_log_variance, vae.from_latent]
    assert sum(map(size, dense)) == 3 * 256 * 128 * 32 * 32 + 2 * 256 + 128 * 32 * 32


def test_a_factor_of_16_is_never_reached_so_that_only_the_middle_attends(palette):
    def attending(network):
        return [name for name, module in network.named_modules() if isinstance(module, Attention)]

    assert attending(palette) == ["middle.1"]
    assert attending(Palette(32, (1, 1, 1, 1), attention_at=8)) == [
        *("down.10.1", "down.11.1"),
        "middle.1",
        *("up.0.1", "up.1.1", "up.2.1"),
    ]


def test_the_middle_attends_on_a_grid_of_an_eighth():
    palette = Palette(32, (1, 1, 1, 1)).eval()
    seen = []
    palette.middle[1].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))

    with torch.no_grad():
        noise = palette(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64), torch.tensor([0.3, 0.9]))

    assert seen == [(2, 32, 8, 8)]
    assert noise.shape == (2, 3, 64, 64)


def test_palette_reads_condition_picture_and_noise_level():
    torch.manual_seed(1)
    palette = Palette(32, (1, 1)).eval()
    condition, noisy = torch.randn(2, 1, 3, 16, 16)
    with torch.no_grad():
        noise = palette(condition, noisy, torch.tensor([0.5]))
        others = [
            palette(-condition, noisy, torch.tensor([0.5])),
            palette(condition, -noisy, torch.tensor([0.5])),
            palette(condition, noisy, torch.tensor([0.9])),
        ]
    assert all(not torch.allclose(noise, other, atol=1e-4) for other in others)


def forward_by_their_names(state, condition, noisy, gamma):
    """Guided diffusion written a second time, straight over the tensors as Janspiry's code calls them."""

    def dense(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def convolved(name, x):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def normed(name, x):
        return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"])

    def residual(name, x, resize=lambda features: features):
        hidden = convolved(f"{name}.in_layers.2", resize(F.silu(normed(f"{name}.in_layers.0", x))))
        scale, shift = dense(f"{name}.emb_layers.1", F.silu(embedding))[..., None, None].chunk(2, dim=1)
        hidden = normed(f"{name}.out_layers.0", hidden) * (1 + scale) + shift
        x = resize(x)
        if f"{name}.skip_connection.weight" in state:
            x = convolved(f"{name}.skip_connection", x)
        return x + convolved(f"{name}.out_layers.3", F.silu(hidden))

    def attended(name, x):
        flat = normed(f"{name}.norm", x).flatten(2)
        qkv = (
            torch.einsum("oc,nct->not", state[f"{name}.qkv.weight"][:, :, 0], flat) + state[f"{name}.qkv.bias"][:, None]
        )
        heads = []
        for head in qkv.split(96, dim=1):
            queries, keys, values = head.split(32, dim=1)
            weights = torch.softmax(torch.einsum("nct,ncs->nts", queries, keys) / math.sqrt(32), dim=-1)
            heads.append(torch.einsum("nts,ncs->nct", weights, values))
        out = torch.einsum("oc,nct->not", state[f"{name}.proj_out.weight"][:, :, 0], torch.cat(heads, dim=1))
        return x + (out + state[f"{name}.proj_out.bias"][:, None]).reshape(x.shape)

    def halved(x):
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4

    def doubled(x):
        return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)

    width = state["input_blocks.0.0.weight"].shape[0]
    angles = gamma[:, None] * torch.tensor([10_000 ** (-2 * k / width) for k in range(width // 2)])
    embedding = dense("cond_embed.2", F.silu(dense("cond_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))))
    kept = [convolved("input_blocks.0.0", torch.cat([condition, noisy], dim=1))]
    for place in range(1, 12):
        kept.append(residual(f"input_blocks.{place}.0", kept[-1], *([halved] if place in (3, 6, 9) else [])))
    x = residual("middle_block.0", kept[-1])
    x = residual("middle_block.2", attended("middle_block.1", x))
    for place in range(12):
        x = residual(f"output_blocks.{place}.0", torch.cat([x, kept.pop()], dim=1))
        if place in (2, 5, 8):
            x = residual(f"output_blocks.{place}.1", x, doubled)
    return convolved("out.2", F.silu(normed("out.0", x)))


def test_an_imported_palette_tells_what_guided_diffusion_tells_with_the_same_weights(tmp_path):
    torch.manual_seed(6)
    theirs = {
        name: torch.randn(shape) / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.2 * torch.randn(shape)
        for name, shape in palette_shapes(width=32).items()
    }
    palette = read_palette(write_palette(tmp_path / "1_Network.pth", theirs), Palette(32))
    condition, noisy = torch.randn(2, 2, 3, 16, 16)
    gamma = torch.tensor([0.2, 0.8])

    with torch.no_grad():
        made = palette(condition, noisy, gamma)
    state = {name.removeprefix("denoise_fn."): tensor for name, tensor in theirs.items()}

    expected = forward_by_their_names(state, condition, noisy, gamma)
    assert expected.std() > 0.3
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_the_noise_level_is_embedded_as_cosines_and_sines():
    made = gamma_embedding(torch.tensor([0.25, 0.75]), 64).numpy()

    for row, gamma in zip(made, (0.25, 0.75), strict=True):
        angles = [gamma * 10_000 ** (-k / 32) for k in range(32)]
        np.testing.assert_allclose(row, [*map(math.cos, angles), *map(math.sin, angles)], atol=1e-6)


def test_attention_is_a_softmax_over_positions_head_by_head():
    torch.manual_seed(2)
    attention = Attention(64)
    x = torch.randn(1, 64, 2, 3)
    with torch.no_grad():
        made = attention(x)[0].reshape(64, 6).numpy()
        normed = F.group_norm(x, 32, attention.norm.weight, attention.norm.bias)[0].reshape(64, 6).numpy()

    qkv = attention.qkv.weight.detach().numpy()[:, :, 0] @ normed + attention.qkv.bias.detach().numpy()[:, None]
    mixed = []
    for head in range(2):
        queries, keys, values = (qkv[96 * head + 32 * part : 96 * head + 32 * (part + 1)] for part in range(3))
        weights = np.exp(queries.T @ keys / math.sqrt(32))
        mixed.append(values @ (weights / weights.sum(axis=1, keepdims=True)).T)
    out = (
        attention.out.weight.detach().numpy()[:, :, 0] @ np.vstack(mixed) + attention.out.bias.detach().numpy()[:, None]
    )
    np.testing.assert_allclose(made, x[0].reshape(64, 6).numpy() + out, atol=1e-5)


@pytest.mark.parametrize(("scale", "side"), [(0.5, 4), (1, 8), (2, 16)])
def test_a_block_whose_convolutions_are_nothing_hands_its_picture_on(scale, side):
    block = ResidualBlock(32, 32, 8, dropout=0.2, scale=scale).eval()
    torch.nn.init.zeros_(block.second.weight)
    torch.nn.init.zeros_(block.second.bias)
    x = torch.arange(64.0).reshape(1, 1, 8, 8).expand(1, 32, 8, 8)

    made = block(x, torch.zeros(1, 8))

    assert made.shape == (1, 32, side, side)
    # The corner: 0, 1, 8 and 9 become their mean, or 0 stands four times.
    assert made[0, 0, 0, 0] == (4.5 if scale == 0.5 else 0)
    assert (made[0, 0, 1, 1] == 0) == (scale == 2)


def test_the_embedding_scales_and_shifts_between_the_convolutions():
    block = ResidualBlock(32, 32, 4, dropout=0).eval()
    for layer in (block.first, block.second, block.modulation):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.dirac_(block.second.weight)
    torch.nn.init.constant_(block.second_norm.bias, 0.5)
    block.modulation.bias.data[:32] = 2.0
    block.modulation.bias.data[32:] = -1.0

    made = block(torch.zeros(1, 32, 4, 4), torch.zeros(1, 4))

    # Nothing comes out of the first convolution, so the norm gives its bias: 0.5 * (1 + 2) - 1.
    expected = 0.5 / (1 + math.exp(-0.5))
    torch.testing.assert_close(made, torch.full((1, 32, 4, 4), expected))


def test_the_vae_gives_pictures_back_between_0_and_1():
    torch.manual_seed(3)
    vae = VAE((4, 4, 4), latents=6, side=32).eval()
    masked = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        mean, log_variance = vae.encode(masked)
        picture = vae.decode(100 * torch.randn(2, 6))
        drawn, mean_again, log_variance_again = vae(masked)

    assert mean.shape == log_variance.shape == (2, 6)
    assert picture.shape == drawn.shape == masked.shape
    assert 0 <= picture.min() < 0.4 < 0.6 < picture.max() <= 1
    assert torch.equal(mean, mean_again) and torch.equal(log_variance, log_variance_again)


def test_the_vae_draws_its_latents():
    vae = VAE((4, 4, 4), latents=6, side=32).eval()
    for layer, value in ((vae.to_mean, 3.0), (vae.to_log_variance, 2 * math.log(0.5))):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, value)
    latents = []
    vae.from_latent.register_forward_pre_hook(lambda _, given: latents.append(given[0]))
    torch.manual_seed(4)
    with torch.no_grad():
        vae(torch.zeros(500, 3, 32, 32))

    assert float(latents[0].mean()) == pytest.approx(3.0, abs=0.05)
    assert float(latents[0].std()) == pytest.approx(0.5, abs=0.05)


def test_the_divergence_is_that_of_two_normal_distributions():
    mean, deviation = 0.7, 0.3
    by_hand = math.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 0.5

    means, log_variances = torch.full((3, 5), mean), torch.full((3, 5), 2 * math.log(deviation))
    assert float(kl_divergence(means, log_variances)) == pytest.approx(5 * by_hand, rel=1e-5)
    assert float(kl_divergence(torch.zeros(3, 5), torch.zeros(3, 5))) == 0
