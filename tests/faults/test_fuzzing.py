"""Whatever comes over the line, the node answers, aborts or rejects, keeps what it acknowledged, and goes on."""

from pathlib import Path

from tests.fuzzing.outcomes import Outcome
from tests.fuzzing.run import fuzz


def test_no_nonsense_brings_the_node_down_or_is_left_without_an_answer(tmp_path: Path) -> None:
    report = fuzz(tmp_path, number=150, seed=7)
    assert not report.faults
    assert sum(report.outcomes.values()) == 150
    assert report.acknowledged


def test_an_even_presentation_context_id_is_answered_by_an_abort(tmp_path: Path) -> None:
    report = fuzz(tmp_path, number=1, first=224, seed=12)
    assert not report.faults
    assert list(report.outcomes) == [("length of an item", Outcome.ABORTED)]
