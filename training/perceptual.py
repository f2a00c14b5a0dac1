"""LPIPS as the thesis measures it: by the encoder of Models Genesis (Zhou et al. 2021), a 3D U-Net for chest CT.

Its weights (`Genesis_Chest_CT.pt`, github.com/MrGiovanni/ModelsGenesis) have a licence of their own and are no
part of Fullfield: who has the file gives it. Other than the published LPIPS (Zhang et al. 2018) it compares one
level, averaged over the whole picture, and without learnt weights.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import WeightsError
from inference.thesis.checkpoints import fill, tensors_of

#: Why the column is empty where no weights are given.
WITHOUT_WEIGHTS = "LPIPS needs the Models Genesis encoder (Genesis_Chest_CT.pt), which is not part of Fullfield"
#: How often the encoder sees the picture, one slice above the other.
SLICES = 16


class GenesisEncoder(nn.Module):
    """The encoding half of Models Genesis: four levels of two 3x3x3 convolutions, up to 512 channels."""

    def __init__(self, width: int = 64) -> None:
        """width: channels of the first level; Models Genesis has 64."""
        super().__init__()
        levels = [width, 2 * width, 4 * width, 8 * width]
        self.levels = nn.ModuleList(
            nn.Sequential(_Convolution(before, after // 2), _Convolution(after // 2, after))
            for before, after in pairwise((1, *levels))
        )

    def forward(self, volume: Tensor) -> Tensor:
        """volume: (1, 1, d, h, w), d, h and w multiples of 8; gives (8 * width,), averaged over the coarsest grid."""
        x = volume
        for index, level in enumerate(self.levels):
            x = level(x if not index else F.max_pool3d(x, 2))
        return x.mean(dim=(0, 2, 3, 4))


class _Convolution(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        # Models Genesis normalises by the volume's own statistics, in evaluation too.
        return F.relu(F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, training=True))


def load_encoder(path: Path) -> GenesisEncoder:
    """The encoder of a file of Models Genesis (`Genesis_Chest_CT.pt`), read without running code in it.

    Raises ConfigError for a file that is not there, WeightsError for one that is something else.
    """
    return read_encoder(path, GenesisEncoder())


def read_encoder(path: Path, encoder: GenesisEncoder) -> GenesisEncoder:
    """Fill an encoder, of another width than Models Genesis's perhaps; see `load_encoder`."""
    found = {name.removeprefix("module."): tensor for name, tensor in tensors_of(path).items()}
    # The decoding half is not used.
    found = {name: tensor for name, tensor in found.items() if name.startswith("down_tr")}
    if not found:
        raise WeightsError(f"{path}: no Models Genesis: it holds no down_tr64")
    fill(encoder, path, {_renamed(name): (name, tensor) for name, tensor in found.items()})
    return encoder.eval()


@torch.inference_mode()
def features(encoder: GenesisEncoder, picture: NDArray[np.float32]) -> Tensor:
    """What the encoder makes of a grey picture, (h, w) in [-1, 1]: (512,)."""
    slices = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32)).expand(1, 1, SLICES, *picture.shape)
    made: Tensor = encoder(slices.to(next(encoder.parameters()).device))
    return made


def lpips(encoder: GenesisEncoder, a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean squared difference of both pictures' features; (256, 256) in [-1, 1] in the thesis's protocol."""
    return float((features(encoder, a) - features(encoder, b)).square().mean())


def _renamed(name: str) -> str:
    """Their name of a tensor to ours; the levels are numbered by their channels there."""
    for index, channels in enumerate((64, 128, 256, 512)):
        name = re.sub(rf"^down_tr{channels}\.ops\.", f"levels.{index}.", name)
    return name.replace(".conv1.", ".convolution.").replace(".bn1.", ".norm.")
