"""Disks so small that a test can fill them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    with disk(tmp_path / "disk", megabytes=1) as folder:
        yield folder


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own at a new folder; the test is skipped where that is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        why, *_ = mounted.stderr.splitlines()
        pytest.skip(f"no small disk: {why}")
    try:
        yield folder
    finally:
        # Lazily: what still has a file open there is no reason to leave the disk behind.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path, leaving: int = 0) -> Iterator[None]:
    """The disk of a folder with so many bytes left free, until the end."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize) > leaving:
                file.write(bytes(min(free - leaving, 1 << 16)))
        yield
    finally:
        ballast.unlink(missing_ok=True)
