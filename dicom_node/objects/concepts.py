"""What a report on generated pixels speaks of, as codes: DICOM's and SNOMED's own where they have one.

The others are of a private scheme, which each report declares (PS3.3 C.12.1.1.1, Coding Scheme Identification).
"""

from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

#: Designators of private schemes begin with 99 (PS3.16 8.2).
SCHEME = "99FULLFIELD"

REPORT = Code("R01", SCHEME, "Report on generated pixels")
MODEL = Code("R02", SCHEME, "Model")
WHOLE = Code("R03", SCHEME, "All frames")
VIEW = Code("R04", SCHEME, "Frames with the same measured pixels")
OBJECTS = Code("R05", SCHEME, "Objects")
NOT_RECONSTRUCTED = Code("R06", SCHEME, "Not reconstructed")
NOTES = Code("R07", SCHEME, "Notes")

DIGEST = Code("M01", SCHEME, "SHA-256 of the model's weights")
MODE = Code("M02", SCHEME, "Kind of estimate")
SEED = Code("M03", SCHEME, "Seed of the noise")
BEST_ESTIMATE = Code("M04", SCHEME, "Best estimate")
DRAW = Code("M05", SCHEME, "One draw from the posterior")

GENERATED = Code("P01", SCHEME, "Share of generated pixels")
ELSEWHEN = Code("P02", SCHEME, "Share of pixels measured at another time")
FRAMES_ELSEWHEN = Code("P03", SCHEME, "Frames with pixels measured at another time")
WIDTH = Code("P04", SCHEME, "Width of the 90 % interval, mean, of black to white")
COVERAGE = Code("P05", SCHEME, "Calibrated coverage of the interval")
RESIDUAL = Code("P06", SCHEME, "Generated detail that follows the faint picture behind blades")
FRAMES_BEHIND = Code("P07", SCHEME, "Frames behind a generated pixel, on average")
APERTURE = Code("P08", SCHEME, "Border of the measured pixels")
APERTURE_SOURCE = Code("P09", SCHEME, "Where the aperture is known from")
FROM_ATTRIBUTES = Code("P10", SCHEME, "Attributes of the source")
FROM_PIXELS = Code("P11", SCHEME, "Pixels of the source")
FRAMES = Code("P12", SCHEME, "Frames")

SOURCE = Code("O01", SCHEME, "Source")
PICTURE = Code("O02", SCHEME, "Picture with generated pixels")
MASK = Code("O03", SCHEME, "Segmentation beside the picture")
STATE = Code("O04", SCHEME, "Presentation state beside the picture")
REASON = Code("O05", SCHEME, "Reason why it was not reconstructed")

ALGORITHM_NAME = codes.DCM.AlgorithmName
ALGORITHM_VERSION = codes.DCM.AlgorithmVersion
NUMBER_OF_FRAMES = codes.DCM.NumberOfFrames
COMMENT = codes.DCM.Comment
LANGUAGE = codes.DCM.LanguageOfContentItemAndDescendants
ENGLISH = Code("en", "RFC5646", "English")

PERCENT = codes.UCUM.Percent
NO_UNITS = codes.UCUM.NoUnits


def coded(code: Code) -> CodedConcept:
    """A code as an item of a sequence."""
    return CodedConcept.from_code(code)


def scheme() -> Dataset:
    """The item that says whose the private scheme is."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = "Concepts of reports on generated pixels"
    item.CodingSchemeResponsibleOrganization = "Fullfield"
    return item
