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

from inference.motion import (
    CineNoise,
    Floats,
    Frames,
    Mask,
    Region,
    estimate_noise,
    independent,
    is_repeated,
    is_same,
    stillness,
    to_blocks,
    to_pixels,
)
from inference.network import FRAME_SIDE
from inference.on_disk import disk_errors_in_words

Indices = NDArray[np.int32]

#: More frames than this are counted as so many: the networks know no larger number.
MOST_FRAMES = 64
#: No frame's number: nothing was seen.
NEVER = -1
#: Pixels of the 256x256 grid next to a blade's edge that show its penumbra (about 3 % of the width).
_PENUMBRA = 8
#: Weight that the mean of the latest frames keeps from one frame to the next, to tell a slow drift by.
_LATEST = np.float32(0.75)
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


def gather(frames: Frames, apertures: Mask, reduced: Mask, *, chunk: int = 8) -> Iterator[Evidence]:
    """What all frames of a cine tell of each one, in frame order, `chunk` frames at a time.

    frames: gives the frames [start, stop) at 256x256; asked for each twice, and for some once more. apertures:
    (n, h, w), True = measured, at the cine's own size; reduced: (n, 256, 256), the same ones reduced. What was learnt
    from the end is kept in a temporary file of 0.4 MB a frame, 0.8 MB where blades move. Raises StorageFull where the
    disk has no room for it, StorageUnavailable where it cannot be used for another reason.
    """
    count = len(reduced)
    noise = estimate_noise(frames, reduced)
    blades_move = any(not np.array_equal(aperture, reduced[0]) for aperture in reduced)
    distinct = set[int]()
    with disk_errors_in_words(), tempfile.TemporaryFile() as file:
        spool = _Spool(file, with_seen=blades_move)
        walk = _Walk(noise, blades_move)
        for start in reversed(range(0, count, chunk)):
            some = frames(start, min(start + chunk, count))
            for index in reversed(range(start, start + len(some))):
                frame = some[index - start]
                spool.write(walk.step(frame, reduced[index], index))
                distinct.add(hash(frame.tobytes()))
        # Frames that come again and again are no more than there are different ones.
        most = min(MOST_FRAMES, len(distinct))
        walk = _Walk(noise, blades_move)
        for start in range(0, count, chunk):
            some = frames(start, min(start + chunk, count))
            parts = []
            for index in range(start, start + len(some)):
                frame = some[index - start]
                before, after = walk.step(frame, reduced[index], index), spool.read(count - 1 - index)
                parts.append(_joined(frame, reduced[index], index, before, after, noise.correlation, most))
            pictures, known, numbers, seen = (np.stack(part) for part in zip(*parts, strict=True))
            yield Evidence(
                first=start,
                pictures=pictures,
                apertures=known,
                frames=numbers,
                seen_in=_at_own_size(seen, apertures, start),
            )


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """A weighted mean of frames: grey level, sum of the weights and of their squares, all (256, 256)."""

    level: Floats
    weight: Floats
    squares: Floats

    def with_frame(self, frame: Floats) -> "_Mean":
        """The mean with one more frame of weight 1."""
        weight = self.weight + 1
        return _Mean(level=self.level + (frame - self.level) / weight, weight=weight, squares=self.squares + 1)

    def faded(self, gate: Floats | np.float32) -> "_Mean":
        """The same mean, of less weight."""
        if gate.min() == 1:
            return self
        return replace(self, weight=gate * self.weight, squares=gate * gate * self.squares)

    def or_else(self, other: "_Mean", gate: Floats) -> "_Mean":
        """This mean where the gate is 1, the other where it is 0."""
        if gate.min() == 1:
            return self
        mixed = {name: gate * value + (1 - gate) * getattr(other, name) for name, value in vars(self).items()}
        return _Mean(**mixed)

    def variance(self) -> Floats:
        """(32, 32) its variance, in units of one frame's noise, as long as frames are independent."""
        return to_blocks(self.squares) / to_blocks(self.weight) ** 2


@dataclass(frozen=True, kw_only=True)
class _Before:
    """What the frames on one side of a frame tell of it, all (256, 256).

    mean: of the frames of the same still view; seen, value: the frame, nearest in time, in which a pixel was measured
    clear of the penumbra, and its grey level there.
    """

    mean: _Mean
    seen: Indices
    value: Floats


class _Walk:
    """A walk through the frames in one direction."""

    def __init__(self, noise: CineNoise, blades_move: bool) -> None:
        self._noise, self._blades_move = noise, blades_move
        zero = np.zeros(_SHAPE, np.float32)
        nothing = _Mean(level=zero, weight=zero, squares=zero)
        self._before = _Before(mean=nothing, seen=np.full(_SHAPE, NEVER, np.int32), value=zero)
        self._latest = nothing
        self._frame: Floats | None = None
        self._aperture, self._index = np.zeros(_SHAPE, np.bool_), NEVER
        self._clear = self._aperture
        self._measured = self._hidden = Region.of(self._aperture)

    def step(self, frame: Floats, aperture: Mask, index: int) -> _Before:
        """Go on to a frame; what those passed tell of it."""
        if self._frame is None:
            self._regions(aperture, aperture)
        elif (aperture == self._aperture).all() and is_repeated(frame, self._frame, aperture):
            pass  # The same noise once more tells nothing, neither of itself nor of its neighbours.
        else:
            self._before = self._onwards(self._frame, frame, aperture)
        self._frame, self._aperture, self._index = frame, aperture, index
        return self._before

    def _onwards(self, passed: Floats, frame: Floats, aperture: Mask) -> _Before:
        """What is known once one more frame is passed and the next one seen."""
        blades_moved = not (aperture == self._aperture).all()
        before, mean = self._before, self._before.mean.with_frame(passed)
        latest = self._latest.faded(_LATEST).with_frame(passed)
        seen, value = before.seen, before.value
        if self._blades_move:
            seen, value = np.where(self._clear, self._index, seen), np.where(self._clear, passed, value)
        if blades_moved:
            self._regions(aperture, self._aperture)

        # A slow drift shows in the mean of the latest frames before it does in one of them.
        drift, spread = latest.level - mean.level, latest.variance() - mean.variance()
        view, picture = self._stillness(drift, np.maximum(spread, np.float32(0.05)), blades_moved)
        mean = mean.or_else(latest, to_pixels(picture))
        still = view
        view, picture = self._stillness(frame - mean.level, 1 + mean.variance(), blades_moved)
        gate = to_pixels(picture)
        if self._blades_move:
            seen = np.where(to_pixels(np.minimum(still, view)) >= _STILL, seen, NEVER).astype(np.int32)
        hidden = ~(aperture | self._aperture)
        if blades_moved:
            # A hidden pixel near an edge that moves may lie in its penumbra in one of the two; and the measured
            # pixels' scattered light is another.
            gate = gate * (hidden & _farther(aperture == self._aperture))
            self._regions(aperture, aperture)
        elif is_same(frame[hidden], passed[hidden]):
            gate = gate * ~hidden  # black, or a picture held while something is drawn over it
        self._latest = latest.faded(gate)
        return _Before(mean=mean.faded(gate), seen=seen, value=value)

    def _stillness(self, difference: Floats, expected: Floats, blades_moved: bool) -> tuple[Floats, Floats]:
        return stillness(difference, expected, self._measured, self._hidden, self._noise, blades_moved=blades_moved)

    def _regions(self, now: Mask, before: Mask) -> None:
        """Measured and hidden in both; and what is measured now clear of the penumbra."""
        self._clear = _farther(now)
        self._measured = Region.of(self._clear & _farther(before) if now is not before else now)
        self._hidden = Region.of(~(now | before))


class _Spool:
    """A file of what was learnt from the end, in half precision."""

    def __init__(self, file: IO[bytes], *, with_seen: bool) -> None:
        self._file = file
        fields = {"level": "f2", "weight": "f2", "squares": "f2"} | ({"seen": "i4", "value": "f2"} if with_seen else {})
        self._record = np.dtype([(name, kind, _SHAPE) for name, kind in fields.items()])

    def write(self, before: _Before) -> None:
        """Append to the file."""
        record = np.empty((), self._record)
        values = vars(before.mean) | vars(before)
        for name in self._record.names or ():
            record[name] = values[name]
        self._file.write(record.tobytes())

    def read(self, place: int) -> _Before:
        """What was written as number `place`."""
        self._file.seek(place * self._record.itemsize)
        record = np.frombuffer(self._file.read(self._record.itemsize), self._record)[0]
        level, weight, squares = (record[name].astype(np.float32) for name in ("level", "weight", "squares"))
        mean = _Mean(level=level, weight=weight, squares=squares)
        if "seen" in record.dtype.names:
            return _Before(mean=mean, seen=record["seen"], value=record["value"].astype(np.float32))
        return _Before(mean=mean, seen=np.full(_SHAPE, NEVER, np.int32), value=level)


def _joined(
    frame: Floats, aperture: Mask, index: int, before: _Before, after: _Before, correlation: float, most: int
) -> tuple[Floats, Mask, Floats, Indices]:
    """Picture, what is known of it, effective number of frames (Kish 1965) and where each pixel was seen."""
    weight = before.mean.weight + after.mean.weight + 1
    mean = (before.mean.weight * before.mean.level + after.mean.weight * after.mean.level + frame) / weight
    number = weight**2 / (before.mean.squares + after.mean.squares + 1)
    number = np.clip(independent(number, correlation), 1, most)
    sooner = (after.seen == NEVER) | ((before.seen != NEVER) & (index - before.seen <= after.seen - index))
    seen = np.where(aperture, NEVER, np.where(sooner, before.seen, after.seen)).astype(np.int32)
    known = aperture | (seen != NEVER)
    picture = np.where(aperture, frame, mean)
    if (seen != NEVER).any():
        picture = np.where(seen != NEVER, np.where(sooner, before.value, after.value), picture)
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


def _farther(mask: Mask) -> Mask:
    """The pixels of a mask farther than a penumbra from those outside it; where the picture ends there is no blade."""
    if mask.all():
        return mask
    return np.asarray(ndimage.distance_transform_cdt(mask, "chessboard") > _PENUMBRA)
