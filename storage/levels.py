"""What is told of patients, studies, series and objects, level by level (PS3.4 C.6.1.1 and C.6.2.1).

Values are kept as in the DICOM JSON model (PS3.18 F), by tag: `{"00080060": {"vr": "CS", "Value": ["XA"]}}`.
"""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

#: Values that take more than this as JSON are left out: nobody asks for a text of pages by it.
_LONGEST = 10_000

#: A data set, or a part of one, in the DICOM JSON model.
Attributes = dict[str, Any]


class Level(StrEnum):
    """What a query is about; the values are those of Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


def _tags(keywords: str) -> dict[str, str]:
    tags = {keyword: tag_for_keyword(keyword) for keyword in keywords.split()}
    return {keyword: f"{tag:08X}" for keyword, tag in tags.items() if tag is not None}


#: Keyword and tag of each attribute that is kept of an object's header, by level.
KEPT: dict[Level, dict[str, str]] = {
    Level.PATIENT: _tags(
        """PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime PatientSex OtherPatientIDs
        OtherPatientNames EthnicGroup PatientComments"""
    ),
    Level.STUDY: _tags(
        """StudyInstanceUID StudyDate StudyTime AccessionNumber StudyID StudyDescription ReferringPhysicianName
        NameOfPhysiciansReadingStudy AdmittingDiagnosesDescription ProcedureCodeSequence PatientAge PatientSize
        PatientWeight Occupation AdditionalPatientHistory TimezoneOffsetFromUTC"""
    ),
    Level.SERIES: _tags(
        """SeriesInstanceUID Modality SeriesNumber SeriesDescription SeriesDate SeriesTime BodyPartExamined Laterality
        PatientPosition ProtocolName PerformingPhysicianName OperatorsName InstitutionName InstitutionalDepartmentName
        StationName Manufacturer ManufacturerModelName FrameOfReferenceUID PerformedProcedureStepID
        PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence"""
    ),
    Level.IMAGE: _tags(
        """SOPClassUID SOPInstanceUID InstanceNumber ImageType ContentDate ContentTime AcquisitionDate AcquisitionTime
        AcquisitionDateTime AcquisitionNumber InstanceCreationDate InstanceCreationTime NumberOfFrames Rows Columns
        BitsAllocated BitsStored SamplesPerPixel PhotometricInterpretation LossyImageCompression BurnedInAnnotation
        SyntheticData DerivationDescription ImageComments ContentLabel ContentDescription ContentCreatorName
        ConceptNameCodeSequence CompletionFlag VerificationFlag"""
    ),
}

#: The same by number, as a data set holds them.
_NUMBERS = {level: {BaseTag(int(tag, 16)): tag for tag in tags.values()} for level, tags in KEPT.items()}

#: Keyword and tag of each attribute that is counted up when it is asked for, by level.
COUNTED: dict[Level, dict[str, str]] = {
    Level.PATIENT: _tags("NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries NumberOfPatientRelatedInstances"),
    Level.STUDY: _tags("ModalitiesInStudy SOPClassesInStudy NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"),
    Level.SERIES: _tags("NumberOfSeriesRelatedInstances"),
    Level.IMAGE: _tags("AvailableTransferSyntaxUID"),
}

#: The attribute that names one thing of a level (PS3.4 C.2.2.1.1).
UNIQUE_KEY: dict[Level, str] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


def known_at(level: Level) -> dict[str, str]:
    """Keyword and tag of all that can be asked for at a level: its own attributes, and those of the levels above."""
    levels = list(Level)[: list(Level).index(level) + 1]
    return {keyword: tag for each in levels for keyword, tag in (KEPT[each] | COUNTED[each]).items()}


def described(header: Dataset, levels: Iterable[Level]) -> Attributes:
    """What a header says of these levels; what cannot be understood in it is left out."""
    attributes: Attributes = {}
    held = set(header.keys())
    for level in levels:
        for number, tag in _NUMBERS[level].items():
            if number in held:
                element = _element(header, number)
                if element is not None:
                    attributes[tag] = element
    return attributes


def _element(header: Dataset, number: BaseTag) -> dict[str, Any] | None:
    try:
        element: dict[str, Any] = header[number].to_json_dict(None, 0)
        return element if "Value" in element and len(json.dumps(element)) <= _LONGEST else None
    except Exception:
        # A value is decoded when it is asked for, and foreign bytes can raise anything; it counts as missing.
        return None
