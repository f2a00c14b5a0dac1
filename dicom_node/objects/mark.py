"""The visible mark of generated pixels: a border along the aperture and a label, on no measured pixel."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont
from scipy.ndimage import maximum_filter

from config.errors import ConfigError
from config.font import font, lacking
from config.mark import Mark
from dicom_node.objects.views import frames_with_some, still_views
from inference.on_disk import array_on_disk, in_turn, let_go

Mask = NDArray[np.bool_]
Stamp = NDArray[np.float32]

#: Below this many pixels of font size a label cannot be read.
_SMALLEST_FONT = 10
_CORNERS = ("bottom-left", "bottom-right", "top-left", "top-right")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What found room on how many frames."""

    frames: int
    labelled: int
    burned_in: bool = True

    def __str__(self) -> str:
        if not self.burned_in:
            return "nothing; the presentation state beside the picture marks them"
        if self.labelled == self.frames:
            return "border and label"
        if self.labelled == 0:
            return "border, no room for the label"
        return f"border, label on {self.labelled} of {self.frames} frames"


def draw_mark(
    stored: NDArray[np.integer], aperture: Mask, elsewhen: Mask, mark: Mark, *, black: int, white: int
) -> Drawn:
    """Draw border and label into `stored`, in place, outside the aperture.

    stored: (n, h, w) stored values; aperture: (n, h, w), True = measured; elsewhen: the same shape, True = measured at
    another time; black, white: stored values that are shown so. The border runs round all that was measured, and a
    thin dotted line parts what was measured in the frame from what was measured at another time. The label keeps one
    place through the cine when one lies outside of what was measured in every frame, else each position has its own.
    Draws nothing where the mark is not to be burned in. Raises ConfigError where the font cannot be read or lacks a
    character of the label.
    """
    if not mark.burned_in:
        return Drawn(frames=len(stored), labelled=0, burned_in=False)
    if character := lacking(mark.label, mark.font):
        raise ConfigError(f"The font of the mark cannot draw {character!r}; the administrator names another one.")
    taken_over = frames_with_some(elsewhen)
    for frame in taken_over:
        ink, _ = _ink_and_paper(stored[frame : frame + 1], aperture[frame : frame + 1], mark, 1, black, white)
        stored[frame, _dotted(aperture[frame], elsewhen[frame])] = ink
        let_go(stored, aperture, elsewhen)
    known = _united(aperture, elsewhen) if taken_over else aperture
    return _draw_round(stored, known, mark, black=black, white=white)


def label_box(taken: Mask, mark: Mark) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of where the label stands beside `taken` (h, w); None where there is no room."""
    thickness = _thickness(taken.shape)
    placed = _Label(mark, (taken.shape[0], taken.shape[1])).place(_grown(taken, thickness + 1))
    if placed is None:
        return None
    stamp, top, left = placed
    return left, top, left + stamp.shape[1], top + stamp.shape[0]


def _draw_round(stored: NDArray[np.integer], aperture: Mask, mark: Mark, *, black: int, white: int) -> Drawn:
    height, width = stored.shape[1:]
    thickness = _thickness((height, width))
    ink, paper = _ink_and_paper(stored, aperture, mark, thickness, black, white)
    everywhere = np.zeros((height, width), dtype=bool)
    for frames in still_views(aperture):
        mask = aperture[frames.start]
        border = _border(mask, thickness, mark)
        for (frame,) in in_turn(stored[frames]):
            frame[border] = ink
        everywhere |= _grown(mask, thickness + 1)
    label = _Label(mark, (height, width))
    placed = label.place(everywhere)
    labelled = 0
    for frames in still_views(aperture):
        here = placed or label.place(_grown(aperture[frames.start], thickness + 1))
        if here is not None:
            stamp, top, left = here
            values = np.rint(paper + stamp * (float(ink) - paper)).astype(stored.dtype)
            for (frame,) in in_turn(stored[frames]):
                frame[top : top + stamp.shape[0], left : left + stamp.shape[1]] = values
            labelled += frames.stop - frames.start
    return Drawn(frames=len(stored), labelled=labelled)


def _united(aperture: Mask, elsewhen: Mask) -> Mask:
    known: Mask = array_on_disk(aperture.shape, np.bool_)
    for both, one, other in in_turn(known, aperture, elsewhen):
        np.logical_or(one, other, out=both)
    return known


def _thickness(shape: tuple[int, ...]) -> int:
    return min(3, max(1, round(min(shape) / 300)))


class _Label:
    """The text in every size and layout that can be read, largest first, and where each finds room."""

    def __init__(self, mark: Mark, shape: tuple[int, int]) -> None:
        self._position = mark.position
        self._margins = (max(2, min(shape) // 64), 1)
        largest = min(48, max(_SMALLEST_FONT, min(shape) // 30))
        sizes = range(largest, _SMALLEST_FONT - 1, -2)
        self._stamps = [stamp for size in sizes for stamp in _layouts(mark, size)]
        self._smallest = _layouts(mark, sizes[-1])

    def place(self, taken: Mask) -> tuple[Stamp, int, int] | None:
        """The first stamp that fits beside `taken` (h, w), with its top and left; or None."""
        places = (self._place(_framed(taken, margin)) for margin in self._margins)
        return next((place for place in places if place is not None), None)

    def _place(self, taken: Mask) -> tuple[Stamp, int, int] | None:
        counted = np.pad(np.cumsum(np.cumsum(taken, axis=0, dtype=np.int32), axis=1), ((1, 0), (1, 0)))
        if not any(_vacant(counted, stamp.shape).any() for stamp in self._smallest):
            return None
        roomy = _corners_by_room(taken)
        wanted = [self._position] if self._position != "auto" else []
        tries = chain(
            ((stamp, corner) for corner in wanted for stamp in self._stamps),
            ((stamp, corner) for stamp in self._stamps for corner in roomy),
        )
        for stamp, corner in tries:
            found = _room(counted, (stamp.shape[0], stamp.shape[1]), corner)
            if found is not None:
                return stamp, *found
        return None


def _framed(mask: Mask, margin: int) -> Mask:
    framed = np.ones_like(mask)
    inner = slice(margin, -margin)
    framed[inner, inner] = mask[inner, inner]
    return framed


def _grown(mask: Mask, by: int) -> Mask:
    return np.asarray(maximum_filter(mask, size=2 * by + 1, mode="constant", cval=0), dtype=bool)


def _border(mask: Mask, thickness: int, mark: Mark) -> Mask:
    """The generated pixels within `thickness` of the aperture; dashes are counted by angle, so they close."""
    ring = _grown(mask, thickness) & ~mask
    if mark.border == "dashed" and ring.any():
        rows, columns = np.nonzero(ring)
        angle = np.arctan2(rows - rows.mean(), columns - columns.mean()) / (2 * np.pi) % 1
        dashes = max(8, round(len(rows) / thickness / (8 * thickness)))
        ring[rows, columns] = np.floor(angle * dashes * 2).astype(int) % 2 == 0
    return ring


def _dotted(aperture: Mask, elsewhen: Mask) -> Mask:
    """Every other four pixels of the line where what was measured at another time begins."""
    rows, columns = np.indices(aperture.shape)
    return np.asarray(_grown(aperture, 1) & elsewhen & ((rows + columns) // 4 % 2 == 0))


def _ink_and_paper(
    stored: NDArray[np.integer], aperture: Mask, mark: Mark, thickness: int, black: int, white: int
) -> tuple[int, int]:
    """The colour of border and text, and of the ground behind the text: each other's opposite.

    Reading rooms are dark, so a bright ground is for pictures that are bright around the aperture.
    """
    contrast = mark.contrast
    if contrast == "auto":
        ring = _grown(aperture[0], 4 * thickness) & ~aperture[0]
        around = float(np.median(stored[0][ring])) if ring.any() else float(black)
        contrast = "bright" if abs(around - black) <= 2 * abs(around - white) else "dark"
    return (white, black) if contrast == "bright" else (black, white)


def _layouts(mark: Mark, size: int) -> list[Stamp]:
    """The text on one line, on two, and both upright: (h, w) float32 in [0, 1], 1 = ink."""
    label, face = mark.label, font(mark.font, size)
    flat = [_written(label, face, size)]
    spaces = [at for at, character in enumerate(label) if character == " "]
    if spaces:
        middle = min(spaces, key=lambda at: abs(at - len(label) / 2))
        flat.append(_written(label[:middle].rstrip(" -") + "\n" + label[middle:].lstrip(" -"), face, size))
    return [*flat, *(np.rot90(stamp) for stamp in flat)]


def _written(text: str, face: FreeTypeFont, size: int) -> Stamp:
    padding = max(2, size // 4)
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=face)
    page = Image.new("L", (int(right - left) + 2 * padding, int(bottom - top) + 2 * padding))
    ImageDraw.Draw(page).multiline_text((padding - left, padding - top), text, fill=255, font=face)
    return np.asarray(page, dtype=np.float32) / np.float32(255)


def _corners_by_room(taken: Mask) -> list[str]:
    rows, columns = taken.shape[0] // 2, taken.shape[1] // 2
    free = {
        "top-left": taken[:rows, :columns],
        "top-right": taken[:rows, columns:],
        "bottom-left": taken[rows:, :columns],
        "bottom-right": taken[rows:, columns:],
    }
    return sorted(_CORNERS, key=lambda corner: -int((~free[corner]).sum()))


def _room(counted: NDArray[np.int32], shape: tuple[int, int], corner: str) -> tuple[int, int] | None:
    """Top and left of the free box nearest to a corner, in that corner's quarter of the positions."""
    vacant = _vacant(counted, shape)
    if not vacant.any():
        return None
    rows = np.arange(vacant.shape[0])
    columns = np.arange(vacant.shape[1])
    down = rows[::-1] if corner.startswith("bottom") else rows
    across = columns[::-1] if corner.endswith("right") else columns
    far = np.add.outer(down, across)
    possible = vacant & (down <= len(rows) // 2)[:, None] & (across <= len(columns) // 2)[None, :]
    if not possible.any():
        return None
    top, left = np.unravel_index(int(np.where(possible, far, far.max() + 1).argmin()), far.shape)
    return int(top), int(left)


def _vacant(counted: NDArray[np.int32], shape: tuple[int, ...]) -> Mask:
    """At which top and left a box of this shape has nothing in it; counted: sums of what is taken above and left."""
    height, width = shape
    if counted.shape[0] <= height or counted.shape[1] <= width:
        return np.zeros((0, 0), dtype=bool)
    inside = (
        counted[height:, width:] - counted[:-height, width:] - counted[height:, :-width] + counted[:-height, :-width]
    )
    return np.asarray(inside == 0)
