"""From a collimated cine to its full field: evidence of all frames, VAE prior, Palette refinement, composite."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from config.errors import ConfigError
from inference.composite import compose
from inference.evidence import NEVER, Evidence, gather
from inference.familiarity import traits
from inference.find_aperture import find_in_frames
from inference.grain import grain
from inference.grid import enlarged, reduced, softened, without_weave
from inference.memory import Placement
from inference.network import FRAME_SIDE
from inference.on_disk import array_on_disk, let_go
from inference.palette import RESIDUAL_SCALE, condition
from inference.pixels import Cine
from inference.precision import autocast
from inference.reconstruction import ApertureSource, Mode, Provenance, Reconstruction
from inference.residual_signal import ResidualSignal
from inference.sampler import SAMPLE_STEPS, sample
from inference.weights import Weights, load_weights

#: Number of the way from these weights to pixels, 1 higher whenever they give other pixels: results' UIDs have
#: to differ then (docs/decisions/0007). 2: enlarged pictures keep the grid's detail (docs/decisions/0040).
#: 3: the best estimate is smoothed over the seams of the networks' patches (docs/decisions/0044).
#: 4: a draw takes two evaluations (docs/decisions/0045), and what repeats with the patches is taken away (0044).
METHOD = 4
#: Frames that go through the networks together.
_BATCH = {"cpu": 4, "cuda": 32}


@dataclass(frozen=True, kw_only=True)
class Field:
    """The networks' full field for some frames, at their grid.

    grey: (n, 256, 256) float32 in [-1, 1]; half_width: the same shape, of the 90 % interval around the best estimate.
    strangeness: (n,) float32, above 1 for frames unlike those that the networks know.
    devices: where the networks ran, more than one where memory gave out on the way.
    """

    grey: NDArray[np.float32]
    half_width: NDArray[np.float32]
    strangeness: NDArray[np.float32]
    devices: tuple[str, ...]


class Reconstructor:
    """A profile's weights on a device, ready for any number of cines."""

    def __init__(self, weights: Weights, device: str) -> None:
        self.weights = weights
        self._placement = Placement((weights.finder, weights.vae, weights.palette), device)

    @classmethod
    def load(cls, profile: str, device: str = "auto") -> "Reconstructor":
        """Load a profile onto `auto` (cuda where there is one), `cpu` or `cuda`. Raises WeightsError, ConfigError."""
        return cls(load_weights(profile), choose_device(device))

    @property
    def device(self) -> str:
        """Where the networks are: the cpu from when the memory of the device that was chosen did not suffice."""
        return self._placement.device

    def reconstruct(
        self,
        cine: Cine,
        apertures: NDArray[np.bool_],
        aperture_source: ApertureSource,
        *,
        mode: Mode,
        seed: int,
        progress: Callable[[float], None] | None = None,
    ) -> Reconstruction:
        """Fill what the apertures (n, h, w) leave hidden; `progress` is told the share done, in (0, 1].

        Each frame is filled by what all of them tell (inference/evidence.py). What another frame of the same view saw
        through its aperture is taken from there.
        """
        shape = cine.stored.shape
        stored, uncertainty = array_on_disk(shape, cine.stored.dtype), array_on_disk(shape, np.float32)
        elsewhen = array_on_disk(shape, np.bool_)
        strangeness = np.zeros(len(cine.stored), np.float32)
        signal = ResidualSignal()
        devices: dict[str, None] = {}
        for evidence in self._evidence(cine, apertures):
            field = self.generate(evidence, mode=mode, seed=seed)
            devices |= dict.fromkeys(field.devices)
            signal.add(evidence, field.grey)
            strangeness[evidence.first : evidence.first + len(field.strangeness)] = field.strangeness
            grey, half_width = (_to_size(part, stored.shape[1:]) for part in (field.grey, field.half_width))
            for offset, seen_in in enumerate(evidence.seen_in):
                index = evidence.first + offset
                if mode == "sample":
                    frame = cine.mapping.to_grey(cine.stored[index])
                    grey[offset] += grain(frame, apertures[index], np.random.default_rng([seed, index]))
                elsewhen[index] = seen_in != NEVER
                stored[index] = compose(cine.stored[index], grey[offset], apertures[index], cine.mapping)
                stored[index, elsewhen[index]] = _seen(cine.stored, seen_in)
                uncertainty[index] = np.where(apertures[index] | elsewhen[index], 0, half_width[offset].clip(0))
            let_go(cine.stored, apertures, stored, elsewhen, uncertainty)
            if progress is not None:
                progress((evidence.first + len(evidence.pictures)) / len(stored))
        return Reconstruction(
            stored=stored,
            aperture=apertures,
            elsewhen=elsewhen,
            uncertainty=uncertainty,
            strangeness=float(np.median(strangeness)),
            provenance=self._provenance(mode, seed, " and ".join(devices), aperture_source, signal),
        )

    def find_apertures(self, frames: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The measured pixels of frames (n, h, w) with grey levels in [-1, 1], see `find_in_frames`."""

        def found(part: slice) -> NDArray[np.bool_]:
            return find_in_frames(frames[part], self.weights.finder, self.device)

        return np.concatenate(self._placement.in_parts(found, len(frames)))

    def generate(self, evidence: Evidence, *, mode: Mode, seed: int) -> Field:
        """The full field of some frames, without compositing.

        In `mean` mode that is the prior: Palette's own estimate of the mean is no better (docs/decisions/0020). In
        `sample` mode Palette draws what the prior leaves open; all frames share one noise picture, so that a draw does
        not flicker from frame to frame.
        """
        noise = torch.randn(1, 1, FRAME_SIDE, FRAME_SIDE, generator=torch.Generator().manual_seed(seed))

        def field(part: slice) -> Field:
            return self._field(evidence.pictures[part], evidence.apertures[part], evidence.frames[part], mode, noise)

        return _joined(self._placement.in_parts(field, len(evidence.pictures)))

    @torch.inference_mode()
    def _field(
        self,
        pictures: NDArray[np.float32],
        apertures: NDArray[np.bool_],
        numbers: NDArray[np.float32],
        mode: Mode,
        noise: Tensor,
    ) -> Field:
        """The full field of frames that go through the networks together; see `Evidence` for what they are given."""
        collimated, aperture, frames = (
            torch.from_numpy(part.astype(np.float32))[:, None].to(self.device)
            for part in (pictures, apertures, numbers)
        )
        hidden = 1 - aperture
        with autocast(self.device):
            prior = self.weights.vae(collimated, aperture, frames)
            if mode == "mean":
                grey = softened(prior.mean)
            else:
                seen = condition(collimated, aperture, frames, prior.mean)

                def denoiser(noisy: Tensor, sigma: Tensor) -> Tensor:
                    estimate: Tensor = self.weights.palette(noisy, sigma, seen)
                    return estimate

                residual = sample(denoiser, noise.to(self.device).expand_as(hidden), hidden)
                grey = prior.mean + RESIDUAL_SCALE * residual
        log_variance = without_weave(softened(prior.log_variance), hidden)
        known = self.weights.calibration
        return Field(
            grey=_to_memory(without_weave(grey, hidden)).clip(-1, 1),
            half_width=known.half_width(_to_memory((0.5 * log_variance).exp()), apertures),
            strangeness=known.strangeness(traits(prior.features, pictures, apertures)),
            devices=(self.device,),
        )

    def _evidence(self, cine: Cine, apertures: NDArray[np.bool_]) -> Iterator[Evidence]:
        """What the whole cine tells of each of its frames, at the networks' grid, in frame order."""
        step = _BATCH[self.device]
        known = np.empty((len(apertures), FRAME_SIDE, FRAME_SIDE), bool)
        for start in range(0, len(apertures), step):
            chunk = slice(start, start + step)
            known[chunk] = self._to_grid(apertures[chunk].astype(np.float32)) >= 0.5
            let_go(apertures)

        def frames(start: int, stop: int) -> NDArray[np.float32]:
            grey = cine.mapping.to_grey(cine.stored[start:stop])
            let_go(cine.stored)
            return self._to_grid(grey)

        return gather(frames, apertures, known, chunk=step)

    def _to_grid(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, h, w) to (n, 256, 256), see `inference.grid.reduced`."""

        def small(part: slice) -> NDArray[np.float32]:
            large = torch.from_numpy(pictures[part])[:, None].to(self.device)
            return _to_memory(reduced(large))

        return np.concatenate(self._placement.in_parts(small, len(pictures)))

    def _provenance(
        self, mode: Mode, seed: int, device: str, aperture_source: ApertureSource, signal: ResidualSignal
    ) -> Provenance:
        return Provenance(
            model=self.weights.profile,
            version=self.weights.version,
            digest=self.weights.digest,
            mode=mode,
            seed=seed,
            steps=0 if mode == "mean" else SAMPLE_STEPS,
            device=device,
            aperture_source=aperture_source,
            frames_behind=signal.frames_behind,
            residual_signal=signal.share,
            method=METHOD,
        )


def choose_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu. Raises ConfigError for a device that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in _BATCH:
        raise ConfigError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but no CUDA device is available; use auto or cpu")
    return device


def _seen(stored: NDArray[np.integer], seen_in: NDArray[np.int32]) -> NDArray[np.integer]:
    """The stored values of the frames that saw the pixels of another one, for those that were seen, as a vector."""
    rows, columns = np.nonzero(seen_in != NEVER)
    return stored[seen_in[rows, columns], rows, columns]


def _joined(fields: Sequence[Field]) -> Field:
    """The fields of consecutive frames as one."""
    return Field(
        grey=np.concatenate([field.grey for field in fields]),
        half_width=np.concatenate([field.half_width for field in fields]),
        strangeness=np.concatenate([field.strangeness for field in fields]),
        devices=tuple(device for field in fields for device in field.devices),
    )


def _to_size(pictures: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """(n, 256, 256) to (n, h, w)."""
    return _to_memory(enlarged(torch.from_numpy(pictures)[:, None], size))


def _to_memory(pictures: Tensor) -> NDArray[np.float32]:
    """(n, 1, h, w) on the device to (n, h, w) in main memory."""
    out: NDArray[np.float32] = pictures[:, 0].float().cpu().numpy()
    return out
