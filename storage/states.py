"""In which states the rows of each table can be; those of jobs stand in transitions.py."""

from enum import StrEnum


class ObjectKind(StrEnum):
    """Why an object is kept."""

    #: A peer sent it.
    ORIGINAL = "original"
    #: A job made it.
    RESULT = "result"
    #: A peer sent it under the SOP Instance UID of another object, with other content.
    ASIDE = "aside"
    #: An archive sent it because this node had asked for it.
    FETCHED = "fetched"


class Damage(StrEnum):
    """What is wrong with an object's file."""

    #: It is not in the object store.
    MISSING = "missing"
    #: Its bytes had another digest; it was moved aside.
    ALTERED = "altered"
    #: The disk gives an error where it lies.
    UNREADABLE = "unreadable"


class SeriesState(StrEnum):
    """Whether more objects of a series are awaited."""

    OPEN = "open"
    COMPLETE = "complete"
    #: No route takes it.
    UNROUTED = "unrouted"


class DeliveryState(StrEnum):
    """What became of one object on its way to one destination."""

    #: Not there yet: it is tried when `not_before` has come.
    WAITING = "waiting"
    #: The destination has answered that it has the object.
    ACKNOWLEDGED = "acknowledged"
    #: The destination has answered that it will not take the object.
    REFUSED = "refused"
    #: Given up: tried for too long, or cancelled.
    ABANDONED = "abandoned"


class CommitmentState(StrEnum):
    """What became of the report that a request for storage commitment is owed."""

    #: It is to be made when `not_before` has come.
    WAITING = "waiting"
    #: The peer has answered that it has the report.
    REPORTED = "reported"
    #: The peer has answered that it will not take the report.
    REFUSED = "refused"
    #: Given up: tried, or waited for the peer, for too long.
    ABANDONED = "abandoned"


class ProcedureStepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), by its defined terms (PS3.3 C.4.14)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


class SoughtState(StrEnum):
    """What became of a request for storage commitment that this node makes."""

    #: It is to be made when `not_before` has come.
    WAITING = "waiting"
    #: The destination has taken it on; its report is awaited until `not_before`.
    ASKED = "asked"
    #: The destination has committed to keep all of the objects.
    COMMITTED = "committed"
    #: The destination has answered that it does not have some of the objects.
    INCOMPLETE = "incomplete"
    #: The destination commits to nothing.
    REFUSED = "refused"
    #: The destination could not be asked, or no report of its came, for too long.
    UNANSWERED = "unanswered"


class FetchState(StrEnum):
    """What became of fetching the other series of a study."""

    #: It is to be done when `not_before` has come.
    WAITING = "waiting"
    #: The archive has been asked to send, and is at it.
    ASKED = "asked"
    #: The archive has sent what it had and could.
    FETCHED = "fetched"
    #: The archive has answered that it does not.
    REFUSED = "refused"
    #: Given up: tried for too long.
    ABANDONED = "abandoned"
