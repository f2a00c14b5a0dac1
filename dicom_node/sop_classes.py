"""The SOP classes that a fluoroscopy room sends (PS3.4 B.5), and what becomes of an object of each."""

from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XAXRFGrayscaleSoftcopyPresentationStateStorage,
    XRay3DAngiographicImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiationDoseSRStorage,
    XRayRadiofluoroscopicImageStorage,
)

#: What may hold collimated fluoroscopy; the worker looks at each and says what it cannot reconstruct.
RECONSTRUCTED: tuple[UID, ...] = (
    XRayAngiographicImageStorage,
    EnhancedXAImageStorage,
    XRayRadiofluoroscopicImageStorage,
    EnhancedXRFImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

#: Of these, what has frames that a reference can number.
MULTI_FRAME = tuple(each for each in RECONSTRUCTED if each != SecondaryCaptureImageStorage)

#: What goes with fluoroscopy: a route that takes it sends it on as it came.
PASSED_ON: tuple[UID, ...] = (
    XRayRadiationDoseSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    XAXRFGrayscaleSoftcopyPresentationStateStorage,
)

#: Of which class the pictures of a result can be.
PICTURES: tuple[UID, ...] = (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

#: What this node makes beside a picture, and a picture can do without.
BESIDE: tuple[UID, ...] = (
    SegmentationStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ComprehensiveSRStorage,
)

#: Other images of the room, such as a C-arm's cone-beam runs, and what goes beside results, which an archive may send
#: back: received, so that a study is not sent in part, and taken by no route.
KEPT_ONLY: tuple[UID, ...] = (
    XRay3DAngiographicImageStorage,
    CTImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    SegmentationStorage,
    ComprehensiveSRStorage,
)

#: All that is received.
RECEIVED: tuple[UID, ...] = (*RECONSTRUCTED, *PASSED_ON, *KEPT_ONLY)
