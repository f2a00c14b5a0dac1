"""The table of a job's transitions is whole, and nothing gets past it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import FullfieldError
from storage.transitions import ALLOWED, ForbiddenTransition, JobState, check

states = st.sampled_from(JobState)


def followers(state: JobState) -> set[JobState]:
    """Every state that a job can come to from this one, in any number of steps."""
    reached: set[JobState] = set()
    ahead = set(ALLOWED[state])
    while ahead:
        reached |= ahead
        ahead = set().union(*(ALLOWED[one] for one in ahead)) - reached
    return reached


def test_every_state_is_in_the_table() -> None:
    assert set(ALLOWED) == set(JobState)


def test_every_state_can_be_reached_from_queued() -> None:
    assert followers(JobState.QUEUED) == set(JobState)


def test_nothing_follows_on_committed_and_declined() -> None:
    assert [state for state in JobState if not ALLOWED[state]] == [JobState.COMMITTED, JobState.DECLINED]


def test_every_unfinished_job_can_fail_and_a_failed_one_can_go_on() -> None:
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.RECONSTRUCTED, JobState.DELIVERING):
        assert JobState.FAILED in ALLOWED[state]
    assert ALLOWED[JobState.FAILED] == {JobState.QUEUED, JobState.DELIVERING}


def test_nothing_is_delivered_that_was_not_reconstructed() -> None:
    before_delivering = {state for state in JobState if JobState.DELIVERING in ALLOWED[state]}
    assert before_delivering == {JobState.RECONSTRUCTED, JobState.DELIVERED, JobState.FAILED}
    assert [state for state in JobState if JobState.RECONSTRUCTED in ALLOWED[state]] == [JobState.RUNNING]


@given(states, states)
def test_check_says_what_the_table_says(old: JobState, new: JobState) -> None:
    if new in ALLOWED[old]:
        check(old, new)
    else:
        with pytest.raises(ForbiddenTransition, match=f"A job that is {old} cannot become {new}"):
            check(old, new)


def test_a_forbidden_transition_is_told_to_people_as_any_other_error() -> None:
    assert issubclass(ForbiddenTransition, FullfieldError)
    assert issubclass(ForbiddenTransition, ValueError)
