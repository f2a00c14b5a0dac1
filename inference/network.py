"""The convolutional network that the VAE prior and Palette share: a small U-Net on pixel-unshuffled pictures.

A 256x256 picture is folded 4x4 into 16 channels of a 64x64 grid (pixel unshuffle, Shi et al. 2016, equation 4),
which makes a forward pass cheap enough for two cores; attention at the two coarsest grids lets the far ends of
the field see each other. Blocks follow the guided-diffusion U-Net (Dhariwal & Nichol 2021, appendix A).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Pixels of one side of the square that pixel unshuffle folds into channels.
PATCH = 4
#: Side of the pictures that the networks work on, in pixels.
FRAME_SIDE = 256
#: Share of white below which grey levels are black even when they are lifted.
DARK = 0.01
#: Sides of the squares between whose means a scale of detail lies, and of the one in which it is evened out, in pixels.
DETAIL_SIDES, EVENED_OVER = (3, 7, 15, 31), 63
#: Strength of detail, in lifted grey levels, below which nothing is amplified any further.
DETAIL_FLOOR = 1e-3


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm and a skip; an embedding, when given, scales and shifts between them."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int | None = None) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(16, channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.second_norm = nn.GroupNorm(16, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        self.modulation = None if embedding is None else nn.Linear(embedding, 2 * channels_out)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x: (n, channels_in, h, w), embedding: (n, embedding) or None; gives (n, channels_out, h, w)."""
        hidden = self.first(F.silu(self.first_norm(x)))
        hidden = self.second_norm(hidden)
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.second(F.silu(hidden))
        return out


class Attention(nn.Module):
    """Self-attention of every grid position with every other, 32 channels a head, with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 32
        self.norm = nn.GroupNorm(16, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, channels, h, w); gives the same shape."""
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        mixed = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        out: Tensor = x + self.out(mixed.transpose(-1, -2).reshape(n, c, h, w))
        return out


class Level(nn.Module):
    """One residual block, and attention where the grid is coarse enough for it."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int | None, attend: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(channels_in, channels_out, embedding)
        self.attention = Attention(channels_out) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x: (n, channels_in, h, w); gives (n, channels_out, h, w)."""
        out: Tensor = self.attention(self.block(x, embedding))
        return out


class Encoder(nn.Module):
    """From a picture's channels to features at ever coarser grids (64, 32, 16, 8 for a 256x256 picture)."""

    def __init__(self, channels_in: int, channels: Sequence[int], embedding: int | None = None) -> None:
        super().__init__()
        coarse = len(channels) - 2
        self.stem = nn.Conv2d(channels_in * PATCH**2 + 2, channels[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(channels[max(i - 1, 0)], c, embedding, attend=i >= coarse) for i, c in enumerate(channels)
        )

    def forward(self, picture: Tensor, embedding: Tensor | None = None) -> list[Tensor]:
        """picture: (n, channels_in, 256, 256); gives one feature map a level, finest first."""
        grid = F.pixel_unshuffle(picture, PATCH)
        x = self.stem(torch.cat([grid, _coordinates(grid)], dim=1))
        features: list[Tensor] = []
        for level in self.levels:
            x = level(x if not features else F.avg_pool2d(x, 2), embedding)
            features.append(x)
        return features


class Decoder(nn.Module):
    """From the encoder's features back to a picture's channels."""

    def __init__(self, channels_out: int, channels: Sequence[int], embedding: int | None = None) -> None:
        super().__init__()
        coarse = len(channels) - 2
        self.bottom = Level(channels[-1], channels[-1], embedding, attend=True)
        self.levels = nn.ModuleList(
            Level(channels[min(i + 1, len(channels) - 1)] + c, c, embedding, attend=i >= coarse)
            for i, c in reversed(list(enumerate(channels)))
        )
        self.norm = nn.GroupNorm(16, channels[0])
        self.out = nn.Conv2d(channels[0], channels_out * PATCH**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, bottom: Tensor, features: list[Tensor], embedding: Tensor | None = None) -> Tensor:
        """bottom: features of the coarsest grid, features: the encoder's; gives (n, channels_out, 256, 256)."""
        x = self.bottom(bottom, embedding)
        for level, skip in zip(self.levels, reversed(features), strict=True):
            if x.shape[-1] != skip.shape[-1]:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = level(torch.cat([x, skip], dim=1), embedding)
        # Grey levels in half precision would show as steps.
        with torch.autocast(x.device.type, enabled=False):
            return F.pixel_shuffle(self.out(F.silu(self.norm(x.float()))), PATCH)


def lifted(collimated: Tensor) -> Tensor:
    """The frame with its dark end pulled apart: the logarithm of its share of white, from -1 to about 1.

    Where the modality shows what lies behind the blades nearly black, all that is left of it is in these levels.
    """
    return 1 - 2 * torch.log((collimated.clamp(min=-1) + 1) / 2 + DARK) / math.log(DARK)


def detail(collimated: Tensor, aperture: Tensor) -> Tensor:
    """What is behind the blades at three scales, each as strong everywhere: (n, 3, h, w), 0 where measured.

    Where the faint picture is a thousandth of the beam its contrast is too, and coarse shapes drown in finer noise; a
    network that sees grey levels alone hardly learns to look. collimated, aperture: (n, 1, h, w).
    """
    hidden = 1 - aperture
    shown = lifted(collimated) * hidden
    means = [_box(shown, side) / _box(hidden, side).clamp(min=1e-3) for side in DETAIL_SIDES]
    bands = torch.cat([fine - coarse for fine, coarse in pairwise(means)], dim=1) * hidden
    # The mean root, not the mean square: one blade's edge must not drown what is around it.
    root = _box(bands.abs().sqrt(), EVENED_OVER) / _box(hidden, EVENED_OVER).clamp(min=1e-3)
    return (bands / (root.square() + DETAIL_FLOOR)).clamp(-5, 5)


def evidence_level(frames: Tensor) -> Tensor:
    """The effective number of frames that each pixel was averaged over, 1 to 64, as 0 to 1: its logarithm."""
    return torch.log2(frames.clamp(min=1)) / 6


def sinusoidal_embedding(value: Tensor, width: int) -> Tensor:
    """Embed one number a picture in sines and cosines of geometric frequencies (Vaswani et al. 2017, section 3.5).

    value: (n,), any range around [-10, 10]; gives (n, width).
    """
    frequencies = torch.exp(torch.linspace(math.log(1.0), math.log(1000.0), width // 2, device=value.device))
    angles = value[:, None].float() * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _box(pictures: Tensor, side: int) -> Tensor:
    """Mean over squares of this side, 0 beyond the picture; (n, c, h, w)."""
    for axis in (-1, -2):
        around = (side // 2 + 1, side // 2)
        sums = F.pad(pictures, around if axis == -1 else (0, 0, *around)).cumsum(axis)
        length = pictures.shape[axis]
        pictures = (sums.narrow(axis, side, length) - sums.narrow(axis, 0, length)) / side
    return pictures


def _coordinates(grid: Tensor) -> Tensor:
    """(n, 2, h, w): row and column of each grid position in [-1, 1], so that the frame's border is known."""
    n, _, h, w = grid.shape
    rows = torch.linspace(-1, 1, h, device=grid.device, dtype=grid.dtype)
    columns = torch.linspace(-1, 1, w, device=grid.device, dtype=grid.dtype)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(n, 2, h, w)
