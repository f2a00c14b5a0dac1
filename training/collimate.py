"""The physics of a collimated exposure.

Line integrals become quanta (Beer-Lambert) behind four blades, which let a little of the primary beam through
and do not stop the scatter; the detector adds quantum, line and electronic noise.
Lengths are fractions of the picture's width, so the same exposure can be drawn at any size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.blades import Aperture, pair_of_blades
from training.modality import NATIVE_SIZE, Modality, smooth

Floats = npt.NDArray[np.float32]

#: Share of the beam in the margin, which the fully opened collimator leaves dark, not black.
MARGIN_TRANSMISSION = 0.05


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What tube, blades and detector do to one picture."""

    #: Quanta that one pixel of a `NATIVE_SIZE` picture detects without a patient.
    quanta: float = 60_000.0
    #: Scattered quanta as a share of the primary ones, on average behind the patient.
    scatter_to_primary: float = 0.15
    #: Standard deviation of the scatter's spread, in widths.
    scatter_spread: float = 0.12
    #: Share of the primary beam that passes the left and right blades, and the top and bottom ones; in the
    #: corners both pairs lie in the beam.
    transmission: tuple[float, float] = (0.004, 0.002)
    #: Share of the beam that arrives wherever blades are, in the corners as well: leakage, and what the detector
    #: still holds of an exposure before.
    leakage: float = 0.0
    #: Width over which a blade goes from hiding the whole focal spot to hiding none of it, in widths.
    penumbra: float = 0.028
    #: Standard deviation of the electronic noise, in quanta of a native pixel.
    electronic_noise: float = 12.0
    #: Standard deviation of the read-out lines' common noise, in quanta of a native pixel.
    line_noise: float = 4.0
    #: Standard deviation of the scintillator's spread of light, in pixels of the picture that is drawn.
    blur: float = 0.6
    #: Quanta per step of the detector's digits.
    digit: float = 4.0
    #: Width of the dark margin that the fully opened collimator leaves round the picture, in widths.
    margin: float = 0.02


def simulate_pair(
    line_integrals: Floats,
    aperture: Aperture,
    exposure: Exposure,
    modality: Modality,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """The full field and the collimated picture of one anatomy, two exposures of their own noise.

    line_integrals: (h, w) float32, sum of mu * dl. Returns two (h, w) float32 frames in [-1, 1].
    """
    full = modality.picture(detect(line_integrals, None, exposure, rng))
    return full, next(simulate_cine(line_integrals, aperture, exposure, modality, rng))


def simulate_cine(
    line_integrals: Floats,
    aperture: Aperture | None,
    exposure: Exposure,
    modality: Modality,
    rng: np.random.Generator,
) -> Iterator[Floats]:
    """Any number of exposures of an anatomy that stands still, each with its own noise: (h, w) float32 in [-1, 1]."""
    expected = expected_quanta(line_integrals, aperture, exposure)
    while True:
        yield modality.picture(_read_out(expected, exposure, rng))


def detect(line_integrals: Floats, aperture: Aperture | None, exposure: Exposure, rng: np.random.Generator) -> Floats:
    """Detected quanta of one exposure, noise included: (h, w) float32, in quanta of a native pixel.

    Without an aperture only the collimator's margin is dark.
    """
    return _read_out(expected_quanta(line_integrals, aperture, exposure), exposure, rng)


def expected_quanta(line_integrals: Floats, aperture: Aperture | None, exposure: Exposure) -> Floats:
    """Quanta without noise: the primary beam that passes patient and blades, and the patient's scatter of it.

    (h, w) float32, in quanta of a native pixel.
    """
    blades = blade_attenuation(line_integrals.shape, aperture, exposure)
    entering = exposure.quanta * np.exp(-blades)
    primary = entering * np.exp(-line_integrals)
    # Scatter arises where the beam enters, in proportion to what the patient takes out of it, and leaves the
    # patient about as weakened as the primary beam of the whole picture, broad and smooth.
    escape = exposure.scatter_to_primary * float(np.mean(np.exp(-line_integrals)))
    scatter = _spread(entering * (1 - np.exp(-line_integrals)) * escape, exposure.scatter_spread)
    return np.asarray(primary + scatter, dtype=np.float32)


def blade_attenuation(shape: tuple[int, int], aperture: Aperture | None, exposure: Exposure) -> Floats:
    """Attenuation of the blades as a line integral, (h, w) float32: 0 in the open, a ramp in their penumbra."""
    height, width = shape
    penumbra, margin = exposure.penumbra * width, exposure.margin * width
    across = pair_of_blades(width, margin / 2, width - margin / 2, margin, MARGIN_TRANSMISSION)
    down = pair_of_blades(height, margin / 2, height - margin / 2, margin, MARGIN_TRANSMISSION)
    total = down[:, None] + across[None, :]
    if aperture is not None:
        passed = np.exp(-aperture.attenuation((height, width), penumbra, exposure.transmission))
        total -= np.log(exposure.leakage + (1 - exposure.leakage) * passed)
    return np.asarray(total, dtype=np.float32)


def random_exposure(rng: np.random.Generator) -> Exposure:
    """An exposure as interventional suites make them, from a faint to a strong one.

    Most let as little through the blades as the phantom pairs show (`python -m benchmarks.simulator`), one in ten
    up to a fortieth.
    """
    side = 10 ** (rng.uniform(-2.3, -1.6) if rng.random() < 0.1 else rng.uniform(-4.0, -2.3))
    return Exposure(
        quanta=10 ** rng.uniform(3.8, 5.1),
        scatter_to_primary=rng.uniform(0.03, 0.4),
        scatter_spread=rng.uniform(0.06, 0.2),
        transmission=(side, float(np.clip(side * 10 ** rng.uniform(-0.7, 0.7), 5e-5, 0.03))),
        leakage=10 ** rng.uniform(-4.0, -2.5) * (rng.random() < 0.85),
        penumbra=rng.uniform(0.015, 0.035),
        electronic_noise=rng.uniform(3, 12),
        line_noise=rng.uniform(0, 3) * rng.integers(0, 2),
        digit=rng.uniform(1, 6),
        margin=rng.uniform(0.005, 0.03) * (rng.random() < 0.8),
    )


def _read_out(expected: Floats, exposure: Exposure, rng: np.random.Generator) -> Floats:
    """What the detector makes of the expected quanta: quantum, electronic and line noise, digits, blur."""
    height, width = expected.shape
    #: Native pixels in one pixel of this picture: its noise is the mean of theirs.
    reduction = (NATIVE_SIZE / width) ** 2
    # Where quanta are so few that their number is not normally distributed, the electronic noise hides it.
    variance = (expected + exposure.electronic_noise**2) / reduction
    detected = expected + np.sqrt(variance) * rng.standard_normal((height, width), np.float32)
    lines = rng.standard_normal(height + 1).astype(np.float32)
    detected += exposure.line_noise / 2 * (lines[1:] - lines[:-1])[:, None]
    digit = np.float32(exposure.digit / reduction)
    return smooth(np.rint(detected / digit) * digit, exposure.blur)


def _spread(image: Floats, spread: float) -> Floats:
    """A very broad smoothing, done on a picture reduced to about 64 pixels, which is enough for it."""
    height, width = image.shape
    step = max(1, width // 64)
    small = ndimage.uniform_filter(image, step, mode="nearest")[step // 2 :: step, step // 2 :: step]
    small = ndimage.gaussian_filter(small, spread * width / step, mode="constant", truncate=4.0)
    factors = (height / small.shape[0], width / small.shape[1])
    spread_out: Floats = ndimage.zoom(small, factors, order=1, grid_mode=True, mode="nearest")
    return spread_out
