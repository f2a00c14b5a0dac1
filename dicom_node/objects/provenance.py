"""What a result says of itself: made from which image, by which software and model, how much of it is made.

PS3.3 C.7.6.1 (Image Type), C.12.1 (Synthetic Data, Contributing Equipment) and C.12.4 (derivation).
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from highdicom.base_content import ContributingEquipment
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from config.mark import Mark
from config.objects import ObjectProfile
from dicom_node.implementation import GENERATED_WORDS, MANUFACTURER
from dicom_node.lossy import METHODS
from dicom_node.objects.account import Tally
from dicom_node.objects.identity import Origin
from dicom_node.objects.mark import Drawn
from dicom_node.objects.references import series_reference, source_reference
from dicom_node.objects.source_header import copy_attributes, read_value
from inference.header import value_of
from inference.pixels import pixel_data_length
from inference.reconstruction import Provenance, Reconstruction

#: Attributes of a Contributing Equipment item that an acquiring system gives of itself.
_DEVICE = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "DeviceUID",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "InstitutionalDepartmentName",
    "OperatorsName",
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """How the pixels of a result came to be, and what of it can be seen."""

    provenance: Provenance
    route: str
    #: When the result was made, on the clock of the source.
    created: datetime
    #: Share of generated pixels in the whole cine, 0 to 1, and of those taken over from another frame.
    generated: float
    elsewhen: float
    #: Half-width of the 90 % interval, mean over the generated pixels, in units of the frame's [-1, 1].
    uncertainty: float
    #: The mark that was asked for, and what of it was drawn.
    mark: Mark
    drawn: Drawn
    #: Of which class the destination wants its pictures.
    profile: ObjectProfile

    @classmethod
    def of(
        cls,
        reconstruction: Reconstruction,
        *,
        mark: Mark,
        drawn: Drawn,
        route: str,
        profile: ObjectProfile,
        created: datetime,
    ) -> "Statement":
        tally = Tally.of(reconstruction)
        return cls(
            provenance=reconstruction.provenance,
            route=route,
            created=created,
            generated=tally.generated / tally.size,
            elsewhen=tally.elsewhen / tally.size,
            uncertainty=tally.half_width,
            mark=mark,
            drawn=drawn,
            profile=profile,
        )

    @property
    def origin(self) -> Origin:
        """What the UIDs of the result follow from."""
        return Origin.of(self.provenance, route=self.route, mark=self.mark, profile=self.profile)

    def __str__(self) -> str:
        """Text for Derivation Description, which holds 1024 characters."""
        made = self.provenance
        elsewhen = (
            f"{100 * self.elsewhen:.1f} % were measured at another time, in other frames of the same view. "
            if self.elsewhen
            else ""
        )
        return (
            f"{100 * self.generated:.1f} % of the pixels, those outside the collimator aperture, were "
            f"{GENERATED_WORDS}; pixels inside are unchanged. {elsewhen}"
            f"Model {made.model[:64]} {made.version[:64]}, sha256 {made.digest[:64]}; "
            f"mode {made.mode}, seed {made.seed}, {made.steps} steps on {made.device[:64]}. "
            f"Aperture from {made.aperture_source}. "
            f"Of the generated detail {100 * made.residual_signal:.0f} % follows the faint picture behind the blades, "
            f"averaged over {made.frames_behind:.1f} frames. "
            f"Half-width of the best estimate's 90 % interval {self.uncertainty:.4f} in [-1, 1], on average. "
            f"Drawn on generated pixels: {self.drawn}."
        )


def state_derivation(source: Dataset, result: Dataset, statement: Statement, frame: int | None) -> None:
    """Write into the header of `result` that it is derived, from what, by what, and partly generated.

    frame: the frame of the source shown, from 1, where the result shows only one of several.
    """
    result.SyntheticData = "YES"
    result.ContentQualification = "RESEARCH"
    flavour = read_value(source, "ImageType")
    third = flavour[2] if flavour is not None and len(flavour) > 2 and flavour[2] else "OTHER"
    result.ImageType = ["DERIVED", "SECONDARY", third, "GENERATED"]
    result.DerivationDescription = str(statement)
    result.DerivationCodeSequence = [CodedConcept.from_code(codes.DCM.ArtificialIntelligence)]
    result.SourceImageSequence = [source_reference(source, frame)]
    result.ReferencedSeriesSequence = [series_reference([source])]
    _name_equipment(source, result, statement)
    _carry_losses(source, result)


def instance_moment(source: Dataset, created: datetime) -> datetime:
    """`created` on the clock of the source: at its Timezone Offset From UTC if it has one, else as given."""
    offset = str(read_value(source, "TimezoneOffsetFromUTC") or "")
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return created
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    if minutes >= 24 * 60:
        return created
    return created.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def software_versions(made: Provenance) -> list[str]:
    """Version of the software, then of the weights, then the weights' digest, each at most 64 characters."""
    return [version("fullfield"), f"{made.model} {made.version}"[:64], made.digest[:64]]


def _name_equipment(source: Dataset, result: Dataset, statement: Statement) -> None:
    """The source's history of equipment, its own system, then this software as the one that synthesised."""
    made = statement.provenance
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = MANUFACTURER
    result.SoftwareVersions = software_versions(made)
    copy_attributes(source, result, ("ContributingEquipmentSequence",))
    history = list(result.get("ContributingEquipmentSequence") or ())
    if read_value(source, "Manufacturer"):
        acquired = Dataset()
        acquired.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.AcquisitionEquipment)]
        copy_attributes(source, acquired, _DEVICE)
        history.append(acquired)
    synthesised = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.SynthesizingEquipment,
        manufacturer_model_name=made.model[:64],
        software_versions=software_versions(made),
        contribution_datetime=statement.created,
        contribution_description="Generated the pixels outside the collimator aperture",
    )
    result.ContributingEquipmentSequence = [*history, synthesised]


def _carry_losses(source: Dataset, result: Dataset) -> None:
    """What was once compressed with loss stays so (C.7.6.1.1.5), even where the source forgot to say it.

    The source's ratios and methods were taken over; where it names none, those of its own compression are told.
    """
    meta = getattr(source, "file_meta", None)
    method = METHODS.get(meta.get("TransferSyntaxUID")) if meta is not None else None
    if method is None:
        return
    result.LossyImageCompression = "01"
    if read_value(result, "LossyImageCompressionMethod") is not None:
        return
    result.LossyImageCompressionMethod = method
    ratio = _compression_ratio(source)
    if ratio is not None and read_value(result, "LossyImageCompressionRatio") is None:
        result.LossyImageCompressionRatio = f"{ratio:.4g}"


def _compression_ratio(source: Dataset) -> float | None:
    """How many times smaller the pixel data are than their values, or None where that cannot be told."""
    sides = [read_value(source, keyword) for keyword in ("Rows", "Columns", "BitsStored", "SamplesPerPixel")]
    if value_of(source, "PixelData") is None or not all(isinstance(side, int) for side in sides):
        return None
    frames = read_value(source, "NumberOfFrames")
    bits: int = math.prod(sides) * (frames if isinstance(frames, int) else 1)
    return bits / 8 / pixel_data_length(source)
