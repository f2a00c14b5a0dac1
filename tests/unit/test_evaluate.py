"""What `fullfield evaluate` computes, on a reconstructor that knows the answer, or that knows nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from config.errors import NoAperture
from inference.reconstruction import Provenance, Reconstruction
from tests.pairs import APERTURE, write_pairs
from training.evaluate import evaluate
from training.pairs import aperture_mask, read_pairs, read_picture
from training.perceptual import GenesisEncoder

SIDE = 256


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_pairs(tmp_path_factory.mktemp("data"), side=SIDE, val=3))


class Known:
    """Gives the pictures that it was told for the collimated ones, grey for others, and one half-width everywhere."""

    def __init__(self, pairs, answer, half_width, aperture=APERTURE, strangeness=0.0):
        self._answers = {stored(pair.collimated).tobytes(): answer(stored(pair.full)) for pair in pairs}
        self._half_width = half_width
        self._strangeness = strangeness
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
            stored=np.where(apertures, cine.stored, self._answers.get(cine.stored.tobytes(), 128)).astype(np.uint8),
            aperture=apertures,
            elsewhen=np.zeros_like(apertures),
            uncertainty=np.where(apertures, 0, self._half_width).astype(np.float32),
            strangeness=self._strangeness,
            provenance=made,
        )


def stored(path):
    return np.round((read_picture(path) + 1) * 127.5).astype(np.uint8)


def perfect(pairs, half_width=0.01):
    return Known(pairs, lambda full: full, half_width)


def blank(pairs, half_width=0.01, **kind):
    """Says grey 0 everywhere."""
    return Known(pairs, lambda full: np.full_like(full, 128), half_width, **kind)


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
        "coverage90_by_distance",
        "interval_width90_by_distance",
        "sample_over_mean_mse",
        "residual",
        "declined",
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


def test_with_the_encoder_of_models_genesis_lpips_is_told_too(pairs):
    torch.manual_seed(0)
    encoder = GenesisEncoder(width=4)
    same, other = (evaluate(pairs, made(pairs), genesis=encoder)["thesis"]["mean"] for made in (perfect, blank))
    assert 0 <= same["lpips"]["mean"] < other["lpips"]["mean"]
    assert set(same["lpips"]) == {"mean", "std"}


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
    assert figures["interval_width90"] == pytest.approx(2 * 0.01, rel=0.01)


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


@pytest.mark.parametrize(("half_width", "covered", "width"), [(0.0, 0.0, 0.0), (10.0, 1.0, 2.0)])
def test_intervals_are_no_wider_than_grey_is(pairs, half_width, covered, width):
    figures = evaluate(pairs, blank(pairs, half_width))

    assert figures["coverage90"] == pytest.approx(covered, abs=0.02)
    assert figures["interval_width90"] == pytest.approx(width)


def test_intervals_of_the_true_width_cover_nine_in_ten_near_and_far(pairs):
    noise = np.random.default_rng(0)
    half_width = 1.6449 * 12 / 127.5
    noisy = Known(pairs, lambda full: np.round(full + noise.normal(0, 12, full.shape)).clip(0, 255), half_width)

    figures = evaluate(pairs, noisy)

    assert figures["coverage90"] == pytest.approx(0.9, abs=0.01)
    near = figures["coverage90_by_distance"][:3]  # farther than that there are hardly any pixels
    assert near == pytest.approx([0.9] * 3, abs=0.02)
    assert figures["interval_width90_by_distance"][:3] == pytest.approx([2 * half_width] * 3, rel=0.05)


def test_a_quarter_without_pixels_has_no_figure(pairs):
    wide = replace(pairs[0], aperture=(0.1, 0.1, 0.9, 0.9))

    figures = evaluate([wide], perfect([wide]))

    for name in ("coverage90_by_distance", "interval_width90_by_distance"):
        assert figures[name][0] is not None and figures[name][1:] == [None] * 3


def test_what_only_the_faint_picture_tells_is_told(pairs):
    one = read_picture(pairs[0].full)
    hidden = ~aperture_mask(APERTURE, one.shape)

    seeing = evaluate(pairs[:1], perfect(pairs))["residual"]
    blind = evaluate(pairs[:1], blank(pairs))["residual"]

    without = float(np.square(one - (128 / 127.5 - 1))[hidden].mean())
    assert seeing == {"generated_mse_without": pytest.approx(without, rel=1e-4), "explained": pytest.approx(1)}
    assert blind == {"generated_mse_without": pytest.approx(without, rel=1e-4), "explained": pytest.approx(0)}


def test_a_draw_is_told_by_its_error_over_the_means(pairs):
    assert evaluate(pairs, blank(pairs))["sample_over_mean_mse"] == pytest.approx(1)


def test_pictures_that_the_product_would_decline_are_counted(pairs):
    assert evaluate(pairs, blank(pairs, strangeness=1.0))["declined"] == 0
    assert evaluate(pairs, blank(pairs, strangeness=1.1))["declined"] == 1


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
