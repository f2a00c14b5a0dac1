"""Every frame of a cine is evidence for each other one (docs/decisions/0017).

Behind the blades the faint picture repeats from frame to frame while its noise does not: as long as the view stands
still, the mean over the frames shows more of it than any one. Two passes over the frames, one from the end and one
from the beginning, keep a running mean that forgets wherever something moves (inference/motion.py), and what each
pixel last showed when it lay in the aperture; only these running pictures are in memory.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.motion import Floats, Frames, Mask, Noise, estimate_noise, stillness, to_blocks, to_pixels
from inference.network import FRAME_SIDE

Indices = NDArray[np.int32]

#: More frames than this are counted as so many: the networks know no larger number.
MOST_FRAMES = 64
#: No frame's number: nothing was seen.
NEVER = -1
#: Pixels of the 256x256 grid next to a blade's edge that show its penumbra (about 3 % of the width).
_PENUMBRA = 8
#: Difference of grey levels up to which a pixel shows the very same noise: a tenth of a step of 8 bits.
_SAME = 0.1 * 2 / 255
#: Share of the hidden pixels that show the same noise in a repeated frame.
_REPEATED = 0.9
#: Stillness down to which what was seen in another frame is taken for what is there now.
_STILL = 0.5
_SHAPE = (FRAME_SIDE, FRAME_SIDE)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the whole cine tells of its frames from `first` on.

    pictures: (n, 256, 256) float32 in [-1, 1]: measured pixels as they are in the frame, or in the one that saw them;
        hidden ones as the mean over the frames of the same still view.
    apertures: (n, 256, 256) bool, True = measured, in this frame or in another.
    frames: (n, 256, 256) float32 in [1, 64]: the effective number of frames in `pictures`; 1 where measured.
    seen_in: (n, h, w) int32 at the cine's own size: the frame, nearest in time, that saw a hidden pixel through its
        aperture while the view stood still; NEVER where none did, and where the frame itself measured the pixel.
    """

    first: int
    pictures: Floats
    apertures: Mask
    frames: Floats
    seen_in: Indices

    @property
    def elsewhen(self) -> Mask:
        """(n, h, w) bool, True = measured at another time."""
        return np.asarray(self.seen_in != NEVER)


@dataclass(frozen=True, kw_only=True)
class _Before:
    """What the frames on one side of a frame tell of it, all (256, 256).

    mean: grey level; weight, squares: sum of the frames' weights and of their squares; seen, value: the frame, nearest
    in time, in which a pixel was measured clear of the penumbra, and its grey level there.
    """

    mean: Floats
    weight: Floats
    squares: Floats
    seen: Indices
    value: Floats

    @classmethod
    def nothing(cls) -> "_Before":
        zero = np.zeros(_SHAPE, np.float32)
        return cls(mean=zero, weight=zero, squares=zero, seen=np.full(_SHAPE, NEVER, np.int32), value=zero)


def gather(frames: Frames, apertures: Mask, reduced: Mask, *, chunk: int = 8) -> Iterator[Evidence]:
    """What all frames of a cine tell of each one, in frame order, `chunk` frames at a time.

    frames: gives the frames [start, stop) at 256x256; asked for each about twice. apertures: (n, h, w), True =
    measured, at the cine's own size; reduced: (n, 256, 256), the same ones reduced. What was learnt from the end is
    kept in a temporary file of 0.4 MB a frame, 0.8 MB where blades move.
    """
    count = len(reduced)
    noise = estimate_noise(frames, reduced)
    blades_move = bool((reduced != reduced[:1]).any())
    distinct = set[int]()
    with tempfile.TemporaryFile() as file:
        spool = _Spool(file, with_seen=blades_move)
        for start in reversed(range(0, count, chunk)):
            some = frames(start, min(start + chunk, count))
            for index in reversed(range(start, start + len(some))):
                if index == count - 1:
                    walk = _Walk(some[index - start], reduced[index], index, noise)
                else:
                    walk.step(some[index - start], reduced[index], index)
                spool.write(walk.before)
                distinct.add(hash(some[index - start].tobytes()))
        most = min(MOST_FRAMES, len(distinct))
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            some = frames(start, stop)
            parts = []
            for index in range(start, stop):
                if index == 0:
                    walk = _Walk(some[0], reduced[0], 0, noise)
                else:
                    walk.step(some[index - start], reduced[index], index)
                after = spool.read(count - 1 - index)
                parts.append(_joined(some[index - start], reduced[index], index, walk.before, after, most))
            pictures, known, numbers, seen = (np.stack(part) for part in zip(*parts, strict=True))
            yield Evidence(
                first=start,
                pictures=pictures,
                apertures=known,
                frames=numbers,
                seen_in=_at_own_size(seen, apertures, start),
            )


class _Walk:
    """A walk through the frames in one direction: what those passed tell of the present one is `before`."""

    def __init__(self, frame: Floats, aperture: Mask, index: int, noise: tuple[Noise, Noise]) -> None:
        self.before = _Before.nothing()
        self._noise = noise
        self._frame, self._aperture, self._index = frame, aperture, index

    def step(self, frame: Floats, aperture: Mask, index: int) -> None:
        """Go on to the next frame."""
        same_blades = np.array_equal(aperture, self._aperture)
        measured, hidden = aperture & self._aperture, ~(aperture | self._aperture)
        if same_blades and _repeats(frame, self._frame, hidden):
            # The same noise once more tells nothing, neither of itself nor of its neighbours.
            self._frame, self._index = frame, index
            return
        passed = self._with_present()
        expected = 1 + to_blocks(passed.squares / passed.weight**2)
        gate = to_pixels(stillness(frame - passed.mean, expected, measured, hidden, self._noise))
        seen = np.where(gate >= _STILL, passed.seen, NEVER)
        if not same_blades:
            # A hidden pixel near an edge that moves may lie in its penumbra in one of the two.
            moved = ndimage.distance_transform_cdt(aperture == self._aperture, "chessboard")
            gate = gate * (moved > _PENUMBRA)
        self.before = replace(passed, weight=gate * passed.weight, squares=gate**2 * passed.squares, seen=seen)
        self._frame, self._aperture, self._index = frame, aperture, index

    def _with_present(self) -> _Before:
        """What is known once the present frame is passed."""
        before = self.before
        weight = before.weight + 1
        clear = _clear(self._aperture)
        return _Before(
            mean=before.mean + (self._frame - before.mean) / weight,
            weight=weight,
            squares=before.squares + 1,
            seen=np.where(clear, np.int32(self._index), before.seen),
            value=np.where(clear, self._frame, before.value),
        )


class _Spool:
    """A file of what was learnt from the end, in half precision."""

    def __init__(self, file: IO[bytes], *, with_seen: bool) -> None:
        self._file = file
        fields = {"mean": "f2", "weight": "f2", "squares": "f2"} | ({"seen": "i4", "value": "f2"} if with_seen else {})
        self._record = np.dtype([(name, kind, _SHAPE) for name, kind in fields.items()])

    def write(self, before: _Before) -> None:
        """Append to the file."""
        record = np.empty((), self._record)
        for name in self._record.names or ():
            record[name] = getattr(before, name)
        self._file.write(record.tobytes())

    def read(self, place: int) -> _Before:
        """What was written as number `place`."""
        self._file.seek(place * self._record.itemsize)
        record = np.frombuffer(self._file.read(self._record.itemsize), self._record)[0]
        return replace(
            _Before.nothing(),
            **{name: record[name].astype(np.int32 if name == "seen" else np.float32) for name in record.dtype.names},
        )


def _joined(
    frame: Floats, aperture: Mask, index: int, before: _Before, after: _Before, most: int
) -> tuple[Floats, Mask, Floats, Indices]:
    """Picture, what is known of it, effective number of frames (Kish 1965) and where each pixel was seen."""
    weight = before.weight + after.weight + 1
    mean = (before.weight * before.mean + after.weight * after.mean + frame) / weight
    number = np.clip(weight**2 / (before.squares + after.squares + 1), 1, most)
    sooner = (after.seen == NEVER) | ((before.seen != NEVER) & (index - before.seen <= after.seen - index))
    seen = np.where(aperture, NEVER, np.where(sooner, before.seen, after.seen)).astype(np.int32)
    picture = np.where(aperture, frame, np.where(seen == NEVER, mean, np.where(sooner, before.value, after.value)))
    known = aperture | (seen != NEVER)
    return picture, known, np.where(known, np.float32(1), number), seen


def _at_own_size(seen: Indices, apertures: Mask, first: int) -> Indices:
    """(n, 256, 256) frame numbers at the cine's own size, where the frame named did measure the pixel."""
    height, width = apertures.shape[1:]
    if (seen == NEVER).all():
        return np.broadcast_to(np.int32(NEVER), (len(seen), height, width))
    rows, columns = ((2 * np.arange(size) + 1) * FRAME_SIDE // (2 * size) for size in (height, width))
    large = seen[:, rows[:, None], columns]
    present = apertures[first : first + len(seen)]
    there = np.take_along_axis(apertures, np.maximum(large, 0), axis=0)
    return np.where(there & ~present, large, np.int32(NEVER))


def _clear(aperture: Mask) -> Mask:
    """The measured pixels clear of the blades' penumbra; where the picture ends there is no blade."""
    if aperture.all():
        return aperture
    clear: Mask = ndimage.distance_transform_cdt(aperture, "chessboard") > _PENUMBRA
    return clear


def _repeats(frame: Floats, previous: Floats, hidden: Mask) -> bool:
    """Whether a frame shows its neighbour's very noise, as a last image hold does, or nothing at all."""
    same = np.abs(frame - previous) <= _SAME
    return bool(same[hidden].mean() >= _REPEATED) if hidden.any() else bool(same.mean() >= _REPEATED)
