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


def _lose(file: Path) -> None:
    file.unlink()


def _change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lose, "weights fullfield/vae.safetensors are missing; install them again"),
        (_change, "weights fullfield/vae.safetensors do not match the digest in model.json; install them again"),
    ],
)
def test_a_job_without_its_weights_fails_in_words_and_can_be_retried(here, fullfield: Command, spoil, said) -> None:
    weights = here.node.folder / "inference" / "models" / "fullfield" / "vae.safetensors"
    spoil(weights)
    cine = here.cine()
    assert here.push(cine).accepted
    (job,) = here.node.wait_until_settled(1)
    assert (job.state, job.reason) == (JobState.FAILED, said)
    assert here.results(cine) == []
    shutil.copy(INSTALLED / "models" / "fullfield" / "vae.safetensors", weights)
    status, out, _ = fullfield("jobs", "retry", job.id, "--settings", here.node.settings)
    assert (status, out) == (0, f"Job {job.id} is queued.\n")
    assert shows(here.result(cine), cine)
    (job,) = here.node.wait_until_settled(1)
    assert (job.state, job.model_digest) == (JobState.DELIVERED, digest_of("fullfield"))
    assert here.goes_through()
