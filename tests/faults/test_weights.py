"""The weights are missing, or not what they were: the job says so and is done when they have been installed again.

Others of the same profile are no fault: they do the work, and result and audit trail name them.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import inference
from inference.weights import digest_of, write_card
from storage.transitions import JobState
from tests.commands import Command
from tests.hospital import Hospital, hospital, shows
from tests.nodes import LONG
from tests.peers import wait_until
from tests.weights import write_untrained_profile

INSTALLED = Path(inference.__file__).parent
SHIPPED = json.loads((INSTALLED / "models" / "fullfield" / "model.json").read_text())["version"]


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
    here.node.wait_until_settled(2)
    profile = weights.parent.rename(weights.parent.with_name("elsewhere"))
    cines.append(here.cine())
    assert here.push(cines[2]).accepted
    assert [(job.state, job.reason) for job in here.node.wait_until_settled(3)] == [
        (JobState.FAILED, "weights fullfield/vae.safetensors are missing; install them again"),
        (
            JobState.FAILED,
            "weights fullfield/vae.safetensors do not match the digest in model.json; install them again",
        ),
        (
            JobState.FAILED,
            f"weights of profile fullfield are not installed: {weights.parent} holds no model.json; the administrator "
            "of this machine puts them there",
        ),
    ]
    profile.rename(weights.parent)
    weights.write_bytes(whole)
    status, out, _ = fullfield("jobs", "retry", 1, 2, 3, "--settings", here.node.settings)
    assert (status, out) == (0, "Job 1 is queued.\nJob 2 is queued.\nJob 3 is queued.\n")
    assert all(shows(here.result(cine), cine) for cine in cines)
    assert [(job.state, job.model_digest) for job in here.node.wait_until_settled(3)] == [
        (JobState.DELIVERED, digest_of("fullfield"))
    ] * 3
    assert here.goes_through()


def test_a_job_is_done_by_the_weights_installed_when_it_runs_and_says_which(here: Hospital) -> None:
    earlier = here.cine()
    assert here.push(earlier).accepted
    here.node.wait_until_settled(1)
    cine = here.cine(frames=4)
    assert here.push(cine).accepted
    wait_until(lambda: here.node.jobs()[-1].state == JobState.RUNNING, what="the worker to begin", seconds=LONG)
    here.node.stop()
    assert [job.state for job in here.node.jobs()] == [JobState.DELIVERED, JobState.QUEUED]
    models = here.node.folder / "inference" / "models"
    shutil.rmtree(models / "fullfield")
    write_card(write_untrained_profile(models), "9.9", {})
    new, old = digest_of("fullfield", models), digest_of("fullfield")
    assert new != old
    here.node.start()
    assert [job.model_digest for job in here.node.wait_until_settled(2)] == [old, new]
    assert made_by(here, 1) == {(old, f"fullfield {SHIPPED}")}
    assert made_by(here, 2) == {(new, "fullfield 9.9")}
    assert f"Model fullfield {SHIPPED}, sha256 {old};" in here.result(earlier).DerivationDescription
    assert f"Model fullfield 9.9, sha256 {new};" in here.result(cine).DerivationDescription


def made_by(here: Hospital, job: int) -> set[tuple[str | None, str]]:
    """Digest and model of all results of a job, as the audit trail tells them."""
    rows = [row for row in here.node.audit() if row.job_id == job and row.action == "reconstructed"]
    return {(row.model_digest, row.details["model"]) for row in rows}
