"""How long a peer that is away is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import DeliverySettings
from dicom_node import backoff
from dicom_node.backoff import wait_seconds


def test_the_wait_doubles_with_each_attempt_until_it_is_the_longest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backoff.random, "uniform", lambda _, most: most)
    settings = DeliverySettings(first_wait_seconds=5, longest_wait_seconds=60)
    assert [wait_seconds(settings, attempt) for attempt in range(1, 8)] == [5, 10, 20, 40, 60, 60, 60]


@given(attempt=st.integers(1, 10**6), first=st.floats(0.01, 100), longest=st.floats(0.01, 100_000))
def test_the_jitter_takes_off_at_most_half_of_it_and_leaves_the_first_wait(attempt: int, first: float, longest: float):
    settings = DeliverySettings(first_wait_seconds=first, longest_wait_seconds=longest)
    whole = min(longest, first * 2 ** min(attempt - 1, 100))
    assert max(whole / 2, min(first, longest)) <= wait_seconds(settings, attempt) <= whole
