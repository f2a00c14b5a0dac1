"""Arrays on the disk: whole as arrays in memory are, and only in passing in memory."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from config.errors import StorageFull, StorageUnavailable
from inference.on_disk import array_on_disk, as_file, in_turn, keep_arrays_in, let_go


def mapped() -> int:
    """Bytes of files that are resident in this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile:"))


def test_an_array_on_the_disk_is_zeros_and_keeps_what_is_written():
    array = array_on_disk((40, 512, 512), np.uint16)
    before = mapped()
    assert not array.any()
    let_go(array)

    for index, (frame,) in enumerate(in_turn(array)):
        frame[:] = index

    assert mapped() - before < array.nbytes / 4
    assert [int(frame.min()) for (frame,) in in_turn(array)] == list(range(40))
    assert (array[7, 3:9] == 7).all()


def test_arrays_in_memory_are_let_go_of_without_harm():
    array = np.arange(12).reshape(3, 4)

    assert [frame.sum() for (frame,) in in_turn(np.broadcast_to(array, (2, 3, 4)))] == [66, 66]
    assert [(one.sum(), other.sum()) for one, other in in_turn(array, array[:, :2])] == [(6, 1), (22, 9), (38, 17)]


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4), (300, 100, 100)])
@pytest.mark.parametrize("even", [True, False])
def test_the_bytes_of_an_array_can_be_read_as_a_file(shape, even):
    array = array_on_disk(shape, np.uint8)
    array[:] = np.random.default_rng(0).integers(256, size=shape)
    expected = array.tobytes() + b"\0" * (array.size % 2 * even)
    file = as_file(array, even=even)

    assert file.read() == expected
    assert file.seek(0, os.SEEK_END) == len(expected) and file.read() == b""
    assert file.seek(5) == 5 and file.read(3) == expected[5:8] and file.tell() == 8
    file.seek(0)
    assert b"".join(iter(lambda: file.read(1000), b"")) == expected


def test_an_array_that_the_disk_has_no_room_for_takes_none(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    free = os.statvfs(small_disk).f_bavail

    with pytest.raises(StorageFull, match=rf"^The disk for temporary files, {small_disk}, is full\.$"):
        array_on_disk((1 << 30,), np.uint8)

    assert os.statvfs(small_disk).f_bavail == free


@pytest.mark.parametrize(("number", "error"), [(errno.EDQUOT, StorageFull), (errno.EIO, StorageUnavailable)])
def test_a_disk_that_fails_is_told_in_the_projects_words(monkeypatch, number, error):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fails)
    with pytest.raises(error, match="disk for temporary files"):
        array_on_disk((3,), np.uint8)


def test_arrays_lie_where_the_process_chooses_unless_the_environment_does(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    keep_arrays_in(tmp_path)
    assert tempfile.gettempdir() == "/var/tmp"

    monkeypatch.delenv("TMPDIR")
    keep_arrays_in(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path)
    array_on_disk((3,), np.uint8)
    assert list(tmp_path.iterdir()) == []
