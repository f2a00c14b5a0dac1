"""In which precision the networks compute."""

import torch


def autocast(device: str) -> torch.autocast:
    """Half precision (bfloat16) where the machine computes faster in it, else single precision.

    device: `cpu` or `cuda`. The networks' last layers always compute in single precision, so that smooth regions show
    no steps.
    """
    fast = device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=fast)
