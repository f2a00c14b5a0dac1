"""How long a thread that looks for news rests between two looks: the longer, the longer there were none.

pynetdicom's threads look a thousand times a second. With 64 associations open, of which most wait for their turn at the
database, that alone would take all of a processor's time.
"""

import time

#: Of the time without news.
_SHARE = 1 / 8
#: Seconds: so much later, at the most, is noticed what wakes nobody, such as a release or the end of the node.
_LONGEST = 0.05


class Quiet:
    """The time since there was news; least: seconds to rest while there is."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._since = time.monotonic()

    def ends(self) -> None:
        """There is news."""
        self._since = time.monotonic()

    @property
    def rest(self) -> float:
        """Seconds to rest now."""
        return min(_LONGEST, max(self._least, (time.monotonic() - self._since) * _SHARE))
