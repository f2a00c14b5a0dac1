"""Arrays as large as a cine: in files that no folder names and that are gone with the array, not in memory.

The files lie where Python puts temporary ones: where TMPDIR says, else in the folder that the process has chosen. What
was touched of an array stays in memory until `let_go`, so whoever walks through one lets go of it on the way.
"""

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from config.errors import StorageFull, StorageUnavailable

#: Bytes of an array that are read at once where it is read as a file.
_PIECE = 1 << 20


def array_on_disk(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros. Raises StorageFull where the disk has no room for them, StorageUnavailable where it cannot be used."""
    with disk_errors_in_words(), tempfile.TemporaryFile() as file:
        # Without room for a page that is touched the kernel ends the process.
        os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * np.dtype(dtype).itemsize))
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def keep_arrays_in(folder: Path) -> None:
    """Have this process put arrays, and all temporary files, into a folder, unless TMPDIR names another one.

    The system's own may be memory under another name, or small.
    """
    if "TMPDIR" not in os.environ:
        tempfile.tempdir = str(folder)


def let_go(*arrays: NDArray[Any]) -> None:
    """Take out of memory what was touched of arrays on the disk, or of what they are a part of; others stay."""
    for array in arrays:
        held: object = array
        while held is not None and not isinstance(held, mmap.mmap):
            held = getattr(held, "base", None)
        if held is not None:
            # Of a shared mapping nothing is lost: the pages, written or not, stay with the file (madvise(2)).
            held.madvise(mmap.MADV_DONTNEED)


def in_turn(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """What the arrays hold at the first index, at the second, and so on; behind it they are let go of."""
    for frames in zip(*arrays, strict=True):
        yield frames
        let_go(*arrays)


def as_file(array: NDArray[Any], *, even: bool = True) -> BufferedReader:
    """The bytes of a contiguous array as a file to read.

    even: with one more, zero, where they are odd in number, as values of elements are written (PS3.5 7.1.1).
    """
    return BufferedReader(_Bytes(array, even=even), _PIECE)


class _Bytes(RawIOBase):
    def __init__(self, array: NDArray[Any], *, even: bool) -> None:
        self._bytes = array.reshape(-1).view(np.uint8)
        self._size = self._bytes.size + (self._bytes.size % 2 if even else 0)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = np.frombuffer(buffer, np.uint8)
        piece = self._bytes[self._at : self._at + into.size]
        into[: piece.size] = piece
        let_go(self._bytes)
        count = min(into.size, max(0, self._size - self._at))
        into[piece.size : count] = 0
        self._at += count
        return count


@contextmanager
def disk_errors_in_words() -> Iterator[None]:
    """For temporary files: to be made, written, read and closed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"The disk for temporary files, {tempfile.gettempdir()}, is full.") from error
        raise StorageUnavailable(f"The disk for temporary files cannot be used: {error.strerror}.") from error
