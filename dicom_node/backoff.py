"""How long to wait before a peer is tried again."""

import random

from config.settings import DeliverySettings

#: Doublings of the wait after which it has long been the longest.
_MOST_DOUBLINGS = 30


def wait_seconds(settings: DeliverySettings, attempt: int) -> float:
    """Doubles with each attempt; the jitter keeps many nodes from calling all at once."""
    first, longest = settings.first_wait_seconds, settings.longest_wait_seconds
    wait = min(longest, first * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    return random.uniform(max(wait / 2, min(first, longest)), wait)
