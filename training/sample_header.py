"""The header of the shipped sample: a complete X-Ray Angiographic Image (PS3.3 A.14) of an invented patient."""

import uuid
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, XRayAngiographicImageStorage

from training.blades import Rectangle
from training.project import View

BITS_STORED = 12
FRAME_MILLISECONDS = 66.7
PULSE_MILLISECONDS = 7
DATE = "20240305"


def sample_dataset(stored: npt.NDArray[np.uint16], views: Sequence[View], aperture: Rectangle) -> Dataset:
    """The cine as a data set with its file meta information, in explicit little endian.

    stored: (n, h, w) in BITS_STORED bits. views: one a frame, of which only the angles differ. aperture: the
    blades, in pixels of `stored`. Always the same UIDs and dates: the sample is one object.
    """
    dataset = Dataset()
    _patient_study_and_series(dataset)
    _image(dataset, stored)
    _cine(dataset, len(stored))
    _acquisition(dataset, views[0], stored.shape[2])
    _positioner(dataset, views)
    _collimator(dataset, aperture)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = _uid("implementation")
    dataset.file_meta.ImplementationVersionName = "FULLFIELD_SAMPLE"
    return dataset


def _patient_study_and_series(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Phantom^Thorax"
    dataset.PatientID = "FULLFIELD-SAMPLE"
    dataset.PatientBirthDate = "19500101"
    dataset.PatientSex = "O"
    dataset.PatientAge = "074Y"
    dataset.PatientComments = "Invented patient; pictures simulated from a CT"
    dataset.StudyInstanceUID = _uid("study")
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = DATE
    dataset.StudyTime = "101500"
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "102130"
    dataset.AccessionNumber = "SAMPLE0001"
    dataset.ReferringPhysicianName = "Invented^Referrer"
    dataset.StudyDescription = "Coronary angiography (simulated)"
    dataset.SeriesInstanceUID = _uid("series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "LAO fluoroscopy, collimated"
    dataset.ProtocolName = "Fluoroscopy 15 fps"
    dataset.Modality = "XA"
    dataset.BodyPartExamined = "HEART"
    dataset.PatientPosition = "HFS"
    dataset.Manufacturer = "Fullfield"
    dataset.ManufacturerModelName = "Simulated C-arm"
    dataset.InstitutionName = "Invented Hospital"
    dataset.StationName = "CARM1"
    dataset.DeviceSerialNumber = "0001"
    dataset.SoftwareVersions = "1"


def _image(dataset: Dataset, stored: npt.NDArray[np.uint16]) -> None:
    """General Image, X-Ray Image (C.8.7.1), VOI LUT and SOP Common."""
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.SOPInstanceUID = _uid("instance")
    dataset.InstanceNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    dataset.PatientOrientation = ["L", "F"]
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.AnatomicRegionSequence = [_code(codes.SCT.Heart)]
    # Shown as they are: the modality's processing is done.
    dataset.PixelIntensityRelationship = "DISP"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = BITS_STORED
    dataset.HighBit = BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset.WindowCenter = 2 ** (BITS_STORED - 1)
    dataset.WindowWidth = 2**BITS_STORED


def _cine(dataset: Dataset, frames: int) -> None:
    """Cine (C.7.6.5) and Multi-frame (C.7.6.6)."""
    dataset.FrameIncrementPointer = 0x00181063
    dataset.FrameTime = FRAME_MILLISECONDS
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = round(1000 / FRAME_MILLISECONDS)
    dataset.StartTrim, dataset.StopTrim = 1, frames
    dataset.FrameDelay = 0
    dataset.EffectiveDuration = round(frames * FRAME_MILLISECONDS / 1000, 3)
    dataset.PreferredPlaybackSequencing = 0


def _acquisition(dataset: Dataset, view: View, columns: int) -> None:
    """X-Ray Acquisition (C.8.7.2): what fluoroscopy of an adult chest takes."""
    dataset.KVP = 78
    dataset.XRayTubeCurrent = 45
    dataset.ExposureTime = PULSE_MILLISECONDS
    dataset.AveragePulseWidth = PULSE_MILLISECONDS
    dataset.RadiationSetting = "SC"
    dataset.RadiationMode = "PULSED"
    dataset.FocalSpots = 0.6
    dataset.Grid = "IN"
    spacing = round(view.detector_side / columns, 5)
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.FieldOfViewShape = "RECTANGLE"
    dataset.FieldOfViewDimensions = [round(view.detector_side), round(view.detector_side)]
    dataset.TableMotion = "STATIC"


def _positioner(dataset: Dataset, views: Sequence[View]) -> None:
    """XA Positioner (C.8.7.5); the increments count from the first frame's angles."""
    first = views[0]
    dataset.DistanceSourceToDetector = round(first.source_to_detector, 1)
    dataset.DistanceSourceToPatient = round(first.source_to_isocenter, 1)
    dataset.EstimatedRadiographicMagnificationFactor = round(first.source_to_detector / first.source_to_isocenter, 4)
    dataset.PositionerMotion = "DYNAMIC"
    dataset.PositionerPrimaryAngle = round(first.primary_angle, 2)
    dataset.PositionerSecondaryAngle = round(first.secondary_angle, 2)
    dataset.PositionerPrimaryAngleIncrement = [round(v.primary_angle - first.primary_angle, 2) for v in views]
    dataset.PositionerSecondaryAngleIncrement = [round(v.secondary_angle - first.secondary_angle, 2) for v in views]


def _collimator(dataset: Dataset, aperture: Rectangle) -> None:
    """X-Ray Collimator (C.8.7.3): first and last column and row that see the beam, counted from 1."""
    dataset.CollimatorShape = "RECTANGULAR"
    dataset.CollimatorLeftVerticalEdge = aperture.left + 1
    dataset.CollimatorRightVerticalEdge = aperture.right
    dataset.CollimatorUpperHorizontalEdge = aperture.top + 1
    dataset.CollimatorLowerHorizontalEdge = aperture.bottom


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _uid(part: str) -> UID:
    """A UID of the sample's own (PS3.5 B.2), the same whenever it is made."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'fullfield/sample/thorax/' + part).int}")
