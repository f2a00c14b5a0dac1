"""The weights: where they lie, what they claim to be, and whether that is true.

A profile is a folder under `inference/models` with `aperture.safetensors`, `vae.safetensors`, `distilled.safetensors`
(Palette, distilled to few evaluations), `calibration.safetensors` (what is known of the networks) and `model.json`,
which names version and SHA-256 of each file. A result carries the digest over all of them, see `Weights.digest`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from config.errors import WeightsError
from inference.calibration import Calibration, read_calibration
from inference.familiarity import count_traits
from inference.find_aperture import ApertureFinder
from inference.palette import Palette
from inference.vae import VAE

FINDER_CHANNELS = (32, 48, 64, 96)
VAE_CHANNELS = (64, 96, 160, 256)
VAE_LATENT_CHANNELS = 32
PALETTE_CHANNELS = (64, 96, 160, 256)

#: The profiles that the package ships.
MODELS = Path(__file__).parent / "models"
_CALIBRATION = "calibration.safetensors"
_FILES = ("aperture.safetensors", "vae.safetensors", "distilled.safetensors", _CALIBRATION)
#: Layout of a profile's files. 2: Palette is distilled; draws take what no earlier profile has.
_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A profile's networks, loaded and verified."""

    profile: str
    version: str
    #: SHA-256 over the digests of all files, lower-case hexadecimal.
    digest: str
    finder: ApertureFinder
    vae: VAE
    palette: Palette
    calibration: Calibration


@dataclass(frozen=True, kw_only=True)
class _Card:
    """What `model.json` claims."""

    version: str
    sha256: dict[str, str]


def load_weights(profile: str, models: Path = MODELS) -> Weights:
    """Load a profile and check each file against the digest that `model.json` states. Raises WeightsError."""
    folder = models / profile
    card = _card(folder)
    finder = ApertureFinder(FINDER_CHANNELS)
    vae = VAE(VAE_CHANNELS, VAE_LATENT_CHANNELS)
    palette = Palette(PALETTE_CHANNELS)
    for name in _FILES:
        if sha256_of(folder / name) != card.sha256.get(name):
            raise WeightsError(f"weights {profile}/{name} do not match the digest in model.json; install them again")
    for network, name in zip((finder, vae, palette), _FILES, strict=False):
        read_weights(network, folder / name)
    return Weights(
        profile=profile,
        version=card.version,
        digest=_digest(card),
        finder=finder.eval(),
        vae=vae.eval(),
        palette=palette.eval(),
        calibration=read_calibration(folder / _CALIBRATION, count_traits(VAE_CHANNELS)),
    )


def digest_of(profile: str, models: Path = MODELS) -> str:
    """The digest that results of this profile carry, from `model.json`, without loading the networks."""
    return _digest(_card(models / profile))


def read_weights(network: nn.Module, path: Path) -> None:
    """Read a network's weights; names, shapes and finiteness are checked. Raises WeightsError."""
    try:
        state = load_file(path)
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"weights {path.parent.name}/{path.name} are missing or damaged; install them again"
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"weights {path.parent.name}/{path.name} belong to another network") from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise WeightsError(f"weights {path.parent.name}/{path.name} hold numbers that are not finite")


def write_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights in half precision, which halves the file and changes no picture visibly."""
    save_file(
        {name: tensor.detach().cpu().half().contiguous() for name, tensor in network.state_dict().items()},
        path,
    )


def write_card(folder: Path, version: str, training: dict[str, object]) -> None:
    """Write `model.json` beside a profile's weights: version, digests, and how they were trained."""
    card = {
        "format": _FORMAT,
        "version": version,
        "sha256": {name: sha256_of(folder / name) for name in _FILES},
        "training": training,
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")


def sha256_of(path: Path) -> str:
    """Lower-case hexadecimal digest of a weights file. Raises WeightsError if it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights {path.parent.name}/{path.name} are missing; install them again") from error


def _card(folder: Path) -> _Card:
    try:
        card = json.loads((folder / "model.json").read_text())
        if card.get("format", _FORMAT) > _FORMAT:
            raise WeightsError(f"weights of profile {folder.name} are of a later Fullfield; install that")
        if card.get("format", _FORMAT) < _FORMAT:
            raise WeightsError(
                f"weights of profile {folder.name} are of an earlier Fullfield; in the folder of their training, "
                "`fullfield train distil`, then `fullfield train calibrate` make them whole"
            )
        return _Card(version=str(card["version"]), sha256=dict(card["sha256"]))
    except OSError as error:
        raise WeightsError(
            f"weights of profile {folder.name} are not installed: {folder} holds no model.json; the administrator of "
            "this machine puts them there"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"weights of profile {folder.name}: model.json is damaged; install them again") from error


def _digest(card: _Card) -> str:
    return hashlib.sha256("".join(card.sha256.get(name, "") for name in _FILES).encode()).hexdigest()
