"""The ablation and the learning curve, on networks so small that a step takes a moment, for a few steps each."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from benchmarks.ablation import runs as _runs
from benchmarks.ablation.__main__ import ablation
from benchmarks.ablation.budget import train_for
from benchmarks.ablation.learning_curve import learning_curve, part_of
from benchmarks.ablation.picture_palette import PicturePalette
from benchmarks.ablation.trainings import Order
from benchmarks.ablation.variants import VARIANTS, Plan
from config.errors import ConfigError
from inference.thesis.vae import VAE as ThesisVAE
from tests.pairs import APERTURE, COLUMNS, draw_pair, write_pairs, write_table
from training.loop import Material
from training.pairs import read_pairs
from training.train import vae_task

CHANNELS = (16, 16, 32, 32)
THESIS_CHANNELS = (4, 4, 4)
PLAN = Plan(minutes=0.005, channels=CHANNELS, thesis_channels=THESIS_CHANNELS, batch=1)


@pytest.fixture(scope="module", autouse=True)
def accelerate_starts_anew():
    """Accelerate holds a process to the precision that it began with."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = write_pairs(tmp_path_factory.mktemp("data"), train=4, val=2)
    return Material(training=read_pairs(folder, "train"), validation=read_pairs(folder, "val"), projections=None)


@pytest.fixture(scope="module")
def order(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "runs"
    return Order(material=material, plan=PLAN, seeds=range(1, 2), folder=folder, genesis=None)


@pytest.fixture(scope="module")
def told(order):
    return ablation(order)


def run_of(order, name):
    return json.loads((order.folder / f"{name}.json").read_text())


def pairs_of_scenes(folder, scenes):
    for kind in ("full", "collimated"):
        (folder / kind).mkdir(parents=True)
    full, collimated = draw_pair(8)
    rows = []
    for number, scene in enumerate(scenes):
        Image.fromarray(full).save(folder / "full" / f"{number}.png")
        Image.fromarray(collimated).save(folder / "collimated" / f"{number}.png")
        rows.append((number, *APERTURE, scene, "train"))
    write_table(folder, *rows, columns=COLUMNS)
    return read_pairs(folder)


@pytest.mark.parametrize(
    ("variant", "modes", "networks"),
    [
        ("palette-alone", ["sample"], ["picture-palette"]),
        ("vae-and-palette", ["sample"], ["thesis-vae", "picture-palette"]),
        ("regression-alone", ["mean"], ["vae"]),
        ("prior-and-residual-palette", ["mean", "sample"], ["vae", "palette"]),
    ],
)
@pytest.mark.usefixtures("told")
def test_every_variant_trains_its_networks_and_gives_figures(order, variant, modes, networks):
    run = run_of(order, f"{variant}-seed-1")

    assert [network["name"] for network in run["networks"]] == networks
    assert all(network["steps"] >= 1 for network in run["networks"])
    assert list(run["figures"]) == modes
    for figures in run["figures"].values():
        assert 0 < figures["mse"] < 4 and -1 <= figures["ssim"] <= 1 and figures["spectrum"] > 0
        assert figures["lpips"] is None


@pytest.mark.usefixtures("told")
def test_the_networks_of_a_variant_share_one_budget(order):
    budget = 60 * PLAN.minutes
    for variant in VARIANTS:
        networks = run_of(order, f"{variant}-seed-1")["networks"]
        spent = [network["cpu_seconds"] for network in networks]

        assert budget <= sum(spent)
        # What those before have left is all that one gets, and one step where that is nothing.
        assert all(
            network["steps"] == 1 for number, network in enumerate(networks) if number and sum(spent[:number]) >= budget
        )


def test_the_table_has_a_row_for_every_mode_and_a_change_for_every_claim(told):
    lines = told.splitlines()

    assert sum(line.startswith("| VAE prior + residual Palette |") for line in lines) == 4
    assert any(line.startswith("| Palette alone | sample |") for line in lines)
    assert "LPIPS needs the Models Genesis encoder" in told


def test_a_budget_that_is_spent_already_leaves_one_step(material):
    settings = PLAN.settings(1)
    trained = train_for(-1.0, vae_task(settings, CHANNELS), material, settings)
    assert trained.steps == 1
    assert all(tensor.isfinite().all() for tensor in trained.network.parameters())


def test_a_finished_run_is_not_trained_again(order, told, monkeypatch):
    monkeypatch.setattr(_runs, "VARIANTS", {})

    assert ablation(order) == told


@pytest.mark.usefixtures("told")
def test_a_run_of_another_budget_is_not_taken_for_this_one(order):
    longer = replace(order, plan=replace(PLAN, minutes=1))

    with pytest.raises(ConfigError, match="another budget"):
        ablation(longer)


@pytest.mark.usefixtures("told")
def test_the_learning_curve_goes_on_from_the_ablations_run_on_all_scenes(order):
    before = run_of(order, "regression-alone-seed-1")
    lines = learning_curve(order).splitlines()

    assert [line.split("|")[1:3] for line in lines[2:]] == [[" 25 % ", " 1 "], [" 50 % ", " 2 "], [" 100 % ", " 4 "]]
    assert run_of(order, "regression-alone-seed-1") == before


def test_parts_are_nested_and_keep_scenes_whole(tmp_path):
    scenes = np.random.default_rng(0).integers(0, 12, 40).tolist()
    pairs = pairs_of_scenes(tmp_path / "data", scenes)
    whole = Counter(pair.scene for pair in pairs)

    for seed in (1, 2):
        quarter, half, everything = (part_of(pairs, share, seed) for share in (25, 50, 100))
        assert everything == pairs
        assert {pair.id for pair in quarter} < {pair.id for pair in half} < {pair.id for pair in pairs}
        for part, share in ((quarter, 0.25), (half, 0.5)):
            counted = Counter(pair.scene for pair in part)
            assert len(counted) == np.ceil(share * len(whole))
            assert all(count == whole[scene] for scene, count in counted.items())
    assert part_of(pairs, 50, 1) != part_of(pairs, 50, 2)


@pytest.mark.parametrize("with_vae", [False, True])
def test_palette_on_the_picture_sees_behind_the_blades_only_through_the_vae(with_vae):
    torch.manual_seed(0)
    network = PicturePalette(CHANNELS, ThesisVAE(THESIS_CHANNELS).eval() if with_vae else None).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    noisy, sigma = torch.randn(1, 1, 256, 256), torch.ones(1)
    aperture = torch.zeros(1, 1, 256, 256)
    aperture[..., 100:150, 100:150] = 1
    dark, bright = (torch.full_like(aperture, level) * (1 - aperture) for level in (-1.0, 1.0))
    with torch.no_grad():
        first, again, other = (
            network(noisy, sigma, torch.cat([seen, aperture, *3 * [seen]], dim=1)) for seen in (dark, dark, bright)
        )

    assert torch.equal(first, again)
    assert torch.equal(first, other) != with_vae
