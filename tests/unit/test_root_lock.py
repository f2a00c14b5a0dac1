"""The lock on a data root: held by one, or by several that share it."""

import pytest

from config.errors import ConfigError, StorageUnavailable
from storage.root_lock import RootLock


@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
def test_who_does_not_share_is_alone(tmp_path, first, second):
    held, other = RootLock(tmp_path, shared=first), RootLock(tmp_path, shared=second)
    held.acquire()
    with pytest.raises(ConfigError, match="Another node works with the data"):
        other.acquire()
    held.release()
    other.acquire()
    other.release()


def test_those_who_share_are_not_in_each_others_way(tmp_path):
    locks = [RootLock(tmp_path, shared=True) for _ in range(2)]
    for lock in locks:
        lock.acquire()
    locks[0].release()
    with pytest.raises(ConfigError):
        RootLock(tmp_path, shared=False).acquire()
    locks[1].release()
    RootLock(tmp_path, shared=False).acquire()


def test_a_root_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageUnavailable, match="cannot be used: No such file or directory"):
        RootLock(tmp_path / "none", shared=False).acquire()
