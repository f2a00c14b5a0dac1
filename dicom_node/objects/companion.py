"""What the objects beside the picture share: a series of their own in its study, the same patient, the same history."""

from collections.abc import Sequence

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from dicom_node.objects.identity import Kind, Origin, companion_instance_uid, companion_series_uid
from dicom_node.objects.provenance import software_versions
from dicom_node.objects.source_header import copy_attributes, read_value
from inference.reconstruction import Provenance

#: What is true of a companion as of the picture: its patient, its place, its clock, and who made both.
_SHARED = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "RequestAttributesSequence",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "InstitutionalDepartmentTypeCodeSequence",
    "ContributingEquipmentSequence",
)
#: What each kind of companion is numbered after the series of the pictures.
_SERIES_AFTER: dict[Kind, int] = {"segmentation": 1, "presentation state": 2, "report": 3, "uncertainty": 4}


class Companion(SOPClass):  # type: ignore[misc]  # highdicom is not followed
    """An object that goes beside the pictures and speaks of them.

    The same arguments give the same object, byte for byte.
    """

    def __init__(
        self,
        source: Dataset,
        pictures: Sequence[Dataset],
        made: Provenance,
        *,
        kind: Kind,
        part: int = 0,
        sop_class_uid: UID,
        modality: str,
        title: str,
        origin: Origin,
    ) -> None:
        """source: the image that was reconstructed; only its header is read.

        pictures: what was made of it, of this origin; only their headers are read.
        part: counts the objects where one source gives several of the kind. title: begins the series description.
        """
        first = pictures[0]
        super().__init__(
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=companion_series_uid(kind, source.SeriesInstanceUID, origin),
            series_number=min(int(first.SeriesNumber) + _SERIES_AFTER[kind], 2**31 - 1),
            sop_instance_uid=companion_instance_uid(kind, source.SOPInstanceUID, origin, part),
            sop_class_uid=sop_class_uid,
            instance_number=int(first.InstanceNumber),
            modality=modality,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            # Software has none, and the attribute is of type 1 (C.7.5.2): what tells one model from another.
            device_serial_number=made.digest[:64],
            software_versions=software_versions(made),
            # Presentation states have a date of their own (C.11.10).
            content_date=None if kind == "presentation state" else first.ContentDate,
            content_time=None if kind == "presentation state" else first.ContentTime,
        )
        self.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        self.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        self.copy_patient_and_study_information(first)
        copy_attributes(first, self, _SHARED)
        described = (title, str(read_value(source, "SeriesDescription") or ""))
        self.SeriesDescription = ": ".join(part for part in described if part)[:64].strip()
