"""`fullfield train`: paired data sets in, a profile out that the product can use."""

import json

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from inference.weights import load_weights
from tests.pairs import write_pairs, write_table

ONE_STEP = ("--steps", 1, "--batch", 1, "--precision", "no")


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

    for network in ("aperture", "vae"):
        status, out, _ = fullfield("train", network, "--data", data, "-o", run, *ONE_STEP)
        assert (status, out.splitlines()[-1]) == (0, f"best weights in {run / f'{network}.safetensors'}")
    for fold in (0, 1):
        status, _, _ = fullfield("train", "vae", "--data", data, "-o", run, *ONE_STEP, "--leave-out", fold)
        assert status == 0
    status, out, _ = fullfield("train", "palette", "--data", data, "-o", run, *ONE_STEP, "--version", "0.9")
    assert (status, out.splitlines()[-1]) == (0, f"profile 0.9 in {run}")

    weights = load_weights("first", tmp_path / "runs")
    assert (weights.profile, weights.version) == ("first", "0.9")
    status, out, _ = fullfield("evaluate", data, "--models", tmp_path / "runs", "--profile", "first", "--json")
    assert (status, json.loads(out)["count"]) == (0, 3)


def test_palette_needs_what_it_builds_on(fullfield, data, tmp_path):
    status, _, err = fullfield("train", "palette", "--data", data, "-o", tmp_path / "run", *ONE_STEP)

    assert status == 1
    assert err == (
        f"fullfield: {tmp_path / 'run'}: holds no run of aperture; first run `fullfield train aperture -o "
        f"{tmp_path / 'run'}`\n"
    )


def test_a_mistake_in_the_data_is_one_line(fullfield, data, tmp_path):
    def complaint(*arguments):
        status, out, err = fullfield("train", "vae", "-o", tmp_path / "run", *ONE_STEP, *arguments)
        assert (status, out) == (1, "")
        assert len(err.splitlines()) == 1
        return err.removeprefix("fullfield: ").strip()

    assert complaint("--data", tmp_path / "none").startswith(f"{tmp_path / 'none' / 'pairs.csv'}: not found")
    assert complaint("--data", data, "--precision", "int8") == "precision 'int8' is unknown; use no, fp16 or bf16"
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
    write_table(data, ("0", 0.1, 0.1, 0.9, 0.9, 0, "train"))
    assert complaint("--data", data) == f"{data / 'pairs.csv'}: no pairs in split val"
