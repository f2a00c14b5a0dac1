"""`fullfield train`: paired data sets in, a profile out that the product can use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import save_file

from inference.palette import Palette
from inference.thesis.profile import load_thesis
from inference.vae import VAE
from inference.weights import PALETTE_CHANNELS, VAE_CHANNELS, VAE_LATENT_CHANNELS, load_weights, write_weights
from tests.pairs import write_pairs, write_table
from tests.peers import free_port
from training.drawn import digest_of_drawn
from training.teacher import TEACHERS

ONE_STEP = ("--steps", 1, "--batch", 1, "--precision", "no")
ROOT = Path(__file__).parents[2]
SMALL_TRAINING = ROOT / "tests" / "small_training.py"
#: What accelerate's launcher starts for several GPUs; on CPUs it starts one process alone.
LAUNCHER = ("torch.distributed.run", "--nproc_per_node", "2")


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "data", train=2, val=1)


@pytest.fixture(autouse=True)
def accelerate_starts_anew():
    """Accelerate holds a process to the precision that it began with."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_runs_in_one_folder_make_a_profile_that_can_be_scored(fullfield, data, tmp_path):
    run = tmp_path / "runs" / "first"

    def best(name, *arguments):
        network = name.partition("-")[0]
        status, out, _ = fullfield("train", network, "--data", data, "-o", run, *ONE_STEP, *arguments)
        assert (status, out.splitlines()[-1]) == (0, f"best weights in {run / f'{name}.safetensors'}")

    best("aperture")
    best("vae")
    for fold in (0, 1):
        best(f"vae-without-{fold}", "--leave-out", fold)
    best("palette")
    status, out, _ = fullfield("train", "distil", "--data", data, "-o", run, *ONE_STEP, "--draws", 2)
    assert (status, out.splitlines()[-1]) == (0, f"best weights in {run / 'distilled.safetensors'}")
    status, out, _ = fullfield("train", "calibrate", "--data", data, "-o", run, "--version", "0.9")
    assert (status, out.splitlines()[-1]) == (0, f"profile 0.9 in {run}")

    weights = load_weights("first", tmp_path / "runs")
    assert (weights.profile, weights.version) == ("first", "0.9")
    status, out, _ = fullfield("evaluate", data, "--models", tmp_path / "runs", "--profile", "first", "--json")
    assert (status, json.loads(out)["count"]) == (0, 3)


@pytest.mark.parametrize("network", ["palette", "distil", "calibrate"])
def test_a_step_needs_what_it_builds_on(fullfield, data, tmp_path, network):
    status, _, err = fullfield("train", network, "--data", data, "-o", tmp_path / "run")

    needed = {"palette": "vae", "distil": "vae", "calibrate": "aperture"}[network]
    assert status == 1
    assert err == (
        f"fullfield: {tmp_path / 'run'}: holds no run of {needed}; first run `fullfield train {needed} -o "
        f"{tmp_path / 'run'}`\n"
    )


@pytest.mark.usefixtures("data")
def test_a_file_sets_the_hyperparameters_and_options_overrule_it(fullfield, tmp_path):
    file = tmp_path / "train.toml"
    file.write_text(
        '[data]\npairs = ["data"]\n[aperture]\nsteps = 1\nbatch = 3\nopen_share = 0.5\nmixed_precision = "no"\n'
    )

    status, _, _ = fullfield("train", "aperture", "--config", file, "-o", tmp_path / "run", "--batch", 1)

    assert status == 0
    settings = json.loads((tmp_path / "run" / "aperture.json").read_text())["settings"]
    assert (settings["steps"], settings["batch"], settings["open_share"]) == (1, 1, 0.5)


def test_examples_that_are_drawn_ahead_are_learnt_from(fullfield, data, tmp_path):
    examples, run = tmp_path / "examples", tmp_path / "run"
    status, out, _ = fullfield("train", "draw", "--data", data, "-o", examples, "--count", 1)
    assert (status, out.splitlines()[-1]) == (0, f"64 examples in {examples}")

    status, out, _ = fullfield("train", "aperture", "--data", data, "--examples", examples, "-o", run, *ONE_STEP)

    assert (status, out.splitlines()[-1]) == (0, f"best weights in {run / 'aperture.safetensors'}")
    run_file = json.loads((run / "aperture.json").read_text())
    assert run_file["provenance"]["data"]["examples"] == digest_of_drawn(examples)


@pytest.mark.parametrize(("processor", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "no")])
def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(
    fullfield, data, tmp_path, monkeypatch, processor, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    run = tmp_path / "run"
    status, out, _ = fullfield("train", "vae", "--data", data, "-o", run, "--steps", 900, "--batch", 1, "--dry-run")

    assert status == 0
    assert out.startswith("vae: 7,")
    assert "pairs for training: 2, of 2 scenes\npairs for validation: 1, of 1 scenes\n" in out
    assert f"900 steps of 1 pictures, seed 1\nprocesses: 1, on cpu, precision {precision}\n" in out
    assert f"would write {run / 'vae.safetensors'}" in out
    assert not run.exists()


def test_a_dry_run_of_the_distillation_draws_no_more_than_it_looks_at(fullfield, data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in TEACHERS:
        network = Palette(PALETTE_CHANNELS) if name == "palette" else VAE(VAE_CHANNELS, VAE_LATENT_CHANNELS)
        write_weights(network, run / f"{name}.safetensors")
        (run / f"{name}.json").write_text("{}")
    before = sorted(run.iterdir())

    status, out, _ = fullfield("train", "distil", "--data", data, "-o", run, "--steps", 70, "--batch", 1, "--dry-run")

    assert status == 0
    assert f"distilled: 7,976,273 parameters, beginning with {run / 'palette.safetensors'}\n" in out
    assert "examples: drawn by the teacher\n70 steps of 1 pictures, seed 1\n" in out
    assert sorted(run.iterdir()) == before


def test_weights_to_begin_with_that_are_of_another_network(fullfield, data, tmp_path):
    start = tmp_path / "start.safetensors"
    save_file({"weight": torch.zeros(3)}, start)
    status, _, err = fullfield("train", "aperture", "--data", data, "-o", tmp_path / "run", *ONE_STEP, "--start", start)
    assert (status, err) == (1, f"fullfield: weights {tmp_path.name}/start.safetensors belong to another network\n")


def test_the_thesis_method_takes_none_of_the_products_options(fullfield, data, tmp_path):
    words = ("--data", data, "-o", tmp_path / "run", "--profile", "thesis")
    for network, option in (("vae", ("--leave-out", 1)), ("vae", ("--dry-run",)), ("palette", ("--start", "a"))):
        status, _, err = fullfield("train", network, *words, *option)
        assert (status, err) == (
            1,
            f"fullfield: {option[0]} is not for the thesis's method, whose way is laid down\n",
        )
    status, _, err = fullfield("train", "palette", *words)
    assert (status, err) == (1, "fullfield: weights run/vae.safetensors are missing or damaged; install them again\n")


@pytest.mark.long
def test_the_thesis_method_is_trained_to_a_profile(fullfield, data, tmp_path):
    run = tmp_path / "runs" / "thesis"
    words = ("--data", data, "-o", run, "--profile", "thesis", "--steps", 1, "--batch", 1)

    status, out, _ = fullfield("train", "vae", *words)
    assert (status, out.splitlines()[-1]) == (0, f"weights in {run / 'vae.safetensors'}")
    status, out, _ = fullfield("train", "palette", *words, "--version", "0.2")
    assert (status, out.splitlines()[-1]) == (0, f"profile 0.2 of the thesis's method in {run}")

    assert load_thesis(run).version == "0.2"


def test_a_mistake_in_the_data_is_one_line(fullfield, data, tmp_path):
    def complaint(*arguments):
        status, out, err = fullfield("train", "vae", "-o", tmp_path / "run", *ONE_STEP, *arguments)
        assert (status, out) == (1, "")
        assert len(err.splitlines()) == 1
        return err.removeprefix("fullfield: ").strip()

    assert complaint() == "no pairs to train on: name a paired data set with --data, or in [data] of --config"
    assert complaint("--data", tmp_path / "none").startswith(f"{tmp_path / 'none' / 'pairs.csv'}: not found")
    views = tmp_path / "views.npy"
    assert complaint("--data", data, "--projections", views) == (
        f"{views}: not found; `fullfield train project` writes it"
    )
    views.write_bytes(b"no views")
    broken = f"{views}: not the file of views that `fullfield train project` writes"
    assert complaint("--data", data, "--projections", views) == broken
    np.save(views, np.zeros((64, 64), np.float16))
    assert complaint("--data", data, "--projections", views) == broken
    np.save(views, np.zeros((1, 64, 64), np.float16))
    alone = f"{views}: holds one view alone; one is for training and another for validation"
    assert complaint("--data", data, "--projections", views) == alone
    np.save(views, np.zeros((3, 64, 64), np.complex64))
    assert complaint("--data", data, "--projections", views) == broken
    table = data / "pairs.csv"
    write_table(data, ("0", 0.1, 0.1, 0.9, 0.9, 7, "train"), ("1", 0.1, 0.1, 0.9, 0.9, 7, "val"))
    assert complaint("--data", data) == f"{table}: scene 7 stands in the splits train and val; split by scene"
    write_table(data, ("0", 0.1, 0.1, 0.9, 0.9, 0, "train"))
    assert complaint("--data", data) == f"{table}: no pairs in split val"


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_pair_that_cannot_be_used_is_one_line(fullfield, data, models, tmp_path, command):
    words = {
        "train": ("train", "vae", "-o", tmp_path / "run", *ONE_STEP, "--data"),
        "evaluate": ("evaluate", "--models", models),
    }

    def complaint():
        status, out, err = fullfield(*words[command], data)
        # Scoring has begun to show its progress by then.
        *progress, line = err.splitlines()
        assert (status, out) == (1, "") and all(shown.startswith("Evaluating") for shown in progress)
        return line.removeprefix("fullfield: ")

    path = data / "full" / "0.png"
    whole = path.read_bytes()
    path.unlink()
    assert complaint() == f"{data / 'full' / '0'}: no PNG or JPEG picture of this name"
    for broken in (b"no picture", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        assert complaint() == f"{path}: not a readable PNG or JPEG picture"
    Image.new("L", (128, 96)).save(path)
    table = data / "pairs.csv"
    assert complaint() == f"{table}, line 2: the full picture is 128x96, the collimated one 128x128"


def test_a_precision_that_is_none_is_told_with_those_that_are(fullfield, data, tmp_path):
    status, _, err = fullfield("train", "vae", "--data", data, "-o", tmp_path / "run", "--precision", "int8")
    assert status == 2
    assert "'int8' is not one of 'no', 'fp16', 'bf16'" in err


@pytest.mark.long
def test_two_processes_learn_from_other_pictures_and_leave_one_run_that_goes_on(data, tmp_path):
    """A real launch over gloo; each process writes down what it drew, and what its weights are at the end."""

    def launch(run, stop_at=99):
        arguments = [str(SMALL_TRAINING), str(data), str(tmp_path / run), str(stop_at)]
        port = ("--master_port", str(free_port()))
        return subprocess.run(
            [sys.executable, "-m", *LAUNCHER, *port, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True, text=True, timeout=280, cwd=ROOT,
        )  # fmt: skip

    whole = launch("whole")

    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("vae 2: loss") == whole.stdout.count("vae 4: loss") == 1
    told = [json.loads((tmp_path / f"whole-{process}.json").read_text()) for process in (0, 1)]
    # Four steps, and the batch after the last, which is drawn ahead and not learnt from.
    assert [process["drawn"] for process in told] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert told[0]["noise"] != told[1]["noise"]
    assert told[0]["weights"] == told[1]["weights"]
    run = json.loads((tmp_path / "whole" / "vae.json").read_text())
    assert run["settings"]["processes"] == 2
    assert [row["step"] for row in run["history"]] == [2, 4]
    left = {"vae.json", "vae.safetensors", "vae-checkpoint-4", "tensorboard"}
    assert {path.name for path in (tmp_path / "whole").iterdir()} == left

    assert launch("broken", stop_at=6).returncode != 0
    assert json.loads((tmp_path / "broken" / "vae.json").read_text())["history"][-1]["step"] == 2
    assert launch("broken").returncode == 0
    assert (tmp_path / "broken" / "vae.safetensors").read_bytes() == (tmp_path / "whole/vae.safetensors").read_bytes()
