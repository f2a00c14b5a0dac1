"""dicom3tools' dciodvfy, the validator of our results."""

import subprocess
from pathlib import Path

#: How the names of the classes of our results end in its report.
KNOWN = (
    "SCImage",
    "SecondaryCapture",
    "XAImage",
    "XRFImage",
    "Segmentation",
    "GrayscaleSoftcopyPresentationState",
    "ComprehensiveSR",
)


def errors_in(result: Path) -> list[str]:
    """The lines in which dciodvfy finds an error in a picture or a companion of it."""
    report = subprocess.run(["dciodvfy", result], capture_output=True, text=True, errors="replace", check=False)
    lines = (report.stdout + report.stderr).splitlines()
    assert any(line.endswith(KNOWN) for line in lines), lines
    # Synthetic Data entered the standard after Debian's dicom3tools of 2022, which does not know it.
    return [line for line in lines if line.startswith("Error") and "(0x0008,0x001c)" not in line]
