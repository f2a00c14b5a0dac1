"""What the student learns from: draws of its teacher, the undistilled Palette, on training examples.

They lie in a file, since each takes the teacher as many evaluations as its solver has steps, and serves many times.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from config.errors import ConfigError
from inference.network import FRAME_SIDE
from inference.palette import Palette, condition
from inference.precision import autocast
from inference.vae import VAE
from inference.weights import (
    PALETTE_CHANNELS,
    VAE_CHANNELS,
    VAE_LATENT_CHANNELS,
    read_weights,
    sha256_of,
)
from training.drawn import DrawnExamples
from training.examples import FOLDS, Batch, Examples
from training.loop import Material
from training.provenance import provenance
from training.settings import DistilSettings
from training.solver import MIDDLE, solve
from training.train import fold_prior_name

#: Features of each level of the priors and of Palette.
Channels = tuple[Sequence[int], Sequence[int]]
#: The runs whose networks draw: the profile's prior, for each fold the prior that has not seen it, and the teacher.
TEACHERS = ("vae", *(fold_prior_name(fold) for fold in range(FOLDS)), "palette")
#: What is kept of a draw, each (256, 256).
_KEPT = ("collimated", "aperture", "frames", "mean", "noise", "middle", "drawn")
#: Examples that are drawn together.
_TOGETHER = 8


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A batch of the teacher's draws, each (n, 1, 256, 256).

    collimated, aperture, frames: as in `training.examples.Batch`; mean: the prior's; noise: standard normal values;
    middle: the noisy residual at the student's second level; drawn: the residual at the end.
    """

    collimated: Tensor
    aperture: Tensor
    frames: Tensor
    mean: Tensor
    noise: Tensor
    middle: Tensor
    drawn: Tensor

    def to(self, device: torch.device) -> "Drawn":
        """The same batch on another device."""
        return Drawn(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class TeacherDraws:
    """The draws in a file that `draw_by_teacher` wrote; which ones a batch holds depends on seed and step alone."""

    def __init__(self, file: Path, seed: int) -> None:
        self._kept: NDArray[np.float16] = np.load(file, mmap_mode="r")
        self._seed = seed

    def batch(self, step: int, size: int) -> Drawn:
        """The batch of training step `step`."""
        rows = np.random.default_rng([self._seed, step]).integers(len(self._kept), size=size)
        parts = torch.from_numpy(self._kept[rows].astype(np.float32))[:, :, None].unbind(1)
        return Drawn(**dict(zip(_KEPT, parts, strict=True)))


def read_teacher(folder: Path, channels: Channels = (VAE_CHANNELS, PALETTE_CHANNELS)) -> tuple[list[VAE], Palette]:
    """The priors of a run's folder, the profile's first, and the undistilled Palette, ready to draw."""
    priors, teacher = [VAE(channels[0], VAE_LATENT_CHANNELS) for _ in TEACHERS[:-1]], Palette(channels[1])
    for network, name in zip((*priors, teacher), TEACHERS, strict=True):
        read_weights(network, folder / f"{name}.safetensors")
        network.eval().requires_grad_(False).to(PartialState().device)
    return priors, teacher


def draw_by_teacher(
    folder: Path,
    material: Material,
    settings: DistilSettings,
    out: Path,
    channels: Channels = (VAE_CHANNELS, PALETTE_CHANNELS),
) -> TeacherDraws:
    """Let the teacher of a run's folder draw on training examples into the file `out`, unless it has already.

    As in Palette's own training, an example's prior is at times one that has not seen it. channels: features of each
    level of the priors and of Palette. Raises ConfigError where `out` holds other draws.
    """
    about = _about(folder, material, settings)
    told = out.with_suffix(".json")
    if out.is_file():
        if not told.is_file() or json.loads(told.read_text()) != about:
            raise ConfigError(f"{out}: holds the draws of another teacher or other settings; remove it to draw anew")
        return TeacherDraws(out, settings.seed)
    priors, teacher = read_teacher(folder, channels)
    examples: Examples | DrawnExamples = Examples(material.training, material.projections, settings)
    if material.drawn is not None:
        examples = DrawnExamples(material.drawn, settings)
    part = out.with_suffix(".part")
    kept = np.lib.format.open_memmap(part, "w+", np.float16, (settings.draws, len(_KEPT), FRAME_SIDE, FRAME_SIDE))
    for start in track(range(0, settings.draws, _TOGETHER), "the teacher draws"):
        batch = examples.batch(start // _TOGETHER, min(_TOGETHER, settings.draws - start))
        rng = torch.Generator().manual_seed(settings.seed * settings.draws + start)
        drawn = _drawn(teacher, priors, batch.to(PartialState().device), settings.familiar_share, rng)
        kept[start : start + len(drawn)] = drawn.numpy()
    kept.flush()
    told.write_text(json.dumps(about, indent=1))
    part.replace(out)
    return TeacherDraws(out, settings.seed)


@torch.inference_mode()
def _drawn(
    teacher: Palette, priors: Sequence[VAE], batch: Batch, familiar_share: float, rng: torch.Generator
) -> Tensor:
    """One draw for each example, (n, 7, 256, 256) in the order of `_KEPT`."""
    familiar = torch.rand(len(batch.full), generator=rng) < familiar_share
    noise = torch.randn(batch.full.shape, generator=rng).to(batch.full.device)
    hidden, mean = 1 - batch.aperture, torch.empty_like(batch.full)
    of_prior = torch.where(familiar, 0, 1 + batch.fold.cpu())
    with autocast(batch.full.device.type):
        for number, prior in enumerate(priors):
            rows = (of_prior == number).to(batch.full.device)
            if rows.any():
                mean[rows] = prior(batch.collimated[rows], batch.aperture[rows], batch.frames[rows]).mean.float()
        seen = condition(batch.collimated, batch.aperture, batch.frames, mean)
        states = solve(lambda x, sigma: teacher(x, sigma, seen).float(), noise, hidden)
    parts = (batch.collimated, batch.aperture, batch.frames, mean, noise, states[MIDDLE], states[-1])
    return torch.cat(parts, dim=1).half().cpu()


def _about(folder: Path, material: Material, settings: DistilSettings) -> dict[str, Any]:
    """What tells one file of draws from another."""
    shares = ("familiar_share", "ct_share", "redrawn_share", "several_share")
    return {
        "draws": settings.draws,
        "seed": settings.seed,
        **{name: getattr(settings, name) for name in shares},
        "networks": {name: sha256_of(folder / f"{name}.safetensors") for name in TEACHERS},
        "data": provenance(material.training, material.projections)["data"],
    }
