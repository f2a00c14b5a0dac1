"""The disk of the node, which can fail, and be full where mounting is permitted: it is a file system of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MEGABYTES = 2048
_SOURCE = Path(__file__).with_name("ill_disk.c")


@dataclass(frozen=True)
class Disk:
    """A folder, whether it is a disk that can be filled, and what has it fail when it is preloaded (see ill_disk.c)."""

    root: Path
    can_be_full: bool
    illness: Path

    @classmethod
    @contextmanager
    def mounted(cls, root: Path) -> Iterator["Disk"]:
        """A disk of its own, or a folder where that is not permitted."""
        root.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(root)]
        mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
        try:
            yield cls(root, can_be_full=mounted, illness=_compiled(root.with_name("ill_disk.so")))
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

    def surroundings(self) -> dict[str, str]:
        """The environment variables that have it fail for a process when `failing` says so."""
        return {
            "LD_PRELOAD": str(self.illness),
            "ILL_DISK_FOLDER": str(self.root),
            "ILL_DISK_ORDER": str(self._order),
        }

    @contextmanager
    def failing(self, deeds: str) -> Iterator[None]:
        """What is named ends with EIO until the end; deeds: some of ``read``, ``write`` and ``sync``."""
        waiting = self._order.with_suffix(".new")
        waiting.write_text(deeds)
        waiting.rename(self._order)
        try:
            yield
        finally:
            self._order.unlink()

    @property
    def _order(self) -> Path:
        return self.root.with_name("ill_disk.order")

    def _resized(self, size: str) -> int:
        command = ["mount", "-o", f"remount,size={size}", str(self.root)]
        return subprocess.run(command, capture_output=True, check=False).returncode


def _compiled(library: Path) -> Path:
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    return library
