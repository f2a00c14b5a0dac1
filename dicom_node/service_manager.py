"""What a service manager is told of the node: that it is ready, that it is alive, that it stops (sd_notify(3)).

Without one, nothing is told to nobody.
"""

import os
import socket
import time


def ready() -> None:
    """It listens, with the routes that are in force."""
    _tell("READY=1")


def reloading() -> None:
    """Routes and certificates are read again; `ready` says when that is done."""
    _tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def alive() -> None:
    """Its clock ticks. When this is not told for as long as the unit's WatchdogSec, the node is started anew."""
    _tell("WATCHDOG=1")


def stopping() -> None:
    """It has been asked to stop."""
    _tell("STOPPING=1")


def _tell(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.settimeout(1)
            manager.sendto(state.encode(), address)
    except OSError:
        # A manager that is gone is no reason to stop, nor is to be out of descriptors.
        return
