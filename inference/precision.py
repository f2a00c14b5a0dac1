"""In which precision the networks compute."""

import torch


def autocast(device: str) -> torch.autocast:
    """Half precision (bfloat16) where the machine computes faster in it, else single precision.

    device: `cpu` or `cuda`. The networks' last layers always compute in single precision, so that smooth regions show
    no steps.
    """
    processor = torch.cpu.get_capabilities()
    fast = device == "cuda" or bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
    return torch.autocast(device, dtype=torch.bfloat16, enabled=fast)
