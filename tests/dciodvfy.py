"""dicom3tools' dciodvfy, the validator of our results."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: How the names of the classes of our results, and of what else the tests judge, end in its report.
KNOWN = (
    "SCImage",
    "SecondaryCapture",
    "XAImage",
    "XRFImage",
    "XRay3DAngiographicImage",
    "CTImage",
    "CRImage",
    "DXImageForPresentation",
    "DXImageForProcessing",
    "USImage",
    "USMultiFrameImage",
    "Segmentation",
    "GrayscaleSoftcopyPresentationState",
    "ComprehensiveSR",
    "XRayRadiationDoseSR",
)


@dataclass(frozen=True)
class Accepted:
    """A warning that stays; docs/explanation/validators.md repeats both sentences."""

    pattern: str
    said: str
    reason: str


ACCEPTED = (
    Accepted(
        r"\(0x0008,0x001c\)",
        "Synthetic Data (0008,001C) is no standard attribute (an error and two warnings)",
        "It entered the standard in 2022, after Debian's dicom3tools; the tests pass over the error too.",
    ),
    Accepted(
        r"not present in standard DICOM IOD - \(0x(0008,0x2144|0018,0x|0020,0x(?:0052|0200|1040)|0028,0x104[01])",
        "An attribute of frame rate, beam, collimator, frame of reference or synchronization is not in the IOD",
        "Geometry and time of the X-ray beam are needed to measure; PS3.2 allows it in a Standard Extended SOP Class.",
    ),
    Accepted(
        r"contains attributes not present in standard DICOM IOD - this is a Standard Extended SOP Class",
        "The object is of a Standard Extended SOP Class",
        "It follows from the two above.",
    ),
    Accepted(
        r"EstimatedRadiographicMagnificationFactor does not match ratio",
        "The magnification factor does not match the distances",
        "Factor and distances are the source's, which has rounded them.",
    ),
    Accepted(
        r"Unrecognized defined term <99FULLFIELD>",
        "99FULLFIELD is no coding scheme that is known",
        "It is the private scheme of the report, which the report declares (decision 27).",
    ),
    Accepted(
        r"needed to build DICOMDIR - (Patient ID|Study Date|Study ID)",
        "Patient ID, Study Date or Study ID is missing for a DICOMDIR",
        "They are empty where the source has none; an identity is not to be invented.",
    ),
    Accepted(
        r"only permitted to be empty when actually unknown.*<Laterality>",
        "Laterality is only to be empty where it is unknown",
        "It is: the source names neither side nor body part.",
    ),
)


def errors_in(result: Path) -> list[str]:
    """The lines in which dciodvfy finds an error in a picture or a companion of it."""
    return [line for line in complaints_in(result) if line.startswith("Error")]


def complaints_in(result: Path) -> list[str]:
    """The lines in which it finds an error, or warns of something that is not among what stays."""
    complaints = [line for line in _report(result) if line.startswith("Error") or "Warning - " in line]
    return [line for line in complaints if not any(re.search(each.pattern, line) for each in ACCEPTED)]


def _report(result: Path) -> list[str]:
    report = subprocess.run(["dciodvfy", result], capture_output=True, text=True, errors="replace", check=False)
    lines = (report.stdout + report.stderr).splitlines()
    assert any(line.endswith(KNOWN) for line in lines), lines
    return lines
