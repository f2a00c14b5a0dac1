"""`fullfield jobs`: what people see of jobs, and what they can do about them."""

import json

import pytest

from storage.audit_trail import trail
from storage.database import Database
from storage.queue import finish, get_job, move
from storage.states import DeliveryState
from storage.transitions import JobState
from tests.jobs import queued, result, take


@pytest.fixture
def node(tmp_path):
    """The database of a node whose settings lie in the folder that commands are run in."""
    (tmp_path / "fullfield.toml").write_text('[storage]\nroot = "."\n')
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}", lock_timeout_seconds=0.2)
    database.migrate()
    yield database
    database.close()


def queue(node, number=1, **how):
    with node.transaction() as tx:
        return queued(tx, number, **how).id


def fail(node, job, reason="the worker ran out of memory"):
    with node.transaction() as tx:
        _, lease = take(tx)
        assert finish(tx, lease, JobState.FAILED, reason=reason).id == job


def deliver(node, job, reason):
    """Reconstruct the job, and give its delivery up."""
    with node.transaction() as tx:
        _, lease = take(tx)
        done = finish(tx, lease, JobState.RECONSTRUCTED, model_digest="ab" * 32)
        delivery = result(tx, done)
        move(tx, job, JobState.DELIVERING)
        delivery.state, delivery.reason, delivery.attempts = DeliveryState.ABANDONED, reason, 7
        move(tx, job, JobState.FAILED, reason)


def state(node, job):
    with node.reading() as tx:
        return get_job(tx, job).state


def steps(node):
    with node.reading() as tx:
        return [(row.action, row.job_id) for row in trail(tx)]


def test_list_shows_the_newest_first_with_the_reason_of_a_failure(fullfield, node):
    first, second = queue(node, 1), queue(node, 2, priority=1)
    fail(node, first)
    status, out, _ = fullfield("jobs", "list")
    header, *lines = out.splitlines()
    assert status == 0
    assert header.split() == ["job", "state", "route", "queued", "attempts", "priority", "why"]
    assert [line.split()[0] for line in lines] == [str(second), str(first)]
    assert "failed" in lines[1] and lines[1].rstrip().endswith("the worker ran out of memory")


def test_list_can_be_narrowed_to_a_state(fullfield, node):
    failed = queue(node, 1)
    fail(node, failed)
    queue(node, 2)
    _, out, _ = fullfield("jobs", "list", "--state", "failed", "--json")
    assert [job["id"] for job in json.loads(out)] == [failed]
    assert fullfield("jobs", "list", "--state", "declined")[:2] == (0, "There are no jobs that are declined.\n")


def test_list_refuses_a_state_that_there_is_not(fullfield, node):  # noqa: ARG001
    status, out, err = fullfield("jobs", "list", "--state", "lost")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1 and "'lost'" in err


def test_show_tells_what_a_job_took_in_and_where_its_results_went(fullfield, node):
    job = queue(node)
    deliver(node, job, "PACS cannot be reached")
    status, out, _ = fullfield("jobs", "show", job)
    assert status == 0
    for said in ("thorax, mode mean", "1.2.3.1, X-Ray Angiographic Image Storage, 16 frames", "abababababab", "1 of 3"):
        assert said in out
    assert f"2.25.{job} to pacs: abandoned, attempt 7: PACS cannot be reached" in out


def test_show_gives_programs_all_columns(fullfield, node):
    job = queue(node)
    deliver(node, job, "refused")
    told = json.loads(fullfield("jobs", "show", job, "--json")[1])
    assert told["id"] == job and told["settings"] == {"mark": {"label": "generated"}}
    assert [object["kind"] for object in told["objects"]] == ["original", "result"]
    assert [delivery["destination"] for delivery in told["deliveries"]] == ["pacs"]


def test_retry_queues_a_failed_job_again_and_tells_the_audit_trail(fullfield, node):
    job = queue(node)
    fail(node, job)
    assert fullfield("jobs", "retry", job)[:2] == (0, f"Job {job} is queued.\n")
    assert state(node, job) == JobState.QUEUED
    assert steps(node) == [("job_retried", job)]


def test_retry_resumes_deliveries_where_they_stopped(fullfield, node):
    job = queue(node)
    deliver(node, job, "PACS was away")
    assert fullfield("jobs", "retry", job)[:2] == (0, f"Job {job} is delivering.\n")


def test_retry_resumes_all_that_a_destination_has_not_got(fullfield, node):
    first, second, at_work = queue(node, 1), queue(node, 2), queue(node, 3)
    deliver(node, first, "PACS was away")
    deliver(node, second, "PACS was away")
    fail(node, at_work)
    assert fullfield("jobs", "retry", "--destination", "research")[:2] == (0, "No job failed on its way to research.\n")
    said = f"Job {first} is delivering.\nJob {second} is delivering.\n"
    assert fullfield("jobs", "retry", "--destination", "pacs")[:2] == (0, said)
    assert state(node, at_work) == JobState.FAILED


@pytest.mark.parametrize("arguments", [(), (1, "--destination", "pacs")])
def test_retry_wants_jobs_or_a_destination(fullfield, node, arguments):  # noqa: ARG001
    status, _, err = fullfield("jobs", "retry", *arguments)
    assert status == 2
    assert "name jobs by their numbers, or a destination" in err


def test_retry_changes_nothing_if_one_of_the_jobs_cannot_be_retried(fullfield, node):
    failed, waiting = queue(node, 1), queue(node, 2, priority=1)
    fail(node, failed)
    status, out, err = fullfield("jobs", "retry", failed, waiting)
    assert (status, out) == (1, "")
    assert err == f"fullfield: Only a failed job can be retried, and job {waiting} is queued.\n"
    assert state(node, failed) == JobState.FAILED
    assert steps(node) == []


def test_cancel_says_who_did_it(fullfield, node, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    job = queue(node)
    assert fullfield("jobs", "cancel", job)[:2] == (0, f"Job {job} is cancelled.\n")
    with node.reading() as tx:
        assert (get_job(tx, job).state, get_job(tx, job).reason) == (JobState.FAILED, "cancelled by ada")
        assert [(row.action, row.actor) for row in trail(tx)] == [("job_cancelled", "ada")]


def test_cancel_leaves_a_job_that_is_done_alone(fullfield, node):
    job = queue(node)
    with node.transaction() as tx:
        _, lease = take(tx)
        finish(tx, lease, JobState.DECLINED, reason="The open field.")
    status, _, err = fullfield("jobs", "cancel", job)
    assert (status, err) == (1, f"fullfield: Job {job} is declined: there is nothing to cancel.\n")


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_a_job_that_there_is_not_is_one_clear_line(fullfield, node, command):  # noqa: ARG001
    assert fullfield("jobs", command, 99) == (1, "", "fullfield: There is no job 99.\n")


def test_without_a_database_people_are_told_how_to_get_one(fullfield, tmp_path):
    status, _, err = fullfield("jobs", "list")
    assert status == 1
    assert err.startswith(f"fullfield: There is no database {tmp_path / 'var' / 'fullfield.db'} yet: ")
    assert not (tmp_path / "var").exists()


def test_a_database_that_somebody_else_has_locked_is_one_clear_line(fullfield, node, monkeypatch):
    job = queue(node)
    monkeypatch.setattr(Database.__init__, "__defaults__", (0.2,))
    with node.transaction() as tx:
        get_job(tx, job)
        status, _, err = fullfield("jobs", "cancel", job)
    assert status == 1 and len(err.splitlines()) == 1 and "locked" in err
    assert state(node, job) == JobState.QUEUED
