"""`fullfield import-checkpoint`: checkpoints of the thesis's own code, at its sizes, become a profile."""

import hashlib
import json
import shutil

import pytest
import torch

from inference.thesis.profile import load_thesis
from tests.thesis_checkpoints import numbered, palette_shapes, vae_shapes, write_palette, write_vae


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return (
        write_vae(folder / "last.ckpt", numbered(vae_shapes())),
        write_palette(folder / "12000_Network_ema.pth", numbered(palette_shapes())),
    )


def test_both_checkpoints_become_a_profile(fullfield, checkpoints, tmp_path):
    vae, palette = checkpoints
    out = tmp_path / "models" / "thesis"

    status, said, _ = fullfield("import-checkpoint", "--vae", vae, "--palette", palette, "-o", out, "--version", "2.1")

    assert (status, said) == (0, f"profile 2.1 of the thesis's method in {out}\n")
    assert sorted(file.name for file in out.iterdir()) == ["model.json", "palette.safetensors", "vae.safetensors"]
    card = json.loads((out / "model.json").read_text())
    assert (card["method"], card["version"]) == ("thesis", "2.1")
    for name, source in (("vae.safetensors", vae), ("palette.safetensors", palette)):
        assert card["sha256"][name] == hashlib.sha256((out / name).read_bytes()).hexdigest()
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        assert card["origin"][name] == {"file": source.name, "sha256": digest}
    weights = load_thesis(out)
    numbers = numbered(palette_shapes())
    assert float(weights.palette.last.bias[0]) == float(numbers["denoise_fn.out.2.bias"][0])

    status, _, told = fullfield("import-checkpoint", "--vae", vae, "--palette", palette, "-o", out)
    assert (status, told) == (1, f"fullfield: {out}: holds a profile already; choose another folder\n")
    shutil.rmtree(out)  # 650 MB


def test_nothing_is_written_when_one_of_them_cannot_be_used(fullfield, checkpoints, tmp_path):
    vae, palette = checkpoints
    out = tmp_path / "thesis"

    def complaint(vae, palette):
        status, said, told = fullfield("import-checkpoint", "--vae", vae, "--palette", palette, "-o", out)
        assert (status, said) == (1, "")
        assert not out.exists()
        assert len(told.splitlines()) == 1
        return told.removeprefix("fullfield: ").strip()

    assert complaint(tmp_path / "none.ckpt", palette) == f"{tmp_path / 'none.ckpt'}: not found"
    assert complaint(palette, vae) == f"{palette}: no VAE of PyTorch-VAE: it holds no fc_mu"
    cut = tmp_path / "cut.pth"
    cut.write_bytes(palette.read_bytes()[:-1000])
    assert complaint(vae, cut) == f"{cut}: no checkpoint of PyTorch, or a damaged one"
    deeper = write_vae(tmp_path / "deeper.ckpt", {**numbered(vae_shapes()), "model.encoder.3.0.weight": torch.zeros(3)})
    assert complaint(deeper, palette) == (
        f"{deeper}: encoder.3.0.weight has no place in this network; it is of another architecture"
    )
    shallower = write_vae(tmp_path / "wide.ckpt", numbered(vae_shapes(latents=128)))
    assert complaint(shallower, palette) == (
        f"{shallower}: fc_mu.weight has the shape 128x131072, where 256x131072 is needed"
    )
    spoilt = {**numbered(palette_shapes()), "denoise_fn.out.2.bias": torch.tensor([0.0, float("nan"), 0.0])}
    spoilt = write_palette(tmp_path / "nan.pth", spoilt)
    assert complaint(vae, spoilt) == f"{spoilt}: denoise_fn.out.2.bias holds numbers that are not finite"


def test_both_files_and_the_folder_must_be_named(fullfield, tmp_path):
    status, _, told = fullfield("import-checkpoint", "--vae", tmp_path / "last.ckpt")
    assert status == 2
    assert len(told.splitlines()) == 1
