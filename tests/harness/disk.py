"""The disk of the node: a file system of its own where mounting is permitted, so that it can be full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MEGABYTES = 2048


@dataclass(frozen=True)
class Disk:
    """A folder, and whether it is a disk that can be filled."""

    root: Path
    can_be_full: bool

    @classmethod
    @contextmanager
    def mounted(cls, root: Path) -> Iterator["Disk"]:
        """A disk of its own, or a folder where that is not permitted."""
        root.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(root)]
        mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
        try:
            yield cls(root, can_be_full=mounted)
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(root)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte more fits until the end: the disk is made as small as what is on it."""
        used = int(subprocess.check_output(["du", "-sk", str(self.root)]).split()[0])
        # What is written meanwhile makes it too small a size, which is refused.
        while self._resized(f"{used}k"):
            used += 64
        try:
            yield
        finally:
            self._resized(f"{_MEGABYTES}m")

    def _resized(self, size: str) -> int:
        command = ["mount", "-o", f"remount,size={size}", str(self.root)]
        return subprocess.run(command, capture_output=True, check=False).returncode
