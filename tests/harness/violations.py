"""How a promise can be broken."""

from dataclasses import dataclass
from typing import Literal

#: ``lost``: acknowledged, and not kept, not whole or not in PACS. ``twice``: in another version, or more often than
#: due. ``stuck``: comes to no good end. ``orphaned``: on the disk, and nobody knows of it. ``untold``: missing from the
#: audit trail, or told more often than it happened. ``unsaid``: a traceback where a sentence should be.
Kind = Literal["lost", "twice", "stuck", "orphaned", "untold", "unsaid"]


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    kind: Kind
    sentence: str
