"""Checkpoints of the thesis's own code become our networks, each tensor in its place, or are refused in a sentence."""

import os
import pickle
from collections import OrderedDict

import pytest
import torch

from config.errors import ConfigError, WeightsError
from inference.thesis.checkpoints import read_palette, read_vae, tensors_of
from inference.thesis.palette import Palette
from inference.thesis.vae import VAE
from tests.thesis_checkpoints import numbered, palette_shapes, vae_shapes, write_palette, write_vae

PALETTE = palette_shapes(width=32)
VAE_SHAPES = vae_shapes((4, 5, 6), latents=7, side=32)


def small_vae():
    return VAE((4, 5, 6), latents=7, side=32)


def read_small_vae(path):
    return read_vae(path, small_vae())


def read_small_palette(path):
    return read_palette(path, Palette(32))


def number_in(tensor):
    """The number that a tensor of `numbered` is full of."""
    assert tensor.min() == tensor.max()
    return float(tensor.detach().float().max())


def test_each_tensor_of_a_vae_finds_its_place(tmp_path):
    written = numbered(VAE_SHAPES)
    vae = read_small_vae(write_vae(tmp_path / "last.ckpt", written))

    for ours, theirs in (
        (vae.encoder[0][0].weight, "model.encoder.0.0.weight"),
        (vae.encoder[2][1].running_var, "model.encoder.2.1.running_var"),
        (vae.to_mean.bias, "model.fc_mu.bias"),
        (vae.to_log_variance.weight, "model.fc_var.weight"),
        (vae.from_latent.weight, "model.decoder_input.weight"),
        (vae.decoder[1][0].weight, "model.decoder.1.0.weight"),
        (vae.decoder[2][0].weight, "model.final_layer.0.weight"),
        (vae.decoder[2][1].running_mean, "model.final_layer.1.running_mean"),
        (vae.decoder[2][1].num_batches_tracked, "model.final_layer.1.num_batches_tracked"),
        (vae.last.weight, "model.final_layer.3.weight"),
    ):
        assert number_in(ours) == pytest.approx(number_in(written[theirs])), theirs
    assert len(vae.state_dict()) == len(written)
    assert not vae.training


@pytest.mark.parametrize(
    ("schedule", "prefix"), [(False, ""), (True, ""), (True, "module.")], ids=["average", "trained", "on several GPUs"]
)
def test_each_tensor_of_a_palette_finds_its_place(tmp_path, schedule, prefix):
    written = numbered(PALETTE)
    path = write_palette(tmp_path / "12000_Network.pth", written, schedule=schedule, prefix=prefix)

    palette = read_small_palette(path)

    for ours, theirs in (
        (palette.embed[2].weight, "cond_embed.2.weight"),
        (palette.down[0][0].weight, "input_blocks.0.0.weight"),
        (palette.down[4][0].first_norm.bias, "input_blocks.4.0.in_layers.0.bias"),
        (palette.down[4][0].first.weight, "input_blocks.4.0.in_layers.2.weight"),
        (palette.down[4][0].modulation.weight, "input_blocks.4.0.emb_layers.1.weight"),
        (palette.down[4][0].second_norm.weight, "input_blocks.4.0.out_layers.0.weight"),
        (palette.down[4][0].second.weight, "input_blocks.4.0.out_layers.3.weight"),
        (palette.down[4][0].skip.weight, "input_blocks.4.0.skip_connection.weight"),
        (palette.middle[1].norm.weight, "middle_block.1.norm.weight"),
        (palette.middle[1].qkv.weight, "middle_block.1.qkv.weight"),
        (palette.middle[1].out.weight, "middle_block.1.proj_out.weight"),
        (palette.up[8][1].second.bias, "output_blocks.8.1.out_layers.3.bias"),
        (palette.last_norm.weight, "out.0.weight"),
        (palette.last.bias, "out.2.bias"),
    ):
        assert number_in(ours) == pytest.approx(number_in(written[f"denoise_fn.{theirs}"])), theirs
    assert len(palette.state_dict()) == len(written)
    assert not palette.training


def test_half_precision_is_read_too(tmp_path):
    written = {name: tensor.half() for name, tensor in numbered(PALETTE).items()}
    palette = read_small_palette(write_palette(tmp_path / "half.pth", written))
    assert palette.last.bias.dtype == torch.float32
    assert number_in(palette.last.bias) == number_in(written["denoise_fn.out.2.bias"])


def palette_fault(path):
    with pytest.raises(WeightsError) as error:
        read_small_palette(path)
    return str(error.value).removeprefix(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pth: not found"):
        read_small_palette(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor an archive", bytes(5000), b"\x80\x02."])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    assert palette_fault(path) == "no checkpoint of PyTorch, or a damaged one"


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_off(tmp_path, kept, zipped):
    path = tmp_path / "file.pth"
    torch.save(numbered(PALETTE), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert palette_fault(path) == "no checkpoint of PyTorch, or a damaged one"


class Trap:
    """What a pickle can do to who loads it."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("echo code was run",)


@pytest.mark.parametrize("function", [print, os.system])
def test_a_pickle_that_needs_code_is_refused_and_runs_none(tmp_path, capfd, function):
    refused = "refused, for loading it would run code; save its state_dict alone where it was made"
    path = tmp_path / "file.pth"
    for zipped in (True, False):
        torch.save({**numbered(PALETTE), "more": Trap(function)}, path, _use_new_zipfile_serialization=zipped)
        assert palette_fault(path) == refused
    path.write_bytes(pickle.dumps(Trap(function), protocol=2))
    assert palette_fault(path) == refused
    assert "code was run" not in capfd.readouterr().out


@pytest.mark.parametrize("content", [3, [torch.zeros(2)], {}, {"a": 1}, {1: torch.zeros(2)}, {"state_dict": {}}])
def test_a_file_that_holds_something_else(tmp_path, content):
    path = tmp_path / "file.pth"
    torch.save(content, path)
    assert palette_fault(path) == "holds no weights by name"


def test_tensors_that_are_not_dense(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({**numbered(PALETTE), "denoise_fn.out.2.bias": torch.zeros(3).to_sparse()}, path)
    assert palette_fault(path) == "holds no weights by name"


def test_each_checkpoint_is_told_from_the_other(tmp_path):
    vae = write_vae(tmp_path / "last.ckpt", numbered(VAE_SHAPES))
    palette = write_palette(tmp_path / "palette.pth", numbered(PALETTE))

    assert palette_fault(vae) == "no guided-diffusion Palette of Janspiry's: it holds no denoise_fn.cond_embed"
    with pytest.raises(WeightsError, match=r"palette\.pth: no VAE of PyTorch-VAE: it holds no fc_mu"):
        read_small_vae(palette)


def test_a_network_of_another_size(tmp_path):
    path = write_palette(tmp_path / "file.pth", numbered(palette_shapes(width=64)))
    assert palette_fault(path) == "denoise_fn.cond_embed.0.weight has the shape 256x64, where 128x32 is needed"


def test_a_tensor_too_few_and_one_too_many(tmp_path):
    written = numbered(PALETTE)
    few = {name: tensor for name, tensor in written.items() if name != "denoise_fn.middle_block.1.qkv.bias"}
    many = {**written, "denoise_fn.input_blocks.4.1.qkv.weight": torch.zeros(3)}

    assert palette_fault(write_palette(tmp_path / "few.pth", few)) == (
        "what Fullfield calls middle.1.qkv.bias is missing; it is of another architecture"
    )
    assert palette_fault(write_palette(tmp_path / "many.pth", many)) == (
        "denoise_fn.input_blocks.4.1.qkv.weight has no place in this network; it is of another architecture"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 1j])
def test_numbers_that_are_not_finite(tmp_path, value):
    spoilt = torch.tensor(value, dtype=torch.complex64 if isinstance(value, complex) else torch.float64).expand(3)
    path = write_palette(tmp_path / "file.pth", {**numbered(PALETTE), "denoise_fn.out.2.bias": spoilt})
    assert palette_fault(path) == "denoise_fn.out.2.bias holds numbers that are not finite"


def test_a_bare_state_dictionary_of_a_vae_is_read_too(tmp_path):
    written = OrderedDict((name.removeprefix("model."), tensor) for name, tensor in numbered(VAE_SHAPES).items())
    torch.save(written, tmp_path / "vae.pth")
    assert number_in(read_small_vae(tmp_path / "vae.pth").last.bias) == number_in(written["final_layer.3.bias"])
    assert tensors_of(tmp_path / "vae.pth").keys() == written.keys()
