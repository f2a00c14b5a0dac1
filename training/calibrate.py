"""Calibration: what a trained profile does not know of itself by training.

How wide its intervals must be, by split conformal prediction on scenes that it has not learnt; and which pictures it
knows, by a small network that tells those it was trained on from strangers made up for it (training/strangers.py).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn
from torch.nn import functional as F

from inference.calibration import Calibration, uncalibrated, write_calibration
from inference.evidence import NEVER, Evidence
from inference.familiarity import Familiarity, count_traits, traits
from inference.find_aperture import ApertureFinder
from inference.grid import reduced
from inference.intervals import NORMAL_90, QUARTER_MIDDLES, distance_to, quarter_of
from inference.network import FRAME_SIDE
from inference.palette import Palette
from inference.precision import autocast
from inference.reconstruct import Reconstructor, choose_device
from inference.vae import VAE
from inference.weights import (
    FINDER_CHANNELS,
    PALETTE_CHANNELS,
    VAE_CHANNELS,
    VAE_LATENT_CHANNELS,
    Weights,
    read_weights,
)
from training.cines import simulated_cine
from training.examples import HELD_OUT_SHARE, Examples
from training.pairs import Pair, aperture_mask, read_picture
from training.settings import TrainingSettings
from training.strangers import KINDS, stranger

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Share of the hidden pixels that an interval is to hold.
COVERAGE = 0.9
#: Exposures that are simulated of each held-out CT view, and of how many frames.
EXPOSURES = (1, 1, 4, 16)
#: Known pictures a training pair, and altogether at most, that familiarity learns from; and as many strangers.
_PER_PAIR, _MOST = 5, 1280
#: The familiarity network and how it is trained.
_WIDTH, _DROPOUT, _DECAY, _EPOCHS, _BATCH = 64, 0.5, 0.1, 60, 64
#: Share of held-out pictures that may be declined.
_DECLINED = 0.01
#: How much real pictures count beside simulated ones in the intervals.
_REAL, _SIMULATED = 2, 1
#: Every so manieth pixel is looked at in either direction: neighbours tell the same.
_STRIDE = 2


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One picture of a scene that no network has learnt."""

    scene: str
    #: Whether it was exposed in earnest, not simulated.
    real: bool
    #: (256, 256) each: truth and collimated picture in [-1, 1], the aperture, and the frames behind the blades.
    full: Floats
    collimated: Floats
    aperture: Mask
    frames: Floats


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How far off a held-out picture's best estimate is, at some of its hidden pixels.

    score: (n,) in the VAE's standard deviations; deviation, distance: (n,) those, and widths from the aperture.
    """

    scene: str
    real: bool
    score: Floats
    deviation: Floats
    distance: Floats


def calibrate(folder: Path, pairs: Sequence[Pair], projections: Path | None) -> Path:
    """Calibrate a folder's trained networks, and write `calibration.safetensors` beside them.

    pairs: those of the split `val` calibrate the intervals and the limit of familiarity, the others are what
    familiarity learns; where either is missing, all of them do. projections: file of CT line integrals, whose last
    views no network has learnt, or None. Raises WeightsError or ConfigError for what cannot be read.
    """
    reconstructor = load_run(folder)
    validation = [pair for pair in pairs if pair.split == "val"] or pairs
    training = [pair for pair in pairs if pair.split != "val"] or pairs
    held_out = [*held_out_pairs(validation), *held_out_views(projections)]
    factors = interval_factors([score(reconstructor, one) for one in track(held_out, "Scoring held-out scenes")])
    examples = Examples(training, projections, TrainingSettings(seed=7))
    known = learn_familiarity(reconstructor, examples, len(training), held_out)
    path = folder / "calibration.safetensors"
    write_calibration(Calibration(factors=factors, familiarity=known), path)
    return path


def load_run(folder: Path) -> Reconstructor:
    """The trained networks of a folder that is not yet a profile. Raises WeightsError."""
    finder = ApertureFinder(FINDER_CHANNELS)
    vae = VAE(VAE_CHANNELS, VAE_LATENT_CHANNELS)
    palette = Palette(PALETTE_CHANNELS)
    for network, name in ((finder, "aperture"), (vae, "vae"), (palette, "distilled")):
        read_weights(network, folder / f"{name}.safetensors")
    return Reconstructor(
        Weights(
            profile=folder.name,
            version="",
            digest="",
            finder=finder.eval(),
            vae=vae.eval(),
            palette=palette.eval(),
            calibration=uncalibrated(count_traits(VAE_CHANNELS)),
        ),
        choose_device("auto"),
    )


def held_out_pairs(pairs: Sequence[Pair]) -> Iterator[HeldOut]:
    """The pairs as they are, with the aperture of pairs.csv."""
    for pair in pairs:
        yield HeldOut(
            scene=pair.scene,
            real=True,
            full=read_picture(pair.full, FRAME_SIDE),
            collimated=read_picture(pair.collimated, FRAME_SIDE),
            aperture=aperture_mask(pair.aperture, (FRAME_SIDE, FRAME_SIDE)),
            frames=np.ones((FRAME_SIDE, FRAME_SIDE), np.float32),
        )


def held_out_views(projections: Path | None) -> Iterator[HeldOut]:
    """Simulated exposures of the CT views that training leaves out, of one frame and of several."""
    if projections is None:
        return
    views = np.load(projections, mmap_mode="r")
    first = min(round(len(views) * (1 - HELD_OUT_SHARE)), len(views) - 1)
    for index in range(first, len(views)):
        large = torch.from_numpy(views[index].astype(np.float32))[None, None]
        view = reduced(large)[0, 0].numpy()
        for number, count in enumerate(EXPOSURES):
            cine = simulated_cine(view, "still", count, len(EXPOSURES) * index + number)
            aperture = cine.apertures[0]
            yield HeldOut(
                scene=f"view {index}",
                real=False,
                full=cine.full[0],
                collimated=np.where(aperture, cine.collimated[0], cine.collimated.mean(axis=0)),
                aperture=aperture,
                frames=np.where(aperture, 1, count).astype(np.float32),
            )


def score(reconstructor: Reconstructor, one: HeldOut) -> Scores:
    """How far off the best estimate of an uncalibrated reconstructor is."""
    field = reconstructor.generate(_evidence(one), mode="mean", seed=0)
    deviation = field.half_width[0] / NORMAL_90
    hidden = np.zeros_like(one.aperture)
    hidden[::_STRIDE, ::_STRIDE] = ~one.aperture[::_STRIDE, ::_STRIDE]
    return Scores(
        scene=one.scene,
        real=one.real,
        score=(np.abs(one.full - field.grey[0]) / deviation)[hidden],
        deviation=deviation[hidden],
        distance=distance_to(one.aperture[None])[0][hidden],
    )


def interval_factors(scores: Sequence[Scores]) -> Floats:
    """For each quarter of the distance the factor that makes a 90 % interval of the VAE's deviation: (4,).

    Scenes count alike, whatever their number of pictures; real ones together count twice what simulated ones do. A
    quarter that no picture has takes the factor of all. Split conformal prediction asks for the (1 + 1/n) * 0.9
    quantile of n independent scores; pixels of one scene are not independent, so n is the number of independent ones
    that would scatter as much as the scenes do (Kish's effective sample size).
    """
    everywhere = _quantile([(s, s.score) for s in scores])
    factors = []
    for quarter in range(len(QUARTER_MIDDLES)):
        here = [(s, s.score[quarter_of(s.distance) == quarter]) for s in scores]
        present = [(s, values) for s, values in here if values.size]
        factors.append(_quantile(present) if present else everywhere)
    return np.array(factors, np.float32)


def _quantile(parts: Sequence[tuple[Scores, Floats]]) -> float:
    scenes = Counter((s.real, s.scene) for s, _ in parts)
    worlds = Counter(real for real, _ in scenes)
    importance = {real: _REAL if real else _SIMULATED for real in worlds}
    weights = [
        importance[s.real] / (sum(importance.values()) * worlds[s.real] * scenes[s.real, s.scene]) for s, _ in parts
    ]
    values = np.concatenate([values for _, values in parts])
    order = np.argsort(values)
    each = np.concatenate([np.full(v.size, w / v.size) for w, (_, v) in zip(weights, parts, strict=True)])
    values, rank = values[order], np.cumsum(each[order])

    def at(level: float) -> float:
        return float(values[min(int(np.searchsorted(rank, level)), values.size - 1)])

    beyond: dict[tuple[bool, str], float] = defaultdict(float)
    for weight, (s, v) in zip(weights, parts, strict=True):
        beyond[s.real, s.scene] += weight * (float((v <= at(COVERAGE)).mean()) - COVERAGE)
    independent = COVERAGE * (1 - COVERAGE) / max(sum(share**2 for share in beyond.values()), 1e-9)
    return at(COVERAGE * (1 + 1 / independent))


def learn_familiarity(
    reconstructor: Reconstructor, examples: Examples, pairs: int, held_out: Sequence[HeldOut]
) -> Familiarity:
    """Tell known pictures, as training draws them, from strangers; at most 1 % of the held-out ones are declined."""
    rng = np.random.default_rng(7)
    known, strange = [], []
    steps = range(-(-min(_PER_PAIR * pairs, _MOST) // 16))
    for step in track(steps, "Learning which pictures are known"):
        batch = examples.batch(step, 16)
        pictures, apertures = batch.collimated[:, 0].numpy(), batch.aperture[:, 0].numpy() > 0.5
        known.append(traits_of(reconstructor, pictures, apertures, batch.frames[:, 0].numpy()))
        made = [
            stranger(KINDS[rng.integers(len(KINDS))], picture, measured, rng)
            for picture, measured in zip(pictures, apertures, strict=True)
        ]
        others, open_there = (np.stack(part) for part in zip(*made, strict=True))
        # Were strangers of one frame alone, more frames would make a picture known.
        frames = np.where(open_there, 1, batch.frames.amax((1, 2, 3)).numpy()[:, None, None])
        strange.append(traits_of(reconstructor, others, open_there, frames))
    network = _familiarity(np.concatenate(known), np.concatenate(strange))
    kept_out = np.concatenate(
        [
            traits_of(reconstructor, one.collimated[None], one.aperture[None], one.frames[None])
            for one in track(held_out, "Setting the limit of the familiar")
        ]
    )
    logarithm = np.log(network.strangeness(kept_out).clip(1e-30))
    real = np.array([one.real for one in held_out])
    return replace(network, limit=network.limit + np.float32(limit_of(logarithm, real)))


def limit_of(strangeness: Floats, real: Mask) -> float:
    """The strangeness beyond which 1 % of the real pictures at most, and of the simulated ones, are declined; (n,)."""
    return max(float(np.quantile(strangeness[world], 1 - _DECLINED)) for world in (real, ~real) if world.any())


def traits_of(reconstructor: Reconstructor, pictures: Floats, apertures: Mask, frames: Floats) -> Floats:
    """The traits of collimated pictures, (n, 256, 256), with their apertures and the frames behind the blades."""
    seen = (
        torch.from_numpy(p.astype(np.float32))[:, None].to(reconstructor.device) for p in (pictures, apertures, frames)
    )
    with torch.inference_mode(), autocast(reconstructor.device):
        features = reconstructor.weights.vae(*seen).features
    return traits(features, pictures, apertures)


def _familiarity(known: Floats, strange: Floats) -> Familiarity:
    """The network that tells the traits of known pictures, (n, d), from those of strangers, by cross-entropy."""
    spread = known.std(axis=0) + np.float32(1e-3)
    blank = np.zeros(1, np.float32)
    made = Familiarity(centre=known.mean(axis=0), spread=spread, layer=blank, offset=blank, odds=blank, limit=blank)
    inputs = torch.from_numpy(np.concatenate([made.standard(known), made.standard(strange)]))
    is_strange = torch.cat([torch.zeros(len(known)), torch.ones(len(strange))])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        first, last = nn.Linear(inputs.shape[1], _WIDTH), nn.Linear(_WIDTH, 1)
        network = nn.Sequential(nn.Dropout(_DROPOUT), first, nn.ReLU(), nn.Dropout(_DROPOUT), last)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=_DECAY)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(inputs)).split(_BATCH):  # type: ignore[no-untyped-call]
                loss = F.binary_cross_entropy_with_logits(network(inputs[rows])[:, 0], is_strange[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return replace(
        made,
        layer=np.ascontiguousarray(first.weight.detach().numpy().T),
        offset=first.bias.detach().numpy(),
        odds=last.weight.detach().numpy()[0],
        limit=-last.bias.detach().numpy(),
    )


def _evidence(one: HeldOut) -> Evidence:
    return Evidence(
        first=0,
        pictures=one.collimated[None],
        apertures=one.aperture[None],
        frames=one.frames[None],
        seen_in=np.full((1, *one.aperture.shape), NEVER, np.int32),
    )
