"""As many frames at once as the device's memory holds, and the cpu where it does not hold one.

How much memory a GPU has left depends on what else runs on it, so that no number is right beforehand.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch
from torch import nn

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")


class Placement:
    """The device that networks are on, and how many frames go through them there at once.

    device: `cpu` or `cuda`; the cpu from when the memory of another one did not hold a single frame.
    """

    def __init__(self, networks: Sequence[nn.Module], device: str) -> None:
        self.device = device
        self._networks = networks
        self._most = sys.maxsize
        with suppress(torch.OutOfMemoryError):
            self._move()
            return
        self._fall_back()

    def in_parts(self, work: Callable[[slice], _Made], count: int) -> list[_Made]:
        """What the work makes of `count` frames, given to it in parts that the memory holds, in order.

        What was learnt of the memory holds for later calls too. Raises MemoryError where the cpu's does not suffice.
        """
        made: list[_Made] = []
        start = 0
        while start < count:
            stop = min(start + self._most, count)
            with suppress(torch.OutOfMemoryError):
                made.append(work(slice(start, stop)))
                start = stop
                continue
            # Only here, behind the clause, does the error no longer hold on to the memory of what it broke off.
            self._make_do_with_less_than(stop - start)
        return made

    def _make_do_with_less_than(self, frames: int) -> None:
        if frames == 1:
            self._fall_back()
            return
        self._most = frames // 2
        log.warning(
            "The memory of %s does not hold %d frames at once; from now on at most %d go through the networks "
            "together.",
            self.device,
            frames,
            self._most,
        )

    def _fall_back(self) -> None:
        if self.device == "cpu":
            raise MemoryError("The main memory does not hold the networks and a single frame.")
        log.warning("The memory of %s does not suffice; the networks run on the cpu from now on.", self.device)
        self.device, self._most = "cpu", sys.maxsize
        self._move()
        torch.cuda.empty_cache()  # others may need the memory

    def _move(self) -> None:
        for network in self._networks:
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
