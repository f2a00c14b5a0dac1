"""The query and retrieve SCU: asks an archive what it has of a study, and to send it here (PS3.4 C.4.1, C.4.2)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from config.errors import PeerRefused, PeerUnavailable
from dicom_node.network.contexts import UNCOMPRESSED
from dicom_node.network.sender import Destination, status_of
from dicom_node.network.statuses import Status

_PENDING = {Status.PENDING, Status.PENDING_WITHOUT_SOME_KEYS}
#: An archive that names more series of one study passes over what it was asked.
_MOST_ANSWERS = 10_000
#: An archive may fetch from tape before it answers for the first time.
_PATIENCE_SECONDS = 600.0
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(?:\.[0-9]+)*")


class FetchPostponed(PeerUnavailable):
    """The archive cannot answer now (0xA7xx)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class FetchRefused(PeerRefused):
    """The archive does not do what it is asked, and says so with a status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class FoundSeries:
    """A series that an archive has."""

    series_instance_uid: str
    modality: str
    #: How many objects it says to have of it; None if it does not say.
    objects: int | None


@dataclass(frozen=True)
class Moved:
    """How many objects an archive says to have sent."""

    sent: int
    failed: int


def fetch_contexts() -> list[PresentationContext]:
    """Queries and retrievals by study."""
    models = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove)
    return [build_context(model, list(UNCOMPRESSED)) for model in models]


def find_series(association: Association, archive: Destination, study_instance_uid: str) -> list[FoundSeries]:
    """The series that an archive has of a study, each once; what it answers beside that is passed over.

    Raises PeerUnavailable or PeerRefused.
    """
    asked = Dataset()
    asked.QueryRetrieveLevel = "SERIES"
    asked.StudyInstanceUID = study_instance_uid
    asked.SeriesInstanceUID = asked.Modality = ""
    asked.NumberOfSeriesRelatedInstances = None
    found: dict[str, FoundSeries] = {}
    for identifier in _answers(association, archive, asked):
        for series in _read(identifier, study_instance_uid):
            found.setdefault(series.series_instance_uid, series)
    return list(found.values())


def has_object(
    association: Association, archive: Destination, study_instance_uid: str, series_instance_uid: str, uid: str
) -> bool:
    """Whether an archive has an object, by its SOP Instance UID; raises PeerUnavailable or PeerRefused."""
    asked = _keys(study_instance_uid, series_instance_uid, uid)
    # All answers are taken: the next request is not to meet the rest of these.
    return sum(_names(identifier, uid) for identifier in _answers(association, archive, asked)) > 0


def move(
    association: Association,
    archive: Destination,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str | None = None,
    *,
    to: str,
    message_id: int,
    going_on: Callable[[], bool],
) -> Moved:
    """Have an archive send a series, or one object of it, to an AE title, and wait until it has.

    going_on: asked whenever the archive says how far it is; what is broken off raises PeerUnavailable.
    Raises PeerUnavailable or PeerRefused; FetchPostponed also where none of it could be sent (0xCxxx), which Orthanc
    says of a node that it does not know as of one that had no room.
    """
    asked = _keys(study_instance_uid, series_instance_uid, sop_instance_uid)
    association.dimse_timeout = _PATIENCE_SECONDS
    answers = association.send_c_move(asked, to, StudyRootQueryRetrieveInformationModelMove, msg_id=message_id)
    for answer, _ in answers:
        status = status_of(answer, archive)
        if status in _PENDING:
            if not going_on():
                break
            continue
        if status & 0xF000 == 0xC000:
            said = f"{archive.ae_title} answered the request to send objects to {to} with status 0x{status:04X}"
            raise FetchPostponed(f"{said}; it may not know where this node is.", status)
        if status != Status.SOME_SUBOPERATIONS_FAILED:
            _check(status, archive, f"the request to send objects to {to}")
        counted = (answer.get(f"NumberOf{fate}Suboperations") or 0 for fate in ("Completed", "Warning", "Failed"))
        completed, warned, failed = counted
        return Moved(sent=completed + warned, failed=failed)
    raise PeerUnavailable(f"The request to {archive.ae_title} was broken off.")


def _keys(study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str | None) -> Dataset:
    """What names a series, or an object of it, at the level that it is of."""
    asked = Dataset()
    asked.QueryRetrieveLevel = "SERIES" if sop_instance_uid is None else "IMAGE"
    asked.StudyInstanceUID = study_instance_uid
    asked.SeriesInstanceUID = series_instance_uid
    if sop_instance_uid is not None:
        asked.SOPInstanceUID = sop_instance_uid
    return asked


def _answers(association: Association, archive: Destination, asked: Dataset) -> Iterator[Dataset | None]:
    answers = association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind)
    for number, (answer, identifier) in enumerate(answers, start=1):
        status = status_of(answer, archive)
        if status not in _PENDING:
            _check(status, archive, "the query")
            return
        if number > _MOST_ANSWERS:
            break
        yield identifier
    raise PeerRefused(f"{archive.ae_title} answered a query for one study with more than {_MOST_ANSWERS} answers.")


def _check(status: int, archive: Destination, what: str) -> None:
    if status == Status.SUCCESS:
        return
    if status == Status.MOVE_DESTINATION_UNKNOWN:
        said = f"{archive.ae_title} does not know where this node is (0xA801): its administrator has to enter "
        raise FetchRefused(f"{said}the node's AE title, host and port there.", status)
    said = f"{archive.ae_title} answered {what} with status 0x{status:04X}."
    if status & 0xFF00 == 0xA700:
        raise FetchPostponed(said, status)
    raise FetchRefused(said, status)


def _names(identifier: Dataset | None, sop_instance_uid: str) -> bool:
    try:
        return identifier is not None and str(identifier.SOPInstanceUID) == sop_instance_uid
    except Exception:
        # Foreign bytes can do anything to the parser.
        return False


def _read(identifier: Dataset | None, study_instance_uid: str) -> Iterator[FoundSeries]:
    """The series that an answer names, unless it is of another study or cannot be read."""
    if identifier is None:
        return
    try:
        study = str(identifier.get("StudyInstanceUID") or study_instance_uid)
        series, modality = str(identifier.SeriesInstanceUID), str(identifier.get("Modality") or "").strip()
        objects = identifier.get("NumberOfSeriesRelatedInstances")
        count = int(objects) if objects is not None else None
    except Exception:
        # Foreign bytes can do anything to the parser.
        return
    if study == study_instance_uid and _UID.fullmatch(series):
        yield FoundSeries(series, modality, count)
