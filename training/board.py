"""Scalars and pictures of a training for TensorBoard, where it is installed.

tensorboard --logdir runs/first/tensorboard
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from training.examples import Batch

#: What the network sees, what it makes of it, and the truth: (n, 1, h, w) in [-1, 1] each.
Pictures = tuple[Tensor, Tensor, Tensor]


class Board:
    """A run's page of TensorBoard, in `OUT/tensorboard/NAME`; without the package, or `shown`, it does nothing."""

    def __init__(self, out: Path, name: str, step: int, shown: bool) -> None:
        """step: where the run goes on; what an earlier one wrote beyond it is hidden."""
        self._writer: Any = None
        if not shown:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            print("TensorBoard is not installed: the run goes without its curves and pictures.")
            return
        self._writer = SummaryWriter(str(out / "tensorboard" / name), purge_step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def scalars(self, row: Mapping[str, float]) -> None:
        """Add a point to each curve, at the row's `step`."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(row["step"]))

    def pictures(
        self, step: int, show: Callable[[nn.Module, Batch], Pictures], network: nn.Module, examples: Batch
    ) -> None:
        """Add a grid of the examples, one a row: what the network sees, what it makes of it, the truth."""
        if self._writer is None:
            return
        with torch.no_grad():
            rows = torch.stack(show(network, examples), dim=1).float().cpu()
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        self._writer.add_image("collimated, estimate, truth", ((grid + 1) / 2).clamp(0, 1), step)
