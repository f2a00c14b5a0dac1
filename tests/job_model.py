"""What jobs and deliveries are to be, said in a few lines: the state machine compares the database with it."""

from dataclasses import dataclass
from datetime import datetime

from dicom_node.workflow.settlement import Consignment
from storage.queue import Lease
from storage.states import DeliveryState, SoughtState
from storage.transitions import JobState


@dataclass
class ModelDelivery:
    """What is to be known of a job's result on its way to the destination."""

    number: int
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    #: The one sending that counts, while it is on its way.
    sending: Consignment | None = None
    run_out: bool = False
    #: It has been postponed.
    rests: bool = False
    #: What became of the last request for commitment.
    sought: SoughtState | None = None
    lacked: int = 0

    @property
    def is_held_up(self) -> bool:
        """Whether nothing else of its study goes."""
        under_way = self.sending is not None and not self.run_out
        return self.state == DeliveryState.WAITING and (under_way or self.rests)

    def is_held_by(self, name: str) -> bool:
        return self.sending is not None and self.sending.hold.holder.startswith(name)

    def become(self, state: DeliveryState, rests: bool = False) -> None:
        self.state, self.sending, self.run_out, self.rests = state, None, False, rests


@dataclass
class ModelJob:
    """What is to be known of a job."""

    number: int
    turn: datetime
    priority: int
    study: str
    max_attempts: int
    state: JobState = JobState.QUEUED
    attempts: int = 0
    #: The one lease that counts, while the job runs.
    lease: Lease | None = None
    run_out: bool = False
    #: Once it is reconstructed.
    delivery: ModelDelivery | None = None


def turn_and_number(job: ModelJob) -> tuple[datetime, int]:
    """By which jobs of one state are taken."""
    return job.turn, job.number
