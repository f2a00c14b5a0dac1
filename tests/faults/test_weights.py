"""The weights are missing, or not what they were: the job says so and is done when they have been installed again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import inference
from inference.weights import digest_of
from storage.transitions import JobState
from tests.commands import Command
from tests.hospital import Hospital, hospital, shows

INSTALLED = Path(inference.__file__).parent


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Hospital]:
    """A node with an installation of its own, which may be spoilt: Python looks first where it is started."""
    shutil.copytree(INSTALLED, tmp_path / "node" / "inference", ignore=shutil.ignore_patterns("__pycache__"))
    with hospital(tmp_path) as here:
        yield here


def test_jobs_without_their_weights_fail_in_words_and_can_be_retried(here: Hospital, fullfield: Command) -> None:
    weights = here.node.folder / "inference" / "models" / "fullfield" / "vae.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    cines = [here.cine()]
    assert here.push(cines[0]).accepted
    here.node.wait_until_settled(1)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    cines.append(here.cine())
    assert here.push(cines[1]).accepted
    assert [(job.state, job.reason) for job in here.node.wait_until_settled(2)] == [
        (JobState.FAILED, "weights fullfield/vae.safetensors are missing; install them again"),
        (
            JobState.FAILED,
            "weights fullfield/vae.safetensors do not match the digest in model.json; install them again",
        ),
    ]
    weights.write_bytes(whole)
    status, out, _ = fullfield("jobs", "retry", 1, 2, "--settings", here.node.settings)
    assert (status, out) == (0, "Job 1 is queued.\nJob 2 is queued.\n")
    assert all(shows(here.result(cine), cine) for cine in cines)
    assert [(job.state, job.model_digest) for job in here.node.wait_until_settled(2)] == [
        (JobState.DELIVERED, digest_of("fullfield"))
    ] * 2
    assert here.goes_through()
