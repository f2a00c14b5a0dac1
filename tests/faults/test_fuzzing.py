"""Whatever comes over the line, the node answers, aborts or rejects, keeps what it acknowledged, and goes on."""

from pathlib import Path

from tests.fuzzing.run import fuzz


def test_no_nonsense_brings_the_node_down_or_is_left_without_an_answer(tmp_path: Path) -> None:
    report = fuzz(tmp_path, number=150, seed=7)
    assert not report.faults
    assert sum(report.outcomes.values()) == 150
    assert report.acknowledged
