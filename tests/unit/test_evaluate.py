"""What `fullfield evaluate` computes, on a reconstructor that knows the answer, or that knows nothing."""

import json

import numpy as np
import pytest

from config.errors import NoAperture
from inference.reconstruction import Provenance, Reconstruction
from tests.pairs import APERTURE, write_pairs
from training.evaluate import evaluate
from training.pairs import aperture_mask, read_pairs, read_picture

SIDE = 256


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_pairs(tmp_path_factory.mktemp("data"), side=SIDE, val=3))


class Known:
    """Gives the pictures that it was told for the collimated ones, with the same deviation everywhere."""

    def __init__(self, pairs, answer, deviation, aperture=APERTURE):
        self._answers = {stored(pair.collimated).tobytes(): answer(stored(pair.full)) for pair in pairs}
        self._deviation = deviation
        self._aperture = aperture

    def find_apertures(self, frames):
        if self._aperture is None:
            raise NoAperture("No aperture was found.")
        return np.stack([aperture_mask(self._aperture, frames.shape[1:])] * len(frames))

    def reconstruct(self, cine, apertures, aperture_source, *, mode, seed):
        made = Provenance(
            model="known",
            version="1",
            digest="0" * 64,
            mode=mode,
            seed=seed,
            steps=1,
            device="cpu",
            aperture_source=aperture_source,
            frames_behind=1.0,
            residual_signal=0.0,
        )
        return Reconstruction(
            stored=np.where(apertures, cine.stored, self._answers[cine.stored.tobytes()]),
            aperture=apertures,
            elsewhen=np.zeros_like(apertures),
            uncertainty=np.where(apertures, 0, self._deviation).astype(np.float32),
            provenance=made,
        )


def stored(path):
    return np.round((read_picture(path) + 1) * 127.5).astype(np.uint8)


def perfect(pairs, deviation=0.01):
    return Known(pairs, lambda full: full, deviation)


def blank(pairs, deviation=0.01, **kind):
    """Says grey 0 everywhere."""
    return Known(pairs, lambda full: np.full_like(full, 128), deviation, **kind)


def test_the_keys_are_those_of_the_contract(pairs):
    figures = evaluate(pairs, perfect(pairs))

    modes = {"mean", "sample"}
    assert set(figures) == {
        "count",
        "seconds_per_frame",
        "aperture_iou",
        "thesis",
        "generated",
        "spectrum",
        "coverage90",
        "interval_width90",
        "per_image",
    }
    assert figures["count"] == 3
    assert set(figures["aperture_iou"]) == {"mean", "min"}
    for name in ("seconds_per_frame", "thesis", "generated", "spectrum"):
        assert set(figures[name]) == modes
    for mode in modes:
        assert set(figures["thesis"][mode]) == {"mse", "ssim", "lpips"}
        for name in ("mse", "ssim"):
            assert set(figures["thesis"][mode][name]) == {"mean", "std"}
        assert set(figures["generated"][mode]) == {"mse", "ssim", "psnr"}
    assert [row["id"] for row in figures["per_image"]] == ["0", "1", "2"]
    for row in figures["per_image"]:
        assert set(row) - {"id"} == set(figures) - {"count", "per_image"}
        for mode in modes:
            assert set(row["thesis"][mode]) == {"mse", "ssim", "lpips"}
            assert set(row["generated"][mode]) == {"mse", "ssim", "psnr"}


def test_the_figures_are_json_without_nan(pairs):
    for reconstructor in (perfect(pairs), blank(pairs)):
        assert json.loads(json.dumps(evaluate(pairs, reconstructor), allow_nan=False))["count"] == 3


def test_a_perfect_reconstructor_scores_0_and_1(pairs):
    figures = evaluate(pairs, perfect(pairs))

    assert figures["aperture_iou"] == {"mean": 1, "min": 1}
    for mode in ("mean", "sample"):
        assert figures["thesis"][mode]["mse"] == pytest.approx({"mean": 0, "std": 0}, abs=1e-9)
        assert figures["thesis"][mode]["ssim"] == pytest.approx({"mean": 1, "std": 0}, abs=1e-6)
        assert figures["generated"][mode] == pytest.approx({"mse": 0, "ssim": 1, "psnr": 126}, abs=1e-1)
        assert figures["spectrum"][mode] == pytest.approx(0, abs=1e-6)
    assert figures["coverage90"] == 1
    assert figures["interval_width90"] == pytest.approx(2 * 1.6449 * 0.01, rel=0.01)


def test_a_blank_field_scores_what_the_pictures_themselves_are_away_from_it(pairs):
    figures = evaluate(pairs, blank(pairs))

    hidden = ~aperture_mask(APERTURE, (SIDE, SIDE))
    squares = [(read_picture(pair.full) - (128 / 127.5 - 1)) ** 2 for pair in pairs]
    errors = [float(np.where(hidden, square, 0).mean()) for square in squares]
    for mode in ("mean", "sample"):
        assert figures["thesis"][mode]["mse"]["mean"] == pytest.approx(np.mean(errors), rel=1e-4)
        assert figures["thesis"][mode]["mse"]["std"] == pytest.approx(np.std(errors), rel=1e-4)
        generated = np.mean([square[hidden].mean() for square in squares])
        assert figures["generated"][mode]["mse"] == pytest.approx(generated, rel=1e-4)
        assert figures["thesis"][mode]["ssim"]["mean"] < 0.9
        assert figures["spectrum"][mode] > 0.1
    assert figures["coverage90"] < 0.1


@pytest.mark.parametrize(("deviation", "covered", "width"), [(0.0, 0.0, 0.0), (10.0, 1.0, 2.0)])
def test_intervals_are_no_wider_than_grey_is(pairs, deviation, covered, width):
    figures = evaluate(pairs, blank(pairs, deviation))

    assert figures["coverage90"] == pytest.approx(covered, abs=0.02)
    assert figures["interval_width90"] == pytest.approx(width)


def test_intervals_of_the_true_deviation_cover_nine_in_ten(pairs):
    noise = np.random.default_rng(0)
    noisy = Known(pairs, lambda full: np.round(full + noise.normal(0, 12, full.shape)).clip(0, 255), 12 / 127.5)

    assert evaluate(pairs, noisy)["coverage90"] == pytest.approx(0.9, abs=0.01)


def test_an_aperture_that_is_not_found_overlaps_with_nothing(pairs):
    figures = evaluate(pairs, blank(pairs, aperture=None))

    assert figures["aperture_iou"] == {"mean": 0, "min": 0}


def test_an_aperture_found_too_large_is_scored_against_the_table(pairs):
    figures = evaluate(pairs, blank(pairs, aperture=(0.25, 0.375, 1.0, 0.625)))

    assert figures["aperture_iou"]["mean"] == pytest.approx(2 / 3, abs=0.01)


def test_progress_sees_every_pair(pairs):
    seen = []
    evaluate(pairs, perfect(pairs), lambda items: [seen.append(item.id) or item for item in items])

    assert seen == ["0", "1", "2"]
