"""The variants of the ablation: which networks share the budget, and what they make of a collimated picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.ablation.budget import Trained, train_for
from benchmarks.ablation.picture_palette import GreyPrior, picture_palette_task, thesis_vae_task
from inference.palette import RESIDUAL_SCALE, condition
from inference.reconstruction import Mode
from inference.thesis.vae import VAE as ThesisVAE
from inference.vae import VAE
from training.loop import Material
from training.settings import TrainingSettings
from training.solver import solve
from training.train import palette_task, vae_task

#: Estimate of the full field: collimated picture, aperture and noise for a draw, (n, 1, 256, 256) each, to the same.
Answer = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all variants share."""

    #: Of one processor core, for all networks of a variant together.
    minutes: float
    #: Of our U-Nets, narrower than those that ship, so that minutes tell something.
    channels: tuple[int, ...] = (32, 48, 80, 128)
    #: The thesis has 3, the profile `fullfield` 8.
    batch: int = 4
    #: Of the thesis's VAE, narrowed too: where the last level has 128, its dense layers hold 101 million parameters and
    #: a step takes some 2 s of a core, so that in half of 5 minutes the latents hardly begin to tell pictures apart.
    #: With 16 there are 13 million, and a step takes 0.3 s.
    thesis_channels: tuple[int, ...] = (32, 64, 16)

    def settings(self, seed: int) -> TrainingSettings:
        """Of every training; steps and warm-up count thousandths of its budget.

        Single frames alone, for the thesis knows no others. The average of the weights forgets within some 50 steps,
        since there are hundreds and not thousands.
        """
        return TrainingSettings(steps=1000, warm_up=50, batch=self.batch, ema=0.98, seed=seed, several_share=0)


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A trained variant."""

    networks: Sequence[Trained]
    answers: Mapping[Mode, Answer]


def palette_alone(material: Material, plan: Plan, seed: int) -> Learnt:
    """Palette paints the picture from what the aperture shows: it sees nothing behind the blades."""
    settings = plan.settings(seed)
    palette = train_for(60 * plan.minutes, picture_palette_task(None, settings, plan.channels), material, settings)
    return Learnt(networks=[palette], answers={"sample": _draw(GreyPrior(), palette.network)})


def vae_and_palette(material: Material, plan: Plan, seed: int) -> Learnt:
    """The thesis: a VAE reads what is behind the blades, and Palette is told by a texture of its latents.

    The VAE has half of the budget, as in the variant that is ours.
    """
    settings = plan.settings(seed)
    vae = train_for(30 * plan.minutes, thesis_vae_task(plan.thesis_channels), material, settings)
    task = picture_palette_task(cast(ThesisVAE, vae.network), settings, plan.channels)
    palette = train_for(60 * plan.minutes - vae.seconds, task, material, settings)
    return Learnt(networks=[vae, palette], answers={"sample": _draw(GreyPrior(), palette.network)})


def regression_alone(material: Material, plan: Plan, seed: int) -> Learnt:
    """The prior: its mean is the answer."""
    settings = plan.settings(seed)
    prior = train_for(60 * plan.minutes, vae_task(settings, plan.channels), material, settings)
    return Learnt(networks=[prior], answers={"mean": _mean(prior.network)})


def prior_and_residual_palette(material: Material, plan: Plan, seed: int) -> Learnt:
    """Ours: the prior, and Palette on what it leaves open, half of the budget each.

    Palette learns on the one prior's residuals: two more priors, for scenes that they have not seen, would leave each
    too little of so small a budget, and one that has seen each scene only a few times does not know it by heart.
    """
    settings = plan.settings(seed)
    prior = train_for(30 * plan.minutes, vae_task(settings, plan.channels), material, settings)
    vae = cast(VAE, prior.network)
    task = palette_task(vae, (vae, vae), settings, plan.channels)
    palette = train_for(60 * plan.minutes - prior.seconds, task, material, settings)
    answers: dict[Mode, Answer] = {"mean": _mean(vae), "sample": _draw(vae, palette.network)}
    return Learnt(networks=[prior, palette], answers=answers)


#: In the order of the table, by the name of their files.
VARIANTS: Mapping[str, Callable[[Material, Plan, int], Learnt]] = {
    "palette-alone": palette_alone,
    "vae-and-palette": vae_and_palette,
    "regression-alone": regression_alone,
    "prior-and-residual-palette": prior_and_residual_palette,
}


def _mean(prior: nn.Module) -> Answer:
    def answer(collimated: Tensor, aperture: Tensor, _: Tensor) -> Tensor:
        mean: Tensor = prior(collimated, aperture, torch.ones_like(aperture)).mean
        return mean

    return answer


def _draw(prior: nn.Module, palette: nn.Module) -> Answer:
    """One draw, as the teacher of the product's Palette makes it."""

    def answer(collimated: Tensor, aperture: Tensor, noise: Tensor) -> Tensor:
        frames = torch.ones_like(aperture)
        mean: Tensor = prior(collimated, aperture, frames).mean
        seen = condition(collimated, aperture, frames, mean)
        residual = solve(lambda noisy, sigma: palette(noisy, sigma, seen), noise, 1 - aperture)[-1]
        return mean + RESIDUAL_SCALE * residual

    return answer
