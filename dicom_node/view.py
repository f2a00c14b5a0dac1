"""How a frame is to be shown to people, whoever draws it."""

from dataclasses import dataclass
from typing import Literal

#: How stored values become greys by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A VOI window, in place of the image's own."""

    centre: float
    width: float
    function: Function = "LINEAR"


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of a frame (PS3.18 8.3.5)."""

    media_type: Literal["image/jpeg", "image/png"] = "image/jpeg"
    #: Columns and rows that the picture is to fill as far as its shape lets it; None: those of the image.
    size: tuple[int, int] | None = None
    #: Left, top, columns and rows of what is shown of the image; None: all.
    region: tuple[int, int, int, int] | None = None
    window: Window | None = None
    #: Of a JPEG picture, 1 to 100.
    quality: int = 90
