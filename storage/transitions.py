"""What may become of a job: the one table of allowed transitions."""

from enum import StrEnum

from config.errors import FullfieldError


class JobState(StrEnum):
    """Where a job stands."""

    #: Waits for a worker.
    QUEUED = "queued"
    #: A worker holds its lease.
    RUNNING = "running"
    #: Its result objects are kept, and not yet on their way.
    RECONSTRUCTED = "reconstructed"
    #: Its result objects are on their way to the destinations.
    DELIVERING = "delivering"
    #: Every destination has acknowledged every result object.
    DELIVERED = "delivered"
    #: Every destination that is asked for storage commitment has committed to keep them.
    COMMITTED = "committed"
    #: The picture is not one to reconstruct; the reason says why.
    DECLINED = "declined"
    #: It could not be done; the reason says why, and it can be retried from where it stopped.
    FAILED = "failed"


class ForbiddenTransition(FullfieldError, ValueError):
    """A job was to be moved to a state that does not follow from the one it is in."""


#: From each state, the states that may follow.
ALLOWED: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.RECONSTRUCTED, JobState.DECLINED, JobState.FAILED}),
    JobState.RECONSTRUCTED: frozenset({JobState.DELIVERING, JobState.FAILED}),
    JobState.DELIVERING: frozenset({JobState.DELIVERED, JobState.FAILED}),
    JobState.DELIVERED: frozenset({JobState.COMMITTED, JobState.DELIVERING}),
    JobState.COMMITTED: frozenset(),
    JobState.DECLINED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.DELIVERING}),
}


def check(old: JobState, new: JobState) -> None:
    """Pass if a job in state `old` may become `new`; raise ForbiddenTransition if not."""
    if new not in ALLOWED[old]:
        raise ForbiddenTransition(f"A job that is {old} cannot become {new}.")
