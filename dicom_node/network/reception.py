"""What an arriving object is, by its header: enough to keep it, and to refuse what cannot be kept."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.deflated import inflated
from dicom_node.network.incoming import StoreRequest, printable
from dicom_node.network.statuses import Status, Unacceptable

#: Values before the pixel data larger than this are left out of the header, and of the memory.
_LARGEST_VALUE = 1 << 20
#: Of a deflated data set so much is inflated to find its header; what lies behind is not looked at.
_LARGEST_HEADER = 64 << 20

#: PS3.5 9.1, but for leading zeros in a component and for the length: they are wrong, and devices send them. A worker
#: declines what its results cannot name.
_UID = re.compile(r"(?=.{1,255}$)[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An object that has been received whole and is acceptable, before it is kept."""

    #: The part-10 file, in the incoming folder of the object store.
    path: Path
    #: SHA-256 of the file, lower-case hexadecimal.
    digest: str
    #: Bytes of the file.
    size: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    frames: int
    calling_ae: str
    called_ae: str
    peer_address: str
    association_id: str
    #: What of this node received it.
    actor: str
    #: Whose C-MOVE it answers; None if it answers none.
    mover: str | None = None


def header_facts(path: Path, transfer_syntax_uid: str = DeflatedExplicitVRLittleEndian) -> Dataset:
    """The data set of a part-10 file up to its pixel data, without values of more than a megabyte.

    transfer_syntax_uid: that of the file, if it is known; else it may be deflated.
    Nothing of it is read from the file later. Raises Unacceptable (0xC000) for what is not a DICOM file.
    """
    try:
        deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        file = (inflated(path, _LARGEST_HEADER, whole=False) if deflated else None) or path
        header = dcmread(file, stop_before_pixels=True, defer_size=_LARGEST_VALUE)
        for tag in list(header.keys()):
            raw = header.get_item(tag, keep_deferred=True)
            if isinstance(raw, RawDataElement) and raw.value is None and raw.length:
                del header[tag]
    except Exception as error:
        # Whatever it is that a foreign byte does to the parser, the file cannot be understood.
        raise Unacceptable(Status.CANNOT_UNDERSTAND, "The data set cannot be parsed.") from error
    return header


def examine(path: Path, digest: str, size: int, request: StoreRequest) -> tuple[Arrival, Dataset]:
    """An arrival and its header; raises Unacceptable for what cannot be kept (PS3.4 B.2.3).

    0xC000: not to be parsed, or without the UIDs that identify it; 0xA900: another instance or study than the
    request's, which nobody would find again. Of another SOP class it is kept: the data set's counts, and a result
    tells of it.
    """
    header = header_facts(path, request.transfer_syntax_uid)
    sop_class_uid = _uid(header, "SOPClassUID")
    sop_instance_uid = _uid(header, "SOPInstanceUID")
    if sop_instance_uid != request.sop_instance_uid:
        raise Unacceptable(Status.MISMATCH, "The data set's SOP Instance UID is not the request's.")
    study_instance_uid = _uid(header, "StudyInstanceUID")
    if request.study_instance_uid not in (None, study_instance_uid):
        raise Unacceptable(Status.MISMATCH, "The data set is of another study than the request.")
    arrival = Arrival(
        path=path,
        digest=digest,
        size=size,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=request.transfer_syntax_uid,
        study_instance_uid=study_instance_uid,
        series_instance_uid=_uid(header, "SeriesInstanceUID"),
        modality=_modality(header),
        frames=_frames(header),
        calling_ae=request.peer.calling_ae,
        called_ae=request.peer.called_ae,
        peer_address=request.peer.address,
        association_id=request.peer.association_id,
        actor=request.peer.actor,
        mover=request.mover,
    )
    return arrival, header


def _uid(header: Dataset, keyword: str) -> str:
    value = str(_value(header, keyword) or "")
    if not _UID.fullmatch(value):
        raise Unacceptable(Status.CANNOT_UNDERSTAND, f"The data set has no valid {keyword}.")
    return value


def _modality(header: Dataset) -> str:
    value = _value(header, "Modality")
    return printable(value)[:16] if isinstance(value, str) else ""


def _frames(header: Dataset) -> int:
    """Frames that the header claims, 1 where it claims none: whoever decodes it will judge the claim."""
    value = _value(header, "NumberOfFrames")
    return min(max(int(value), 1), 2**31 - 1) if isinstance(value, int) else 1


def _value(header: Dataset, keyword: str) -> object:
    try:
        return header.get(keyword)
    except Exception:
        # A value is decoded when it is asked for, and foreign bytes can raise anything; it counts as missing.
        return None
