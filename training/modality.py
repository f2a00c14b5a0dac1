"""The modality's picture of the detected quanta: what angiography systems do before they show or send a frame.

Two ways are drawn. `EvenedContrast` takes out the local mean and evens out the local contrast, as the phantom
pairs of the thesis have it; `LogCurve` keeps the logarithm's broad light and dark, as most fluoroscopy is shown.
Lengths are fractions of the picture's width, so the same picture can be made at any size.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]

#: The grid on which quanta are counted and the modality works: coarser pictures are reduced ones.
NATIVE_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class EvenedContrast:
    """Logarithm, local mean out, local contrast evened out."""

    #: Standard deviation of the neighbourhood whose mean is taken out, in widths.
    mean_spread: float = 0.022
    #: Standard deviation of the neighbourhood whose contrast is evened out, in widths.
    contrast_spread: float = 0.022
    #: Contrast (of the logarithm) below which nothing is amplified any further.
    contrast_floor: float = 0.014
    #: How much more the finest detail (noise) counts as contrast.
    fine_weight: float = 8.0
    #: Standard deviation that an evened-out picture has, in grey levels of [-1, 1].
    contrast: float = 0.29
    #: Quanta of a native pixel below which the logarithm turns linear.
    dark: float = 10.0
    #: Grey level of no contrast.
    middle: float = -0.05

    def picture(self, quanta: Floats) -> Floats:
        """(h, w) quanta of a native pixel as (h, w) float32 in [-1, 1]."""
        width = quanta.shape[1]
        # A logarithm that goes on through zero, where the dark detector's noise is.
        logarithm = np.arcsinh(quanta / np.float32(2 * self.dark))
        detail = logarithm - smooth(logarithm, self.mean_spread * width)
        energy = detail * detail
        # Evening-out tames noise more than anatomy: the finest detail counts more. Reduced pictures lost most of
        # it after the modality had evened out, so what is left of it stands for more.
        finest = logarithm - smooth(logarithm, 0.6)
        energy += self.fine_weight * (NATIVE_SIZE / width) ** 3 * finest * finest
        # The mean root instead of the mean square: one blade's edge must not grey out its whole neighbourhood.
        root = smooth(np.sqrt(np.sqrt(energy)), self.contrast_spread * width)
        local = root * root + self.contrast_floor
        grey = self.middle + np.tanh(self.contrast * detail / local)
        return np.asarray(np.clip(grey, -1, 1), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class LogCurve:
    """Logarithm, edges enhanced, then one curve for all pixels: straight over the anatomy, with a soft dark toe.

    The curve is tied to the beam's quanta, not to the picture, so that collimation changes no measured pixel.
    """

    #: Quanta of a native pixel in the open beam.
    open_beam: float
    #: Natural logarithm of the share of the open beam that is shown white.
    white: float = -1.3
    #: The same where the straight part ends and the toe begins.
    knee: float = -4.6
    #: Grey level there.
    knee_grey: float = -0.55
    #: Fall of the natural logarithm over which the toe comes 1 / e closer to black.
    toe: float = 2.2
    #: How much of the fine detail is added once more.
    enhancement: float = 1.0
    #: Standard deviation of the neighbourhood that detail is measured against, in widths.
    enhancement_spread: float = 0.006
    #: Quanta of a native pixel below which the logarithm turns linear.
    dark: float = 6.0

    def picture(self, quanta: Floats) -> Floats:
        """(h, w) quanta of a native pixel as (h, w) float32 in [-1, 1]."""
        # Negative quanta are the detector's noise about zero.
        share = (np.maximum(quanta, 0) + self.dark) / np.float32(self.open_beam + self.dark)
        logarithm = np.log(share)
        logarithm += self.enhancement * (logarithm - smooth(logarithm, self.enhancement_spread * quanta.shape[1]))
        above = logarithm - self.knee
        straight = self.knee_grey + (1 - self.knee_grey) / (self.white - self.knee) * above
        toe = -1 + (1 + self.knee_grey) * np.exp(np.minimum(above / self.toe, 0))
        return np.asarray(np.clip(np.where(above > 0, straight, toe), -1, 1), dtype=np.float32)


Modality = EvenedContrast | LogCurve


def random_modality(open_beam: float, rng: np.random.Generator) -> Modality:
    """A modality of either kind, for an exposure of so many quanta of a native pixel in the open beam."""
    if rng.random() < 0.2:
        return EvenedContrast()
    return LogCurve(
        open_beam=open_beam,
        white=rng.uniform(-2.2, -0.8),
        knee=rng.uniform(-5.8, -4.2),
        knee_grey=rng.uniform(-0.7, -0.4),
        toe=rng.uniform(1.6, 3.0),
        enhancement=rng.uniform(0.0, 1.5),
        enhancement_spread=rng.uniform(0.003, 0.012),
        dark=rng.uniform(3.0, 12.0),
    )


def smooth(image: Floats, sigma: float) -> Floats:
    """A Gaussian neighbourhood mean; sigma in pixels."""
    smoothed: Floats = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=2.5)
    return smoothed
