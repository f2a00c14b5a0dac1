"""In which precision the networks compute."""

import torch


def autocast(device: str) -> torch.autocast:
    """Half precision (bfloat16) where the machine computes faster in it, else single precision.

    device: `cpu` or `cuda`. The networks' last layers always compute in single precision, so that smooth regions show
    no steps.
    """
    return torch.autocast(device, dtype=torch.bfloat16, enabled=is_faster_in_half(device))


def is_faster_in_half(device: str) -> bool:
    """Whether `cpu` or `cuda` computes faster in bfloat16 here; a processor without it takes several times as long."""
    processor = torch.cpu.get_capabilities()
    return device == "cuda" or bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
