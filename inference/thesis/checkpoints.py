"""Reads the checkpoints of the code that the thesis was made with, and gives them our names.

The VAE's is a checkpoint of PyTorch Lightning as AntixK's PyTorch-VAE leaves it (`last.ckpt`), Palette's a state
dictionary as Janspiry's Palette leaves it (`N_Network.pth`, or `N_Network_ema.pth`). Both are read with weights_only:
tensors and plain values, and never code.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import ConfigError, WeightsError
from inference.thesis.palette import Palette
from inference.thesis.profile import FILES, write_network, write_thesis_card
from inference.thesis.vae import VAE
from inference.weights import sha256_of

Renames = tuple[tuple[str, str], ...]

#: Their names, as patterns, and ours.
VAE_NAMES: Renames = (
    (r"fc_mu\.", "to_mean."),
    (r"fc_var\.", "to_log_variance."),
    (r"decoder_input\.", "from_latent."),
    # The convolution that keeps the width stands apart from the decoder there; LAST is the decoder's next number.
    (r"final_layer\.([01])\.", r"decoder.LAST.\1."),
    (r"final_layer\.3\.", "last."),
)
PALETTE_NAMES: Renames = (
    (r"cond_embed\.", "embed."),
    (r"input_blocks\.", "down."),
    (r"middle_block\.", "middle."),
    (r"output_blocks\.", "up."),
    (r"(.*)\.in_layers\.0\.", r"\1.first_norm."),
    (r"(.*)\.in_layers\.2\.", r"\1.first."),
    (r"(.*)\.emb_layers\.1\.", r"\1.modulation."),
    (r"(.*)\.out_layers\.0\.", r"\1.second_norm."),
    (r"(.*)\.out_layers\.3\.", r"\1.second."),
    (r"(.*)\.skip_connection\.", r"\1.skip."),
    (r"(.*)\.proj_out\.", r"\1.out."),
    (r"out\.0\.", "last_norm."),
    (r"out\.2\.", "last."),
)
#: What Janspiry's network keeps beside its weights: its noise schedule, which follows from three numbers.
_SCHEDULE = {
    "gammas",
    "sqrt_recip_gammas",
    "sqrt_recipm1_gammas",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
}


def import_checkpoints(vae: Path, palette: Path, out: Path, version: str) -> None:
    """Make a profile's folder of both checkpoints: `vae.safetensors`, `palette.safetensors` and `model.json`.

    Nothing is written unless both can be used. Raises ConfigError, WeightsError.
    """
    if (out / "model.json").exists():
        raise ConfigError(f"{out}: holds a profile already; choose another folder")
    networks: tuple[nn.Module, nn.Module] = (read_vae(vae), read_palette(palette))
    out.mkdir(parents=True, exist_ok=True)
    for network, name in zip(networks, FILES, strict=True):
        write_network(network, out / name)
    sources = zip(FILES, (vae, palette), strict=True)
    write_thesis_card(out, version, {name: {"file": file.name, "sha256": sha256_of(file)} for name, file in sources})


def read_vae(path: Path, network: VAE | None = None) -> VAE:
    """The VAE of a Lightning checkpoint of AntixK's PyTorch-VAE. Raises ConfigError, WeightsError.

    network: the one to fill, of another size than the thesis's.
    """
    network = network or VAE()
    found = {name.removeprefix("model."): tensor for name, tensor in tensors_of(path).items()}
    if "fc_mu.weight" not in found:
        raise WeightsError(f"{path}: no VAE of PyTorch-VAE: it holds no fc_mu")
    last = str(len(network.decoder) - 1)
    fill(network, path, {_renamed(name, VAE_NAMES, last): (name, tensor) for name, tensor in found.items()})
    return network.eval()


def read_palette(path: Path, network: Palette | None = None) -> Palette:
    """The denoiser of a checkpoint of Janspiry's Palette, averaged (`_ema`) or not. Raises ConfigError, WeightsError.

    network: the one to fill, of another size than the thesis's.
    """
    # Trained on several GPUs, every name begins with `module.`.
    found = {name.removeprefix("module."): tensor for name, tensor in tensors_of(path).items()}
    found = {name: tensor for name, tensor in found.items() if name not in _SCHEDULE}
    if "denoise_fn.cond_embed.0.weight" not in found:
        raise WeightsError(f"{path}: no guided-diffusion Palette of Janspiry's: it holds no denoise_fn.cond_embed")
    network = network or Palette()
    ours = {name: _renamed(name.removeprefix("denoise_fn."), PALETTE_NAMES) for name in found}
    fill(network, path, {ours[name]: (name, tensor) for name, tensor in found.items()})
    return network.eval()


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file that torch.save wrote, at its top or under `state_dict`, without running code.

    Raises ConfigError for a file that is not there, WeightsError for one that is something else.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: not found")
    with path.open("rb") as file:
        try:
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
        # Where a damaged file breaks the reading cannot be told beforehand.
        except Exception as error:
            if isinstance(error, UnpicklingError) and "global" in str(error).lower():
                raise WeightsError(
                    f"{path}: refused, for loading it would run code; save its state_dict alone where it was made"
                ) from error
            raise WeightsError(f"{path}: no checkpoint of PyTorch, or a damaged one") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds no weights by name")
    named = {name: tensor for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not named or len(named) != len(content) or any(tensor.layout != torch.strided for tensor in named.values()):
        raise WeightsError(f"{path}: holds no weights by name")
    return named


def fill(network: nn.Module, path: Path, weights: Mapping[str, tuple[str, Tensor]]) -> None:
    """Give a network its weights: ours -> (their name, tensor). Raises WeightsError that names the first fault."""
    wanted = network.state_dict()
    for ours, (theirs, _) in weights.items():
        if ours not in wanted:
            raise WeightsError(f"{path}: {theirs} has no place in this network; it is of another architecture")
    for ours, tensor in wanted.items():
        if ours not in weights:
            raise WeightsError(f"{path}: what Fullfield calls {ours} is missing; it is of another architecture")
        theirs, found = weights[ours]
        if found.shape != tensor.shape:
            raise WeightsError(f"{path}: {theirs} has the shape {_shape(found)}, where {_shape(tensor)} is needed")
        if found.is_complex() or not torch.isfinite(found.to(tensor.dtype)).all():
            raise WeightsError(f"{path}: {theirs} holds numbers that are not finite")
    network.load_state_dict({ours: tensor for ours, (_, tensor) in weights.items()})


def _renamed(name: str, names: Renames, last: str = "") -> str:
    for theirs, ours in names:
        name = re.sub(f"^{theirs}", ours, name)
    return name.replace("LAST", last)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
