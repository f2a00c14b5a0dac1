"""Processes with a clock of their own, as on a machine whose time nobody has set."""

import os
import subprocess
import sys
import time
from pathlib import Path

_SOURCE = Path(__file__).with_name("own_clock.c")


def with_clock(folder: Path, hours: int) -> dict[str, str]:
    """The environment of processes whose clock is so many hours ahead, or behind if negative.

    folder: for a library.
    """
    library = folder / "own_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "OWN_CLOCK_SECONDS": str(hours * 3600)}
    command = [sys.executable, "-c", "import time; print(time.time())"]
    there = float(subprocess.check_output(command, env=environment))
    assert round((there - time.time()) / 3600) == hours
    return environment
