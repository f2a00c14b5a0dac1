"""Training examples: augmented pairs, and pairs simulated on CT projections and on the objects of the full pictures.

Behind the blades an example may show the average of several exposures, and says of how many: pairs that are nearly the
same exposure are averaged, and simulation draws as many as are asked for.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from config.errors import ConfigError
from inference.evidence import MOST_FRAMES
from inference.grid import reduced
from inference.network import FRAME_SIDE
from training.blades import random_aperture
from training.collimate import Exposure, random_exposure, simulate_cine
from training.devices import add_devices
from training.modality import EvenedContrast, Modality, random_modality
from training.pairs import Pair, aperture_mask, read_picture
from training.redraw import redraw
from training.settings import TrainingSettings

#: Share of the CT views that only validation sees, and how many examples it draws on them and on the pairs' objects.
HELD_OUT_SHARE, HELD_OUT_EXAMPLES = 0.06, 20
#: Halves that the scenes and the CT views are cut into, for a prior that has not seen what Palette learns from.
FOLDS = 2
#: Mean squared difference of two full fields, in grey levels of [-1, 1], below which they are the same exposure.
SAME_EXPOSURE = 0.01
#: Of the redrawn objects, the share that is shown with evened-out contrast, as the pairs are.
EVENED_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Batch:
    """full, collimated: (n, 1, 256, 256) grey in [-1, 1]; aperture: the same shape, 1 = measured; frames: the same
    shape, how many frames the collimated picture was averaged over; fold: (n,) the half that an example is in."""

    full: Tensor
    collimated: Tensor
    aperture: Tensor
    frames: Tensor
    fold: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = {name: tensor.to(device) for name, tensor in vars(self).items()}
        return Batch(**moved)


class Examples:
    """Draws training batches; the draws depend on the seed and the step alone, so that training resumes exactly."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        projections: Path | None,
        settings: TrainingSettings,
        leave_out: int | None = None,
    ) -> None:
        """projections: file of (n, h, w) line integrals of CT views (see training.project), or None; settings: seed
        and shares; leave_out: the fold that no batch shows. Raises ConfigError where nothing is left to draw from."""
        self._settings, self._leave_out = settings, leave_out
        kept = [pair for pair in pairs if fold_of(pair.scene) != leave_out]
        if not kept:
            raise ConfigError(f"without fold {leave_out} no pairs are left: the data set has too few scenes")
        self._folds = [fold_of(pair.scene) for pair in kept]
        self._pairs = [_stack(pair, 2 * FRAME_SIDE) for pair in kept]
        self._partners = _partners(kept, self._pairs)
        self._projections: NDArray[np.float16] | None = None
        if projections is not None:
            self._projections = _views(projections)
            count = len(self._projections)
            self._first_held_out = min(round(count * (1 - HELD_OUT_SHARE)), count - 1)

    def batch(self, step: int, size: int) -> Batch:
        """The batch of training step `step`."""
        rng = np.random.default_rng([self._settings.seed, step])
        redrawn, ct = self._settings.redrawn_share, 0 if self._projections is None else self._settings.ct_share
        examples = []
        for kind in rng.random(size):
            if kind < ct:
                examples.append(self._on_ct(rng, 0, self._first_held_out, self._leave_out))
            elif kind < ct + redrawn:
                index = int(rng.integers(len(self._pairs)))
                examples.append((self._redrawn(self._pairs[index][0].numpy(), rng), self._folds[index]))
            else:
                examples.append(self._augmented(rng))
        return _batch(examples)

    def held_out(self, pairs: Sequence[Pair]) -> Batch:
        """What validation sees: the pairs as they are, and examples simulated on them and on CT views that training
        is not shown."""
        examples = [(_stack(pair, FRAME_SIDE), fold_of(pair.scene)) for pair in pairs]
        rng = np.random.default_rng(0)
        for index in np.linspace(0, len(pairs) - 1, HELD_OUT_EXAMPLES).astype(int):
            examples.append((self._redrawn(read_picture(pairs[index].full, 2 * FRAME_SIDE), rng), examples[index][1]))
        if self._projections is not None:
            last = len(self._projections)
            examples += [self._on_ct(rng, self._first_held_out, last) for _ in range(HELD_OUT_EXAMPLES)]
        return _batch(examples)

    def _augmented(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """One of the pairs, averaged with some of those that are the same exposure, moved and changed a little."""
        index = int(rng.integers(len(self._pairs)))
        full, collimated, aperture, frames = self._pairs[index]
        partners = self._partners[index]
        if partners and rng.random() < self._settings.several_share:
            total = collimated.clone()
            for partner in rng.choice(partners, rng.integers(1, len(partners) + 1), replace=False):
                _, another, its_aperture, _ = self._pairs[partner]
                total += another * (1 - its_aperture)
                frames = frames + (1 - its_aperture)
            collimated = torch.where(aperture > 0, collimated, total / frames)
            frames = torch.where(aperture > 0, torch.ones_like(frames), frames)
        return _augment(torch.stack([full, collimated, aperture, frames]), rng), self._folds[index]

    def _redrawn(self, picture: NDArray[np.float32], rng: np.random.Generator) -> Tensor:
        """One pair simulated on an object that looks like this full picture."""
        picture = _random_crop(picture[:, ::-1] if rng.random() < 0.5 else picture, rng)
        view, exposure = add_devices(redraw(picture, rng), rng), random_exposure(rng)
        evened = rng.random() < EVENED_SHARE
        modality = EvenedContrast() if evened else random_modality(exposure.quanta, rng)
        return self._exposed(view, exposure, modality, rng)

    def _on_ct(
        self, rng: np.random.Generator, first: int, last: int, leave_out: int | None = None
    ) -> tuple[Tensor, int]:
        """One pair on a random CT view out of [first, last), of another fold than `leave_out` where there is one."""
        assert self._projections is not None
        index = int(rng.integers(first, last))
        if index % FOLDS == leave_out:
            index = index - 1 if index > first else min(index + 1, last - 1)
        view = self._projections[index].astype(np.float32)
        if rng.random() < 0.5:
            view = view[:, ::-1]
        view = add_devices(_random_crop(view, rng), rng)
        exposure = random_exposure(rng)
        return self._exposed(view, exposure, random_modality(exposure.quanta, rng), rng), index % FOLDS

    def _exposed(
        self, view: NDArray[np.float32], exposure: Exposure, modality: Modality, rng: np.random.Generator
    ) -> Tensor:
        several = rng.random() < self._settings.several_share
        count = round(float(np.exp(rng.uniform(np.log(2), np.log(MOST_FRAMES))))) if several else 1
        return torch.from_numpy(_expose(view, exposure, modality, count, rng))


def fold_of(scene: str) -> int:
    """The half that a scene belongs to, the same whatever else is in the data set."""
    return zlib.crc32(scene.encode()) % FOLDS


def _expose(
    view: NDArray[np.float32], exposure: Exposure, modality: Modality, count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Full and collimated picture of a view, aperture and frames, `count` of them behind the blades: (4, h, w)."""
    aperture = random_aperture(view.shape, rng)
    full = next(simulate_cine(view, None, exposure, modality, rng))
    cine = simulate_cine(view, aperture, exposure, modality, rng)
    measured = aperture.mask(full.shape)
    collimated = next(cine)
    frames: NDArray[np.floating] = np.ones_like(full)
    if count > 1:
        few = int(rng.integers(1, count)) if rng.random() < 0.3 else 0
        total, average_of_few = collimated.copy(), collimated
        for number in range(1, count):
            if number == few:
                average_of_few = np.asarray(total / number, dtype=np.float32)
            total += next(cine)
        # Where something moves, fewer frames tell of a pixel than elsewhere.
        moving = _blobs(full.shape, rng) & (few > 0)
        average = np.where(moving, average_of_few, total / count)
        collimated = np.where(measured, collimated, average)
        frames = np.where(measured, 1, np.where(moving, max(few, 1), count))
    if rng.random() < 0.1:
        # Other frames of the same view may have had the blades elsewhere.
        elsewhere = random_aperture(view.shape, rng).mask(full.shape) & ~measured
        if not (measured | elsewhere).all():
            another = next(simulate_cine(view, None, exposure, modality, rng))
            collimated = np.where(elsewhere, another, collimated)
            measured, frames = measured | elsewhere, np.where(elsewhere, 1, frames)
    return np.stack([full, collimated, measured, frames]).astype(np.float32)


def _blobs(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Some smooth regions of the picture."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 5, 5), dtype=np.float32))
    field: NDArray[np.float32] = F.interpolate(coarse, shape, mode="bicubic")[0, 0].numpy()
    return np.asarray(field > rng.uniform(-0.3, 0.8))


def _partners(pairs: Sequence[Pair], stacks: Sequence[Tensor]) -> list[list[int]]:
    """For each pair the others of its scene that are the same exposure but for the noise."""
    scenes = defaultdict(list)
    for index, pair in enumerate(pairs):
        scenes[pair.scene].append(index)
    small = [F.avg_pool2d(stack[None, 0], 4) for stack in stacks]
    return [
        [
            other
            for other in scenes[pair.scene]
            if other != index and (small[index] - small[other]).square().mean() < SAME_EXPOSURE
        ]
        for index, pair in enumerate(pairs)
    ]


def _views(path: Path) -> NDArray[np.float16]:
    """The line integrals of CT views, (n, h, w), left on disk. Raises ConfigError for any other file."""
    try:
        views: NDArray[np.float16] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: not the file of views that `fullfield train project` writes") from error
    if views.ndim != 3 or not views.size or views.dtype.kind != "f":
        raise ConfigError(f"{path}: not the file of views that `fullfield train project` writes")
    if len(views) < 2:
        raise ConfigError(f"{path}: holds one view alone; one is for training and another for validation")
    return views


def _batch(examples: Sequence[tuple[Tensor, int]]) -> Batch:
    """Stacks of full, collimated, aperture and frames, each (4, h, w), with their folds, as one batch."""
    stacks = torch.stack([stack for stack, _ in examples])
    full, collimated, aperture, frames = stacks.unsqueeze(2).unbind(1)
    folds = torch.tensor([fold for _, fold in examples])
    return Batch(full=full, collimated=collimated, aperture=aperture, frames=frames, fold=folds)


def _stack(pair: Pair, side: int) -> Tensor:
    mask = aperture_mask(pair.aperture, (side, side)).astype(np.float32)
    full, collimated = read_picture(pair.full, side), read_picture(pair.collimated, side)
    return torch.from_numpy(np.stack([full, collimated, mask, np.ones_like(mask)]))


def _augment(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """A small rotation, zoom, shift and change of contrast, now and then mirrored; (4, 512, 512) to (4, 256, 256)."""
    angle, zoom = np.deg2rad(rng.normal(0, 2.5)), np.exp(rng.normal(-0.04, 0.06))
    shift = rng.normal(0, 0.035, 2)
    if rng.random() < 0.3:
        angle, zoom, shift = 0.0, 1.0, np.zeros(2)
    if rng.random() < 0.25:
        stack = stack.flip(-1)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    theta = torch.tensor([[[cos, -sin, shift[0]], [sin, cos, shift[1]]]], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 4, *stack.shape[1:]], align_corners=False)
    warped = F.grid_sample(stack[None], grid, padding_mode="reflection", align_corners=False)
    full, collimated, aperture, frames = F.avg_pool2d(warped, 2)[0]
    collimated = collimated * float(np.exp(rng.normal(0, 0.08))) + float(rng.normal(0, 0.02))
    collimated = collimated + float(rng.choice([0.0, 0.05])) * torch.from_numpy(
        rng.standard_normal(collimated.shape, dtype=np.float32)
    )
    measured = aperture > 0.5
    frames = torch.where(measured, torch.ones_like(frames), frames.clamp(min=1))
    return torch.stack([full, collimated.clamp(-1, 1), measured.float(), frames])


def _random_crop(view: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random square of 70 to 100 % of the view, resized to the frame's side."""
    side = min(view.shape)
    size = int(side * rng.uniform(0.7, 1.0))
    top, left = rng.integers(view.shape[0] - size + 1), rng.integers(view.shape[1] - size + 1)
    crop = torch.from_numpy(np.ascontiguousarray(view[top : top + size, left : left + size]))[None, None]
    out: NDArray[np.float32] = reduced(crop)[0, 0].numpy()
    return out
