"""Where benchmarks work and how they look at processes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A new folder that is removed afterwards; under /var/tmp, for /tmp may be memory."""
    with tempfile.TemporaryDirectory(prefix="fullfield-bench-", dir="/var/tmp") as folder:
        yield Path(folder)


def peak_memory(pid: int | str) -> int:
    """The most memory that a process has had resident since its start or since `forget_peak`, in MB; 0 at its end."""
    return memory_now(pid, "VmHWM")


def memory_now(pid: int | str, kind: str) -> int:
    """What the kernel says of a process under one of the names of proc(5), such as `RssAnon`, in MB; 0 at its end."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{kind}:")), 0)


def forget_peak(pid: int) -> None:
    """Have `peak_memory` begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
