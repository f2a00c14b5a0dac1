"""What interventionalists leave in the beam: guide wires, catheters and vessels full of contrast medium.

Drawn as further line integrals on a projection, as smooth curves of a round cross-section.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import interpolate, spatial

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cylinder:
    """A bent cylinder seen from the side."""

    #: (n, 2) x, y of its axis, in widths of the picture, closer together than a pixel.
    axis: Points
    #: Radius in widths.
    radius: float
    #: Line integral through its middle, dimensionless.
    attenuation: float


def draw(line_integrals: Floats, cylinder: Cylinder) -> Floats:
    """The line integrals (h, w) with a cylinder added."""
    height, width = line_integrals.shape
    # A pixel's own blur makes a thinner wire paler, not thinner.
    radius = max(cylinder.radius * width, 0.75)
    peak = cylinder.attenuation * cylinder.radius * width / radius
    axis = cylinder.axis * width
    near = np.zeros((height, width), dtype=np.bool_)
    reach = int(np.ceil(radius)) + 1
    inside = np.rint(axis - 0.5).astype(int)
    inside = inside[((inside > -reach) & (inside < np.array([width, height]) + reach)).all(axis=1)]
    for x, y in np.unique(inside, axis=0):
        near[max(y - reach, 0) : max(y + reach + 1, 0), max(x - reach, 0) : max(x + reach + 1, 0)] = True
    rows, columns = np.nonzero(near)
    if not rows.size:
        return line_integrals
    distance, _ = spatial.cKDTree(axis).query(np.stack([columns, rows], axis=1) + 0.5)
    chord = np.sqrt(np.clip(1 - (distance / (radius + 0.5)) ** 2, 0, None))
    drawn = line_integrals.copy()
    drawn[rows, columns] += np.float32(peak) * chord.astype(np.float32)
    return drawn


def smooth_axis(knots: Points, length: float | None = None) -> Points:
    """A smooth curve through the knots (k >= 3, 2), in steps of 0.001 widths; cut off at `length` widths."""
    spline, _ = interpolate.splprep(knots.T, s=0, k=min(3, len(knots) - 1))
    curve = np.stack(interpolate.splev(np.linspace(0, 1, 4000), spline), axis=1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    stops = np.arange(0, along[-1] if length is None else min(length, along[-1]), 0.001)
    return np.stack([np.interp(stops, along, curve[:, axis]) for axis in (0, 1)], axis=1)


def add_devices(line_integrals: Floats, rng: np.random.Generator) -> Floats:
    """The projection (h, w) with up to three random guide wires, catheters or vessels; often with none."""
    drawn = line_integrals
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.35, 0.4, 0.15, 0.1])):
        kind = rng.choice(["wire", "catheter", "vessel"], p=[0.5, 0.3, 0.2])
        if kind == "vessel":
            drawn = _draw_tree(drawn, rng)
            continue
        axis = smooth_axis(_wandering(rng, rng.random(2), rng.uniform(0, 2 * np.pi), bend=0.5))
        wire = kind == "wire"
        radius = rng.uniform(0.0008, 0.002) if wire else rng.uniform(0.003, 0.006)
        attenuation = rng.uniform(0.4, 1.5) if wire else rng.uniform(0.08, 0.4)
        drawn = draw(drawn, Cylinder(axis=axis, radius=radius, attenuation=attenuation))
    return drawn


def _draw_tree(line_integrals: Floats, rng: np.random.Generator) -> Floats:
    """A vessel with branches, thinner and paler the farther out they are."""
    start, heading, attenuation = rng.random(2), rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.9)
    trunk = smooth_axis(_wandering(rng, start, heading, bend=0.4))
    radius = rng.uniform(0.006, 0.016)
    drawn = draw(line_integrals, Cylinder(axis=trunk, radius=radius, attenuation=attenuation))
    for place in rng.uniform(0.1, 0.9, rng.integers(1, 5)):
        at = int(place * (len(trunk) - 2))
        ahead = trunk[at + 1] - trunk[at]
        turned = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        branch = smooth_axis(_wandering(rng, trunk[at], turned, bend=0.6)[:5])
        share = rng.uniform(0.3, 0.7)
        cylinder = Cylinder(axis=branch, radius=radius * share, attenuation=attenuation * share)
        drawn = draw(drawn, cylinder)
    return drawn


def _wandering(rng: np.random.Generator, start: Points, heading: float, *, bend: float) -> Points:
    """(8, 2) knots of a way that turns by about `bend` radians at each."""
    headings = heading + np.cumsum(rng.normal(0, bend, 7))
    steps = rng.uniform(0.06, 0.16) * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.vstack([start, start + np.cumsum(steps, axis=0)])
