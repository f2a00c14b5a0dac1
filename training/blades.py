"""The shapes that a collimator's blades leave open, and how they weaken the beam.

Rectangles, turned ones, bands between two blades, polygons of several blades, and the circle or ellipse of an iris.
The penumbra, where a blade hides a part of the focal spot, lies inside the outline; the outline is the aperture.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Corners of the polygon that stands for an ellipse.
_ELLIPSE_CORNERS = 32


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """Two pairs of blades along the picture's axes; in pixels, the far edges excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def mask(self, shape: tuple[int, int]) -> Mask:
        """(h, w) bool, True where the picture is measured."""
        mask = np.zeros(shape, dtype=np.bool_)
        mask[self.top : self.bottom, self.left : self.right] = True
        return mask

    def attenuation(self, shape: tuple[int, int], penumbra: float, transmission: tuple[float, float]) -> Doubles:
        """(h, w) line integral of the blades; penumbra in pixels, transmission of the upright and the level blades."""
        height, width = shape
        across = pair_of_blades(width, self.left, self.right, penumbra, transmission[0])
        down = pair_of_blades(height, self.top, self.bottom, penumbra, transmission[1])
        return down[:, None] + across[None, :]


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A convex opening between blades at any angle, or in an iris."""

    #: (k, 2) x, y of the corners in pixels, clockwise as seen in the picture; they may lie outside it.
    corners: Doubles
    #: One leaf all around, as that of a circle, in place of a blade along each side, whose shadows add up.
    iris: bool = False

    def mask(self, shape: tuple[int, int]) -> Mask:
        """(h, w) bool, True where the picture is measured: a pixel is in when its middle is."""
        return np.asarray(self._beyond(shape).max(axis=0) <= 0)

    def attenuation(self, shape: tuple[int, int], penumbra: float, transmission: tuple[float, float]) -> Doubles:
        """(h, w) line integral of the blades; penumbra in pixels, transmission of upright and of level blades."""
        beyond = self._beyond(shape)
        if self.iris:
            return _shadow(-beyond.max(axis=0), penumbra, transmission[0])
        normals = self._normals()
        total = np.zeros(shape)
        for distance, normal in zip(beyond, normals, strict=True):
            if distance.max() > 0:  # a blade outside the picture throws no shadow into it
                total += _shadow(-distance, penumbra, transmission[0 if abs(normal[0]) > abs(normal[1]) else 1])
        return total

    def _beyond(self, shape: tuple[int, int]) -> Doubles:
        """(k, h, w): how far each pixel's middle lies outside of each side, in pixels."""
        height, width = shape
        x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
        normals = self._normals()
        offsets = (normals * self.corners).sum(axis=1)
        return np.asarray(normals[:, :1, None] * x + normals[:, 1:, None] * y[:, None] - offsets[:, None, None])

    def _normals(self) -> Doubles:
        """(k, 2): of the side from each corner to the next, of length 1, pointing out."""
        along = np.roll(self.corners, -1, axis=0) - self.corners
        out = np.stack([along[:, 1], -along[:, 0]], axis=1)
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))


Aperture = Rectangle | Polygon


def random_aperture(shape: tuple[int, int], rng: np.random.Generator) -> Aperture:
    """An opening of 1 to 90 % of the picture, whole within it: mostly a rectangle of 3 to 25 %, as the pairs have."""
    kind = rng.choice(["rectangle", "turned", "ellipse", "polygon", "band"], p=[0.64, 0.1, 0.1, 0.08, 0.08])
    common = rng.random() < 0.6
    share = float(np.exp(rng.uniform(np.log(0.03), np.log(0.25))) if common else rng.uniform(0.1, 0.95) ** 2)
    share = max(share, 0.012)
    if kind == "rectangle":
        return _rectangle(shape, share, rng)
    if kind == "band":
        return _band(shape, share, rng)
    height, width = shape
    side = np.sqrt(width * height)
    aspect = np.exp(rng.uniform(-0.5, 0.5)) if rng.random() < 0.7 else 1.0
    if kind == "turned":
        outline = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        turn = np.deg2rad(rng.uniform(3, 87))
    elif kind == "ellipse":
        angles = np.arange(_ELLIPSE_CORNERS) * 2 * np.pi / _ELLIPSE_CORNERS
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(np.pi)
        turn = rng.uniform(0, np.pi)
    else:
        count = int(rng.integers(5, 9))
        angles = (np.arange(count) + rng.uniform(-0.2, 0.2, count)) * 2 * np.pi / count
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(np.pi)
        turn = rng.uniform(0, 2 * np.pi)
    outline = outline * [np.sqrt(aspect), 1 / np.sqrt(aspect)] * np.sqrt(share) * side
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outline = outline @ rotation
    # Too large a shape is shrunk until it fits.
    outline *= min(1.0, *(np.array([width, height]) / np.ptp(outline, axis=0)))
    low, high = -outline.min(axis=0), np.array([width, height]) - outline.max(axis=0)
    return Polygon(corners=outline + rng.uniform(low, np.maximum(low, high)), iris=bool(kind == "ellipse"))


def pair_of_blades(size: int, first: float, last: float, penumbra: float, transmission: float) -> Doubles:
    """(size,) line integral of two blades that leave [first, last) open."""
    middle = np.arange(size) + 0.5
    # A blade that ends at the picture's rim stands outside it, with its penumbra.
    first, last = first - penumbra * (first <= 0), last + penumbra * (last >= size)
    return _shadow(np.minimum(middle - first, last - middle), penumbra, transmission)


def _rectangle(shape: tuple[int, int], share: float, rng: np.random.Generator) -> Rectangle:
    height, width = shape
    aspect = np.exp(rng.uniform(-0.6, 0.6))
    across = round(width * min(np.sqrt(share * aspect), 0.95))
    down = round(height * min(np.sqrt(share / aspect), 0.95))
    left, top = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
    return Rectangle(left=left, top=top, right=left + across, bottom=top + down)


def _band(shape: tuple[int, int], share: float, rng: np.random.Generator) -> Rectangle:
    """What two lamellae leave open between them, from rim to rim."""
    height, width = shape
    share = float(np.clip(share, 0.08, 0.9))
    upright = rng.random() < 0.5
    size = width if upright else height
    opening = round(size * share)
    first = int(rng.integers(0, size - opening + 1))
    if upright:
        return Rectangle(left=first, top=0, right=first + opening, bottom=height)
    return Rectangle(left=0, top=first, right=width, bottom=first + opening)


def _shadow(inside: Doubles, penumbra: float, transmission: float) -> Doubles:
    """Line integral of a blade: along the penumbra, ever farther inside, more of the focal spot comes into view."""
    in_view = np.clip(inside / max(penumbra, 1e-6), 0, 1)
    return np.asarray(-np.log(transmission + (1 - transmission) * in_view))
