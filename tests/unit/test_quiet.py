"""A thread that looks for news rests the longer, the longer there were none."""

import pytest

from dicom_node.network import quiet
from dicom_node.network.quiet import Quiet


def test_it_rests_longer_while_there_is_no_news_and_briefly_after_some(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(quiet.time, "monotonic", lambda: now)
    while_quiet = Quiet(0.001)
    assert while_quiet.rest == 0.001
    now = 100.2
    assert while_quiet.rest == pytest.approx(0.025)
    now = 160.0
    assert while_quiet.rest == 0.05
    while_quiet.ends()
    assert while_quiet.rest == 0.001
