"""A named instant does nothing but for who orders it, and then what is ordered, once."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage import faultpoint as module
from storage.faultpoint import VARIABLE, Orders


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders"


def test_a_point_does_nothing_in_a_process_that_nobody_gives_orders_to() -> None:
    assert module.faultpoint is module._nothing


def test_without_an_order_nothing_happens(file: Path) -> None:
    Orders(file)("store.renamed")


@pytest.mark.parametrize("deed", ["EIO", "ENOSPC"])
def test_the_disk_fails_at_the_pass_that_was_ordered_and_at_no_other(file: Path, deed: str) -> None:
    point = Orders(file)
    file.write_text(f"1 store.renamed 2 {deed}")
    point("store.renamed")
    point("store.kept")
    with pytest.raises(OSError, match=os.strerror(getattr(errno, deed))):
        point("store.renamed")
    point("store.renamed")
    assert not file.exists()


def test_passes_count_from_the_order(file: Path) -> None:
    point = Orders(file)
    file.write_text("1 store.renamed 3 EIO")
    point("store.renamed")
    file.write_text("2 store.renamed 2 EIO")
    point("store.renamed")
    with pytest.raises(OSError):
        point("store.renamed")


def test_a_process_is_killed_by_the_order_in_its_environment(file: Path) -> None:
    file.write_text("1 store.renamed 1 kill")
    code = "from storage.faultpoint import faultpoint; faultpoint('store.renamed'); print('alive')"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, VARIABLE: str(file)}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")
