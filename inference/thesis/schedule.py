"""Noise levels of the thesis's Palette (Ho et al. 2020, section 2, with Palette's gamma for their cumulative alpha)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from config.errors import ConfigError

#: Steps, first and last variance that is added, in training and in sampling; in between they rise linearly.
TRAINING = (2000, 1e-6, 0.01)
SAMPLING = (1000, 1e-4, 0.09)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a diffusion needs of each of its steps, the least noisy first; all fields are (steps,) float32."""

    #: Share of the clean picture's variance that is left.
    gamma: Tensor
    #: Weights of clean estimate and noisy picture in the mean of the posterior (equation 7).
    clean_weight: Tensor
    noisy_weight: Tensor
    #: Standard deviation of the posterior (equation 7); 0 at the least noisy step.
    deviation: Tensor

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.gamma)

    def clean(self, noisy: Tensor, noise: Tensor, step: int) -> Tensor:
        """The clean picture that `noisy` is, were `noise` the noise in it; clipped to [-1, 1]."""
        gamma = self.gamma[step]
        return ((noisy - (1 - gamma).sqrt() * noise) / gamma.sqrt()).clamp(-1, 1)


def training_schedule() -> Schedule:
    """The 2,000 levels between which training draws."""
    return _from_gammas(_gammas(*TRAINING))


def sampling_schedule(steps: int = SAMPLING[0]) -> Schedule:
    """The 1,000 levels of the thesis's draw, or `steps` of them at equal distances, the noisiest among them.

    Fewer steps than the thesis's keep its levels, as Nichol & Dhariwal 2021 (section 4) do. Raises ConfigError for
    a number of steps that there is not.
    """
    gammas = _gammas(*SAMPLING)
    if not 1 <= steps <= len(gammas):
        raise ConfigError(f"a draw of the thesis's takes 1 to {len(gammas)} steps, not {steps}")
    kept = torch.linspace(len(gammas) / steps - 1, len(gammas) - 1, steps, dtype=torch.float64).round().long()
    return _from_gammas(gammas[kept])


def _gammas(steps: int, first: float, last: float) -> Tensor:
    return torch.cumprod(1 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)


def _from_gammas(gamma: Tensor) -> Schedule:
    before = torch.cat([torch.ones(1, dtype=torch.float64), gamma[:-1]])
    alpha = gamma / before
    return Schedule(
        gamma=gamma.float(),
        clean_weight=(before.sqrt() * (1 - alpha) / (1 - gamma)).float(),
        noisy_weight=(alpha.sqrt() * (1 - before) / (1 - gamma)).float(),
        deviation=((1 - before) / (1 - gamma) * (1 - alpha)).sqrt().float(),
    )
