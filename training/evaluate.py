"""`fullfield evaluate`: the product's pictures of a paired data set against the truth.

The aperture is found by the product from the collimated picture; `pairs.csv` only scores it. Figures are those of
the design's contract: *thesis* is the thesis's protocol (256x256 grey, aperture pixels taken from the full
picture), *generated* looks only at hidden pixels, *spectrum* compares sharpness, *coverage90* tests the intervals, also
in each quarter of the distance from the aperture (null where no picture has such pixels). *sample_over_mean_mse* is 2
for a true posterior sampler. *residual* is the `mean` once more, with nothing behind the blades but their mean grey:
*explained* is the share of that error which the faint picture takes away. *declined* is the share of pictures that the
product would not reconstruct; they count in all figures.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config.errors import NoAperture
from inference.intervals import QUARTER_MIDDLES, distance_to, quarter_of
from inference.network import FRAME_SIDE
from inference.pixels import Cine, GreyMapping
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode
from training.metrics import iou, log_spectrum, mse, psnr, ssim
from training.pairs import Pair, aperture_mask, read_picture
from training.perceptual import GenesisEncoder, lpips

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

_BY_DISTANCE = ("coverage90_by_distance", "interval_width90_by_distance")


@dataclass(frozen=True, kw_only=True)
class _Output:
    """What the product made of one collimated picture in one mode, at 256x256."""

    grey: Picture
    half_width: Picture
    strangeness: float
    seconds: float


def evaluate(
    pairs: Sequence[Pair], reconstructor: Reconstructor, progress: Any = iter, genesis: GenesisEncoder | None = None
) -> dict[str, Any]:
    """Reconstruct every pair in both modes and give the contract's figures.

    progress: wraps the iteration; genesis: the encoder of Models Genesis, for LPIPS, which is null without.
    """
    modes: tuple[Mode, ...] = get_args(Mode)
    rows = []
    spectra: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("full", *modes)}
    for pair in progress(pairs):
        row, pictures = _evaluate_pair(pair, reconstructor, modes, genesis)
        rows.append(row)
        for name, picture in pictures.items():
            spectra[name].append(log_spectrum(picture))
    error = {m: _mean(row["generated"][m]["mse"] for row in rows) for m in modes}
    return {
        "count": len(rows),
        "seconds_per_frame": {m: float(np.median([row["seconds_per_frame"][m] for row in rows])) for m in modes},
        "aperture_iou": {
            "mean": _mean(row["aperture_iou"] for row in rows),
            "min": min(row["aperture_iou"] for row in rows),
        },
        "thesis": {m: _thesis([row["thesis"][m] for row in rows]) for m in modes},
        "generated": {
            m: {name: _mean(row["generated"][m][name] for row in rows) for name in ("mse", "ssim", "psnr")}
            for m in modes
        },
        "spectrum": {m: _distance(spectra[m], spectra["full"]) for m in modes},
        "coverage90": _mean(row["coverage90"] for row in rows),
        "interval_width90": _mean(row["interval_width90"] for row in rows),
        **{name: _by_quarter([row[name] for row in rows]) for name in _BY_DISTANCE},
        "sample_over_mean_mse": _ratio(error["sample"], error["mean"]),
        "residual": _residual(error["mean"], _mean(row["residual"]["generated_mse_without"] for row in rows)),
        "declined": _mean(row["declined"] for row in rows),
        "per_image": rows,
    }


def _evaluate_pair(
    pair: Pair, reconstructor: Reconstructor, modes: Sequence[Mode], genesis: GenesisEncoder | None
) -> tuple[dict[str, Any], dict[str, Picture]]:
    """One pair's figures, and its pictures in the thesis protocol by mode (and `full`)."""
    full = read_picture(pair.full, FRAME_SIDE)
    collimated = read_picture(pair.collimated, FRAME_SIDE)
    measured = aperture_mask(pair.aperture, full.shape)
    with Image.open(pair.collimated) as image:
        stored = np.asarray(image.convert("L"))
    cine = Cine(stored=stored[None], mapping=GreyMapping.full_range(bits_stored=8))
    started = time.perf_counter()
    found = _aperture(reconstructor, cine.mapping.to_grey(stored))
    finding = time.perf_counter() - started
    outputs = {mode: _reconstruct(cine, found, reconstructor, mode) for mode in modes}
    hidden = ~measured
    pictures = {"full": full} | {mode: np.where(measured, full, outputs[mode].grey) for mode in modes}
    inside = {mode: np.where(measured, collimated, outputs[mode].grey) for mode in modes}
    generated = {mode: mse(outputs[mode].grey, full, hidden) for mode in modes}
    mean = outputs["mean"]
    low = np.clip(mean.grey - mean.half_width, -1, 1)
    high = np.clip(mean.grey + mean.half_width, -1, 1)
    covered = (full >= low) & (full <= high)
    quarter = np.where(hidden, quarter_of(distance_to(measured[None])[0]), -1)
    without = mse(_reconstruct(_without_signal(cine, found), found, reconstructor, "mean").grey, full, hidden)
    row = {
        "id": pair.id,
        "seconds_per_frame": {mode: finding + outputs[mode].seconds for mode in modes},
        "aperture_iou": iou(found, aperture_mask(pair.aperture, stored.shape)),
        "thesis": {
            mode: {
                "mse": mse(pictures[mode], full),
                "ssim": ssim(pictures[mode], full),
                "lpips": lpips(genesis, pictures[mode], full) if genesis is not None else None,
            }
            for mode in modes
        },
        "generated": {
            mode: {
                "mse": generated[mode],
                "ssim": ssim(inside[mode], full, hidden),
                "psnr": psnr(generated[mode]),
            }
            for mode in modes
        },
        "spectrum": {mode: _distance([log_spectrum(pictures[mode])], [log_spectrum(full)]) for mode in modes},
        "coverage90": float(covered[hidden].mean()),
        "interval_width90": float((high - low)[hidden].mean()),
        "coverage90_by_distance": _in_quarters(covered, quarter),
        "interval_width90_by_distance": _in_quarters(high - low, quarter),
        "sample_over_mean_mse": _ratio(generated["sample"], generated["mean"]),
        "residual": _residual(generated["mean"], without),
        "declined": float(mean.strangeness > 1),
    }
    return row, pictures


def _aperture(reconstructor: Reconstructor, frame: Picture) -> Mask:
    """The aperture as the product finds it; where it declines, nothing is measured and the score says so."""
    try:
        aperture: Mask = reconstructor.find_apertures(frame[None])[0]
        return aperture
    except NoAperture:
        return np.zeros(frame.shape, dtype=bool)


def _reconstruct(cine: Cine, aperture: Mask, reconstructor: Reconstructor, mode: Mode) -> _Output:
    started = time.perf_counter()
    result = reconstructor.reconstruct(cine, aperture[None], "pixels", mode=mode, seed=0)
    seconds = time.perf_counter() - started
    return _Output(
        grey=_reduce(cine.mapping.to_grey(result.stored[0])),
        half_width=_reduce(result.uncertainty[0]),
        strangeness=result.strangeness,
        seconds=seconds,
    )


def _without_signal(cine: Cine, aperture: Mask) -> Cine:
    """The same picture with nothing behind the blades but the mean of what was there: no anatomy, no noise."""
    stored = cine.stored.copy()
    if not aperture.all():
        stored[0, ~aperture] = round(float(stored[0, ~aperture].mean()))
    return replace(cine, stored=stored)


def _reduce(picture: Picture) -> Picture:
    """To 256x256 by PIL's bilinear, as the thesis does."""
    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.resize((FRAME_SIDE, FRAME_SIDE), Image.Resampling.BILINEAR))


def _thesis(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {"mean": _mean(row[name] for row in rows), "std": float(np.std([row[name] for row in rows]))}
        if rows[0][name] is not None
        else None
        for name in ("mse", "ssim", "lpips")
    }


def _in_quarters(values: NDArray[np.generic], quarter: NDArray[np.intp]) -> list[float | None]:
    """Mean of the values in each quarter of the distance, None where a picture has no such pixels."""
    parts = [values[quarter == number] for number in range(len(QUARTER_MIDDLES))]
    return [float(part.mean()) if part.size else None for part in parts]


def _by_quarter(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    known = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    return [_mean(column) if column else None for column in known]


def _residual(with_signal: float, without: float) -> dict[str, float | None]:
    ratio = _ratio(with_signal, without)
    return {"generated_mse_without": without, "explained": None if ratio is None else 1 - ratio}


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _distance(ours: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> float:
    return float(np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)).mean())


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
