"""Checkpoints as the thesis's own code leaves them: their names and shapes, written out by hand.

Each tensor holds one number of its own, in storage for one number, so that whole networks make small files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

#: Channels in and out of the residual blocks, in widths of the first level; a second block in a stage resizes.
DOWN = [[(1, 1)], [(1, 1)], [(1, 1)], [(1, 2)], [(2, 2)], [(2, 2)], [(2, 4)], [(4, 4)], [(4, 4)], [(4, 8)], [(8, 8)]]
UP = [
    [(16, 8)],
    [(16, 8)],
    [(12, 8), (8, 8)],
    [(12, 4)],
    [(8, 4)],
    [(6, 4), (4, 4)],
    [(6, 2)],
    [(4, 2)],
    [(3, 2), (2, 2)],
    [(3, 1)],
    [(2, 1)],
    [(2, 1)],
]
SCHEDULE = (
    "gammas",
    "sqrt_recip_gammas",
    "sqrt_recipm1_gammas",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def palette_shapes(width: int = 64) -> Shapes:
    """What Janspiry's guided-diffusion U-Net calls its parameters, in `denoise_fn`."""
    shapes: Shapes = {}
    shapes |= layer("cond_embed.0", 4 * width, width) | layer("cond_embed.2", 4 * width, 4 * width)
    shapes |= layer("input_blocks.0.0", width, 6, 3, 3)
    for place, blocks in enumerate(DOWN, start=1):
        for number, (before, after) in enumerate(blocks):
            shapes |= block(f"input_blocks.{place}.{number}", before * width, after * width, 4 * width)
    deep = 8 * width
    shapes |= block("middle_block.0", deep, deep, 4 * width)
    shapes |= layer("middle_block.1.norm", deep)
    shapes |= layer("middle_block.1.qkv", 3 * deep, deep, 1) | layer("middle_block.1.proj_out", deep, deep, 1)
    shapes |= block("middle_block.2", deep, deep, 4 * width)
    for place, blocks in enumerate(UP):
        for number, (before, after) in enumerate(blocks):
            shapes |= block(f"output_blocks.{place}.{number}", before * width, after * width, 4 * width)
    shapes |= layer("out.0", width) | layer("out.2", 3, width, 3, 3)
    return {f"denoise_fn.{name}": shape for name, shape in shapes.items()}


def vae_shapes(widths: tuple[int, int, int] = (32, 64, 128), latents: int = 256, side: int = 256) -> Shapes:
    """What AntixK's VanillaVAE calls its parameters and running statistics, in `model`."""
    first, second, third = widths
    flat = third * (side // 8) ** 2
    shapes: Shapes = {}
    for place, (before, after) in enumerate([(3, first), (first, second), (second, third)]):
        shapes |= layer(f"encoder.{place}.0", after, before, 3, 3) | norm(f"encoder.{place}.1", after)
    shapes |= layer("fc_mu", latents, flat) | layer("fc_var", latents, flat)
    shapes |= {"decoder_input.weight": (flat, latents), "decoder_input.bias": (flat,)}
    for place, (before, after) in enumerate([(third, second), (second, first)]):
        shapes |= transposed(f"decoder.{place}.0", before, after) | norm(f"decoder.{place}.1", after)
    shapes |= transposed("final_layer.0", first, first) | norm("final_layer.1", first)
    shapes |= layer("final_layer.3", 3, first, 3, 3)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def genesis_shapes(width: int = 64) -> Shapes:
    """What Models Genesis calls the parameters and running statistics of its encoder, and one of its decoder."""
    shapes: Shapes = {}
    before = 1
    for level, factor in ((64, 1), (128, 2), (256, 4), (512, 8)):
        after = factor * width
        for number, (source, target) in enumerate([(before, after // 2), (after // 2, after)]):
            name = f"down_tr{level}.ops.{number}"
            shapes |= layer(f"{name}.conv1", target, source, 3, 3, 3) | norm(f"{name}.bn1", target)
        before = after
    shapes |= layer("out_tr.final_conv", 1, width, 1, 1, 1)
    return {f"module.{name}": shape for name, shape in shapes.items()}


def numbered(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes, each full of a number of its own, from 0.001 up."""
    return {
        name: torch.tensor(0.001 * number).expand(shape) if shape else torch.tensor(number)
        for number, (name, shape) in enumerate(shapes.items(), start=1)
    }


def write_vae(path: Path, tensors: Mapping[str, Tensor], **more: Any) -> Path:
    """A checkpoint of PyTorch Lightning: the weights beside what the trainer remembers."""
    remembered = {
        "epoch": 499,
        "global_step": 45500,
        "pytorch-lightning_version": "1.6.5",
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.01)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 2e-4}]}],
        "lr_schedulers": [{"gamma": 0.95}],
    }
    torch.save({**remembered, "state_dict": dict(tensors), **more}, path)
    return path


def write_palette(path: Path, tensors: Mapping[str, Tensor], *, schedule: bool = False, prefix: str = "") -> Path:
    """A state dictionary of Janspiry's; the network that was trained keeps its schedule in it, the average does not."""
    kept = {name: torch.linspace(1, 0, 2000) for name in SCHEDULE} if schedule else {}
    torch.save({f"{prefix}{name}": tensor for name, tensor in {**tensors, **kept}.items()}, path)
    return path


def layer(name: str, *shape: int) -> Shapes:
    """A convolution, a dense layer or a group norm: one bias for each of the first dimension."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def transposed(name: str, before: int, after: int) -> Shapes:
    """A transposed convolution, whose weight names the incoming channels first."""
    return {f"{name}.weight": (before, after, 3, 3), f"{name}.bias": (after,)}


def norm(name: str, channels: int) -> Shapes:
    """A batch norm."""
    return {
        **layer(name, channels),
        f"{name}.running_mean": (channels,),
        f"{name}.running_var": (channels,),
        f"{name}.num_batches_tracked": (),
    }


def block(name: str, before: int, after: int, embedding: int) -> Shapes:
    """A residual block of guided diffusion."""
    shapes = layer(f"{name}.in_layers.0", before) | layer(f"{name}.in_layers.2", after, before, 3, 3)
    shapes |= layer(f"{name}.emb_layers.1", 2 * after, embedding)
    shapes |= layer(f"{name}.out_layers.0", after) | layer(f"{name}.out_layers.3", after, after, 3, 3)
    return shapes | (layer(f"{name}.skip_connection", after, before, 1, 1) if before != after else {})


def each_parameter(shapes: Shapes) -> Iterator[tuple[int, ...]]:
    """The shapes of what is trained."""
    return (shape for name, shape in shapes.items() if name.endswith((".weight", ".bias")))
