"""The thesis's figures of an answer to collimated pictures: 256x256 in [-1, 1], aperture pixels of the full picture."""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.ablation.variants import Answer
from inference.network import FRAME_SIDE
from inference.precision import autocast
from training.metrics import log_spectrum, mse, ssim
from training.pairs import Pair, aperture_mask, read_picture
from training.perceptual import GenesisEncoder, lpips

#: A figure by its name; LPIPS is None where its encoder is not there.
Figures = dict[str, float | None]


@torch.inference_mode()
def figures(pairs: Sequence[Pair], answer: Answer, genesis: GenesisEncoder | None) -> Figures:
    """Means over the pairs of mse, ssim and lpips, and the distance of both mean spectra.

    The aperture is that of `pairs.csv`. Each pair has a noise of its own, the same for every answer.
    """
    noise = torch.Generator().manual_seed(0)
    rows, spectra, true_spectra = [], [], []
    for pair in pairs:
        full, collimated = read_picture(pair.full, FRAME_SIDE), read_picture(pair.collimated, FRAME_SIDE)
        measured = aperture_mask(pair.aperture, full.shape)
        seen, aperture = (torch.from_numpy(part.astype(np.float32))[None, None] for part in (collimated, measured))
        with autocast("cpu"):
            made = answer(seen, aperture, torch.randn(seen.shape, generator=noise))
        picture = np.where(measured, full, made[0, 0].float().clamp(-1, 1).numpy())
        difference = None if genesis is None else lpips(genesis, picture, full)
        rows.append((mse(picture, full), ssim(picture, full), difference))
        spectra.append(log_spectrum(picture))
        true_spectra.append(log_spectrum(full))
    errors, similarities, differences = zip(*rows, strict=True)
    return {
        "mse": float(np.mean(errors)),
        "ssim": float(np.mean(similarities)),
        "lpips": None if genesis is None else float(np.mean(differences)),
        "spectrum": float(np.abs(np.mean(spectra, axis=0) - np.mean(true_spectra, axis=0)).mean()),
    }
