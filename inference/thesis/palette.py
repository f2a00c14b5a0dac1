"""The thesis's Palette: the guided-diffusion U-Net (Dhariwal & Nichol 2021, appendix A), as Janspiry set it up.

It sees the condition and the noisy picture, three channels each, and the noise level, and tells the noise. With the
defaults it has 62,641,347 parameters.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Width of the first level, and the factor of each level; each has half the size of the one before.
INNER, MULTIPLIERS = 64, (1, 2, 4, 8)
BLOCKS, HEAD_CHANNELS, DROPOUT = 2, 32, 0.2
#: How much smaller than the picture the grid is on which each position sees all others. The levels above reach a
#: factor of 8 only, so the thesis's 16 asks for a level that is not there; the middle attends in any case.
ATTENTION_AT = 16


class Palette(nn.Module):
    """The noise in a picture, given condition and noise level."""

    def __init__(
        self,
        inner: int = INNER,
        multipliers: Sequence[int] = MULTIPLIERS,
        dropout: float = DROPOUT,
        attention_at: int = ATTENTION_AT,
    ) -> None:
        super().__init__()
        self.inner = inner
        width = 4 * inner
        self.embed = nn.Sequential(nn.Linear(inner, width), nn.SiLU(), nn.Linear(width, width))

        def block(channels_in: int, channels_out: int, scale: float = 1) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, width, dropout, scale)

        def attend(level: int, channels: int) -> list[nn.Module]:
            return [Attention(channels)] if 2**level == attention_at else []

        channels = inner * multipliers[0]
        self.down = nn.ModuleList([Stage([nn.Conv2d(6, channels, 3, padding=1)])])
        skips = [channels]
        for level, multiplier in enumerate(multipliers):
            if level:
                self.down.append(Stage([block(channels, channels, scale=0.5)]))
                skips.append(channels)
            for _ in range(BLOCKS):
                self.down.append(Stage([block(channels, inner * multiplier), *attend(level, inner * multiplier)]))
                channels = inner * multiplier
                skips.append(channels)
        self.middle = Stage([block(channels, channels), Attention(channels), block(channels, channels)])
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(BLOCKS + 1):
                layers = [block(channels + skips.pop(), inner * multiplier), *attend(level, inner * multiplier)]
                channels = inner * multiplier
                if level and i == BLOCKS:
                    layers.append(block(channels, channels, scale=2))
                self.up.append(Stage(layers))
        self.last_norm = nn.GroupNorm(32, channels)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, condition: Tensor, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Estimate the noise.

        condition, noisy: (n, 3, h, w), h and w multiples of 8; gamma: (n,) in (0, 1), the share of the picture's
        variance that is left in `noisy`; gives (n, 3, h, w).
        """
        embedding = self.embed(gamma_embedding(gamma, self.inner))
        x = torch.cat([condition, noisy], dim=1)
        skips = []
        for stage in self.down:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle(x, embedding)
        for stage in self.up:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        noise: Tensor = self.last(F.silu(self.last_norm(x)))
        return noise


class Stage(nn.ModuleList):
    """Layers one after the other; those that take the embedding get it."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x: (n, c, h, w), embedding: (n, e); gives the last layer's features."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm and a skip; the embedding scales and shifts between them."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, dropout: float, scale: float = 1) -> None:
        """scale: 0.5 halves height and width (mean of 2x2), 2 doubles them (nearest), 1 keeps them."""
        super().__init__()
        self.scale = scale
        self.first_norm = nn.GroupNorm(32, channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.second_norm = nn.GroupNorm(32, channels_out)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x: (n, channels_in, h, w), embedding: (n, e); gives (n, channels_out, scale * h, scale * w)."""
        hidden = self.first(_resized(F.silu(self.first_norm(x)), self.scale))
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        hidden = self.second_norm(hidden) * (1 + scale) + shift
        out: Tensor = self.skip(_resized(x, self.scale)) + self.second(self.dropout(F.silu(hidden)))
        return out


class Attention(nn.Module):
    """Self-attention of every grid position with every other, 32 channels a head, with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w); gives the same shape."""
        n, c, h, w = x.shape
        # Head by head, its queries, keys and values: the order of the original's weights.
        qkv = self.qkv(self.norm(x).flatten(2)).reshape(n, c // HEAD_CHANNELS, 3, HEAD_CHANNELS, h * w)
        queries, keys, values = qkv.transpose(-1, -2).unbind(2)
        mixed = F.scaled_dot_product_attention(queries, keys, values).transpose(-1, -2)
        out: Tensor = x + self.out(mixed.reshape(n, c, h * w)).reshape(n, c, h, w)
        return out


def gamma_embedding(gamma: Tensor, width: int) -> Tensor:
    """Noise levels (n,) as cosines and sines of frequencies from 1 down to about 1/10,000; gives (n, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=gamma.device) / half)
    angles = gamma[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _resized(x: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return x
    return F.avg_pool2d(x, 2) if scale < 1 else F.interpolate(x, scale_factor=2.0, mode="nearest")
