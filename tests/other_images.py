"""Images of other kinds that a fluoroscopy room sends, each a real object of its class, small and plainly invented.

cine = xa()
ct(cine)                                             a slice of a C-arm's CT
cone_beam_run(cine)                                  an X-Ray 3D Angiographic volume of two slices
computed_radiograph(cine), digital_radiograph(cine)  an exposure
ultrasound(cine, frames=2)                           of a probe, without frames a single image
"""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRay3DAngiographicImageStorage,
    generate_uid,
)

from tests.beside import of_study_of
from tests.enhanced import code, item


def ct(cine: Dataset) -> Dataset:
    """A CT image (PS3.3 A.3), in Hounsfield units."""
    image = _image(cine, CTImageStorage, "CT", (1, 24, 28))
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientPosition = "HFS"
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.KVP, image.AcquisitionNumber = 120, 1
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = generate_uid(), ""
    image.PixelSpacing, image.SliceThickness = [0.5, 0.5], 1
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    return image


def computed_radiograph(cine: Dataset) -> Dataset:
    """A Computed Radiography image (PS3.3 A.2)."""
    image = _image(cine, ComputedRadiographyImageStorage, "CR", (1, 31, 26))
    image.ViewPosition = "AP"
    image.PatientOrientation = ["L", "F"]
    return image


def digital_radiograph(cine: Dataset, sop_class: str = DigitalXRayImageStorageForPresentation) -> Dataset:
    """A Digital X-Ray image (PS3.3 A.26), for presentation or for processing."""
    shown = sop_class == DigitalXRayImageStorageForPresentation
    image = _image(cine, sop_class, "DX", (1, 30, 34))
    image.ImageType = ["ORIGINAL", "PRIMARY", ""]
    image.PresentationIntentType = "FOR PRESENTATION" if shown else "FOR PROCESSING"
    image.PatientOrientation = ["L", "F"]
    image.ImageLaterality = "U"
    image.AnatomicRegionSequence = [code("43799004", "SCT", "Thorax")]
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LIN", 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
    image.PresentationLUTShape = "IDENTITY"
    image.BurnedInAnnotation = "NO"
    image.AcquisitionContextSequence = []
    image.DetectorType, image.ImagerPixelSpacing = "DIRECT", [0.15, 0.15]
    if shown:
        image.WindowCenter, image.WindowWidth = 2048, 4096
    return image


def ultrasound(cine: Dataset, frames: int = 0) -> Dataset:
    """An Ultrasound (Multi-frame) image in color (PS3.3 A.6, A.7); with `frames` 0 of a single frame."""
    sop_class = UltrasoundMultiFrameImageStorage if frames else UltrasoundImageStorage
    image = _image(cine, sop_class, "US", (max(frames, 1), 28, 36), samples=3)
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.PatientOrientation = ""
    if frames:
        image.NumberOfFrames, image.FrameIncrementPointer, image.FrameTime = frames, 0x00181063, 40
    return image


def cone_beam_run(cine: Dataset, slices: int = 2) -> Dataset:
    """An X-Ray 3D Angiographic image (PS3.3 A.53): slices that were reconstructed from a run of projections."""
    image = _image(cine, XRay3DAngiographicImageStorage, "XA", (slices, 22, 18))
    kind = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    look = {
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
    }
    image.ImageType, image.NumberOfFrames = kind, slices
    image.update(item(**look))
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = generate_uid(), ""
    image.AcquisitionContextSequence = []
    image.ContentQualification, image.BurnedInAnnotation, image.PresentationLUTShape = "PRODUCT", "NO", "IDENTITY"
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5], SliceThickness=1)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        FrameAnatomySequence=[item(FrameLaterality="U", AnatomicRegionSequence=[code("43799004", "SCT", "Thorax")])],
        FrameVOILUTSequence=[item(WindowCenter=2048, WindowWidth=4096)],
        PixelValueTransformationSequence=[item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="US")],
    )
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[item(FrameAcquisitionNumber=1)],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, at])],
            XRay3DFrameTypeSequence=[item(FrameType=kind, **look)],
        )
        for at in range(slices)
    ]
    return image


def _image(cine: Dataset, sop_class: str, modality: str, shape: tuple[int, int, int], samples: int = 1) -> Dataset:
    """shape: frames, rows and columns, of noise."""
    image = of_study_of(cine, sop_class, modality)
    bits = 12 if samples == 1 else 8
    drawn = np.random.default_rng(0).integers(0, 2**bits, (*shape, samples))
    image.BodyPartExamined = "CHEST"
    image.Rows, image.Columns = shape[1:]
    image.SamplesPerPixel = samples
    image.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples > 1:
        image.PlanarConfiguration = 0
    image.BitsAllocated = 16 if bits > 8 else 8
    image.BitsStored, image.HighBit, image.PixelRepresentation = bits, bits - 1, 0
    image.PixelData = drawn.astype("<u2" if bits > 8 else "u1").tobytes()
    image["PixelData"].VR = "OW" if bits > 8 else "OB"
    image.LossyImageCompression = "00"
    return image
