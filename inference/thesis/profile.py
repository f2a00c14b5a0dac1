"""A profile of the thesis's method: a folder with `vae.safetensors`, `palette.safetensors` and `model.json`.

Unlike the product's own it has no aperture finder, for the thesis is given its apertures.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from config.errors import WeightsError
from inference.thesis.palette import Palette
from inference.thesis.vae import VAE
from inference.weights import read_weights, sha256_of

#: What `model.json` calls the method, so that neither method's weights are taken for the other's.
METHOD = "thesis"
FILES = ("vae.safetensors", "palette.safetensors")


@dataclass(frozen=True, kw_only=True)
class ThesisWeights:
    """The two networks, loaded and verified."""

    profile: str
    version: str
    #: SHA-256 over the digests of both files, lower-case hexadecimal.
    digest: str
    vae: VAE
    palette: Palette


def load_thesis(folder: Path, vae: VAE | None = None, palette: Palette | None = None) -> ThesisWeights:
    """Load a profile's folder and check each file against the digest that `model.json` states. Raises WeightsError.

    vae, palette: networks to fill, of other sizes than the thesis's.
    """
    version, digests = _card(folder)
    for name in FILES:
        if sha256_of(folder / name) != digests.get(name):
            raise WeightsError(
                f"weights {folder.name}/{name} do not match the digest in model.json; install them again"
            )
    vae, palette = vae or VAE(), palette or Palette()
    for network, name in zip((vae, palette), FILES, strict=True):
        read_weights(network, folder / name)
    return ThesisWeights(
        profile=folder.name,
        version=version,
        digest=hashlib.sha256("".join(digests[name] for name in FILES).encode()).hexdigest(),
        vae=vae.eval(),
        palette=palette.eval(),
    )


def is_thesis(folder: Path) -> bool:
    """Whether a folder's `model.json` says that it is a profile of the thesis's method."""
    try:
        card = json.loads((folder / "model.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("method") == METHOD


def write_network(network: nn.Module, path: Path) -> None:
    """Write a network's weights as they are, in single precision."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(state, part)
    # safetensors leaves a file that its owner alone can read, and nodes run as another user than who imports.
    part.chmod(0o644)
    part.replace(path)


def write_thesis_card(folder: Path, version: str, origin: Mapping[str, object]) -> None:
    """Write `model.json` beside both networks: method, version, digests, and where the weights come from."""
    card = {
        "method": METHOD,
        "version": version,
        "sha256": {name: sha256_of(folder / name) for name in FILES},
        "origin": dict(origin),
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")


def _card(folder: Path) -> tuple[str, dict[str, str]]:
    """Version and digests of `model.json`."""
    try:
        card = json.loads((folder / "model.json").read_text())
        method, version, digests = card.get("method"), str(card["version"]), dict(card["sha256"])
    except OSError as error:
        raise WeightsError(f"weights of profile {folder.name} are not installed: model.json is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"weights of profile {folder.name}: model.json is damaged; install them again") from error
    if method != METHOD:
        raise WeightsError(f"weights of profile {folder.name} are not of the thesis's method")
    return version, digests
