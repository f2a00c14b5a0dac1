"""Training examples: augmented pairs, and pairs simulated on CT projections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from config.errors import ConfigError
from inference.network import FRAME_SIDE
from training.collimate import random_aperture, random_exposure, simulate_pair
from training.devices import add_devices
from training.modality import random_modality
from training.pairs import Pair, aperture_mask, read_picture

#: Share of the examples of a batch that are simulated on CT projections, where there are any.
CT_SHARE = 0.5
#: Share of the CT views that only validation sees, and how many examples it draws on them.
HELD_OUT_SHARE, HELD_OUT_EXAMPLES = 0.06, 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """full, collimated: (n, 1, 256, 256) grey in [-1, 1]; aperture: the same shape, 1 = measured."""

    full: Tensor
    collimated: Tensor
    aperture: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = {name: tensor.to(device) for name, tensor in vars(self).items()}
        return Batch(**moved)


class Examples:
    """Draws training batches; the draws depend on the seed and the step alone, so that training resumes exactly."""

    def __init__(self, pairs: Sequence[Pair], projections: Path | None, seed: int) -> None:
        """projections: file of (n, h, w) line integrals of CT views (see training.project), or None."""
        self._pairs = [_stack(pair, 2 * FRAME_SIDE) for pair in pairs]
        self._projections: NDArray[np.float16] | None = None
        if projections is not None:
            self._projections = _views(projections)
            count = len(self._projections)
            self._first_held_out = min(round(count * (1 - HELD_OUT_SHARE)), count - 1)
        self._seed = seed

    def batch(self, step: int, size: int) -> Batch:
        """The batch of training step `step`."""
        rng = np.random.default_rng([self._seed, step])
        simulated = 0 if self._projections is None else int(rng.binomial(size, CT_SHARE))
        stacks = [_augment(self._pairs[rng.integers(len(self._pairs))], rng) for _ in range(size - simulated)]
        stacks += [self._simulated(rng, 0, self._first_held_out) for _ in range(simulated)]
        return _batch(stacks)

    def held_out(self, pairs: Sequence[Pair]) -> Batch:
        """What validation sees: the pairs as they are, and examples simulated on CT views kept out of training."""
        stacks = [_stack(pair, FRAME_SIDE) for pair in pairs]
        if self._projections is not None:
            rng = np.random.default_rng(0)
            last = len(self._projections)
            stacks += [self._simulated(rng, self._first_held_out, last) for _ in range(HELD_OUT_EXAMPLES)]
        return _batch(stacks)

    def _simulated(self, rng: np.random.Generator, first: int, last: int) -> Tensor:
        """One pair on a random CT view out of [first, last)."""
        assert self._projections is not None
        view = self._projections[rng.integers(first, last)].astype(np.float32)
        if rng.random() < 0.5:
            view = view[:, ::-1]
        view = add_devices(_random_crop(view, rng), rng)
        aperture = random_aperture(view.shape, rng)
        exposure = random_exposure(rng)
        full, collimated = simulate_pair(view, aperture, exposure, random_modality(exposure.quanta, rng), rng)
        measured = aperture.mask(full.shape).astype(np.float32)
        return torch.from_numpy(np.stack([full, collimated, measured]))


def _views(path: Path) -> NDArray[np.float16]:
    """The line integrals of CT views, (n, h, w), left on disk. Raises ConfigError for any other file."""
    try:
        views: NDArray[np.float16] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: not the file of views that `fullfield train project` writes") from error
    if views.ndim != 3 or not views.size or views.dtype.kind != "f":
        raise ConfigError(f"{path}: not the file of views that `fullfield train project` writes")
    if len(views) < 2:
        raise ConfigError(f"{path}: holds one view only; training and validation need one each")
    if len(views) < 2:
        raise ConfigError(f"{path}: holds one view alone; one is for training and another for validation")
    return views


def _batch(stacks: Sequence[Tensor]) -> Batch:
    """Stacks of full, collimated and aperture, each (3, h, w), as one batch."""
    full, collimated, aperture = torch.stack(list(stacks)).unsqueeze(2).unbind(1)
    return Batch(full=full, collimated=collimated, aperture=aperture)


def _stack(pair: Pair, side: int) -> Tensor:
    mask = aperture_mask(pair.aperture, (side, side)).astype(np.float32)
    return torch.from_numpy(np.stack([read_picture(pair.full, side), read_picture(pair.collimated, side), mask]))


def _augment(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """A small rotation, zoom, shift and change of contrast; (3, 512, 512) to (3, 256, 256)."""
    angle, zoom = np.deg2rad(rng.normal(0, 2)), np.exp(rng.normal(-0.04, 0.04))
    shift = rng.normal(0, 0.025, 2)
    if rng.random() < 0.3:
        angle, zoom, shift = 0.0, 1.0, np.zeros(2)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    theta = torch.tensor([[[cos, -sin, shift[0]], [sin, cos, shift[1]]]], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 3, *stack.shape[1:]], align_corners=False)
    warped = F.grid_sample(stack[None], grid, padding_mode="reflection", align_corners=False)
    full, collimated, aperture = F.avg_pool2d(warped, 2)[0]
    collimated = collimated * float(np.exp(rng.normal(0, 0.08))) + float(rng.normal(0, 0.02))
    collimated = collimated + float(rng.choice([0.0, 0.05])) * torch.from_numpy(
        rng.standard_normal(collimated.shape, dtype=np.float32)
    )
    return torch.stack([full, collimated.clamp(-1, 1), (aperture > 0.5).float()])


def _random_crop(view: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random square of 70 to 100 % of the view, resized to the frame's side."""
    side = min(view.shape)
    size = int(side * rng.uniform(0.7, 1.0))
    top, left = rng.integers(view.shape[0] - size + 1), rng.integers(view.shape[1] - size + 1)
    crop = torch.from_numpy(np.ascontiguousarray(view[top : top + size, left : left + size]))[None, None]
    out: NDArray[np.float32] = F.interpolate(crop, (FRAME_SIDE, FRAME_SIDE), mode="bilinear", antialias=True)[
        0, 0
    ].numpy()
    return out
