"""How the picture may be shown: Grayscale Softcopy Presentation States beside it (PS3.3 A.33.1).

`MarkedView` draws the border of what was measured and the label over the picture, `MeasuredView` hides what was not
measured behind a display shutter. A viewer shows either, or neither, at the reader's choice.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import GraphicLayer, GraphicObject, TextObject
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from config.mark import Mark
from dicom_node.objects.character_set import make_room_for
from dicom_node.objects.companion import Companion
from dicom_node.objects.identity import Origin
from dicom_node.objects.mark import label_box
from dicom_node.objects.outline import box_of, outlines
from dicom_node.objects.references import reference, series_reference
from dicom_node.objects.source_header import copy_attributes, read_value
from dicom_node.objects.views import always, ever, still_views
from inference.grey_mapping import modality_lut_shows
from inference.reconstruction import Reconstruction

#: Frame numbers that one reference names: as text they have to fit into 65534 bytes (PS3.5 7.1.2).
_MOST_FRAMES = 10_000
_LAYER = "GENERATED"
_OVERLAY = 0x6000
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


def presentation_states(
    source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, origin: Origin
) -> list[Dataset]:
    """The states that go beside the pictures; the second only where some pixel was measured in every frame."""
    states: list[Dataset] = [MarkedView(source, pictures, reconstruction, origin=origin)]
    if always(reconstruction.aperture).any():
        states.append(MeasuredView(source, pictures, reconstruction, origin=origin))
    return states


class _State(Companion):
    """What both share: they apply to every frame of the pictures, and show its grey levels as these do."""

    def __init__(
        self,
        source: Dataset,
        pictures: Sequence[Dataset],
        reconstruction: Reconstruction,
        *,
        origin: Origin,
        part: int,
        content_label: str,
        description: str,
    ) -> None:
        super().__init__(
            source,
            pictures,
            reconstruction.provenance,
            kind="presentation state",
            part=part,
            sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
            modality="PR",
            title=description,
            origin=origin,
        )
        first = pictures[0]
        copy_attributes(first, self, ("BodyPartExamined", "Laterality"))
        if not {"BodyPartExamined", "Laterality"} & set(self.dir()):
            self.Laterality = ""  # the frames may be of both sides (C.7.3.1)
        # Presentation State Identification (C.11.10) and Relationship (C.11.11).
        self.ContentLabel = content_label
        self.ContentDescription = description
        self.ContentCreatorName = ""
        self.PresentationCreationDate = first.ContentDate
        self.PresentationCreationTime = first.ContentTime
        self.ReferencedSeriesSequence = [series_reference(pictures, "ReferencedImageSequence")]
        self._show_all_of(first)
        self._show_grey_of(first)

    def _show_all_of(self, picture: Dataset) -> None:
        """Displayed Area (C.10.4)."""
        area = Dataset()
        area.DisplayedAreaTopLeftHandCorner = [1, 1]
        area.DisplayedAreaBottomRightHandCorner = [int(picture.Columns), int(picture.Rows)]
        area.PresentationSizeMode = "SCALE TO FIT"
        spacing = read_value(picture, "PixelSpacing")
        if spacing is not None:
            area.PresentationPixelSpacing = list(spacing)
        else:
            area.PresentationPixelAspectRatio = list(read_value(picture, "PixelAspectRatio") or (1, 1))
        self.DisplayedAreaSelectionSequence = [area]

    def _show_grey_of(self, picture: Dataset) -> None:
        """Modality LUT (C.11.1), Softcopy VOI LUT (C.11.8) and Softcopy Presentation LUT (C.11.6).

        What a state says is applied: a modality LUT that is no step of display stays in the picture (C.8.7.1.1.2), and
        of its windows and tables the state has the one that is shown.
        """
        if modality_lut_shows(picture) and read_value(picture, "ModalityLUTSequence"):
            copy_attributes(picture, self, ("ModalityLUTSequence",))
        elif modality_lut_shows(picture):
            copy_attributes(picture, self, ("RescaleSlope", "RescaleIntercept", "RescaleType"))
        shown = Dataset()
        copy_attributes(picture, shown, _WINDOW if "WindowWidth" in picture else ("VOILUTSequence",))
        for element in shown:
            if isinstance(element.value, MultiValue | Items):
                element.value = element.value[:1]
        if len(shown):
            self.SoftcopyVOILUTSequence = [shown]
        inverse = picture.PhotometricInterpretation == "MONOCHROME1"
        self.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"


class MarkedView(_State):
    """The border of what was measured as polylines, for each still view, and the label beside it."""

    def __init__(
        self, source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, origin: Origin
    ) -> None:
        """source: the image that was reconstructed; pictures: what was made of it, of this origin."""
        super().__init__(
            source,
            pictures,
            reconstruction,
            origin=origin,
            part=0,
            content_label="GENERATED_MARKED",
            description="GENERATED pixels marked",
        )
        make_room_for(origin.mark.label, self)
        # Graphic Layer (C.10.7) and Graphic Annotation (C.10.5).
        layer = GraphicLayer(
            layer_name=_LAYER,
            order=1,
            description="Outside the border pixels are generated, not measured",
            display_color=CIELabColor(85, 0, 70),
        )
        self.GraphicLayerSequence = [layer]
        self.GraphicAnnotationSequence = list(_annotations(pictures, reconstruction, origin))


class MeasuredView(_State):
    """A display shutter over each pixel that some frame did not measure itself.

    A presentation state has one shutter for all of its frames: of a cine whose aperture moves it leaves what was
    measured in every frame. It is a rectangle where that is one, else a bitmap: circles and polygons count in whole
    pixels, and would show some that were generated.
    """

    def __init__(
        self, source: Dataset, pictures: Sequence[Dataset], reconstruction: Reconstruction, *, origin: Origin
    ) -> None:
        """source: the image that was reconstructed; pictures: what was made of it, of this origin."""
        super().__init__(
            source,
            pictures,
            reconstruction,
            origin=origin,
            part=1,
            content_label="MEASURED_ONLY",
            description="Measured pixels only",
        )
        measured = always(reconstruction.aperture)
        self.ShutterPresentationValue = 0
        box = box_of(measured)
        if box is not None:
            self._shut_round(box)
        else:
            self._shut_over(~measured)

    def _shut_round(self, box: tuple[int, int, int, int]) -> None:
        """Display Shutter (C.7.6.11); its edges count from 1, and are the first and last that are shown."""
        left, top, right, bottom = box
        self.ShutterShape = "RECTANGULAR"
        self.ShutterLeftVerticalEdge = left + 1
        self.ShutterRightVerticalEdge = right
        self.ShutterUpperHorizontalEdge = top + 1
        self.ShutterLowerHorizontalEdge = bottom

    def _shut_over(self, hidden: NDArray[np.bool_]) -> None:
        """Bitmap Display Shutter (C.7.6.15), with its Overlay Plane (C.9.2)."""
        self.ShutterShape = "BITMAP"
        self.ShutterOverlayGroup = _OVERLAY
        bits = np.packbits(hidden, bitorder="little").tobytes()
        for element, vr, value in (
            (0x0010, "US", hidden.shape[0]),
            (0x0011, "US", hidden.shape[1]),
            (0x0040, "CS", "G"),
            (0x0050, "SS", [1, 1]),
            (0x0100, "US", 1),
            (0x0102, "US", 0),
            (0x3000, "OW", bits + b"\0" * (len(bits) % 2)),
        ):
            self.add_new((_OVERLAY, element), vr, value)


def _annotations(pictures: Sequence[Dataset], reconstruction: Reconstruction, origin: Origin) -> Iterator[Dataset]:
    """For each still view the border of all that was measured and, within it, of what was in the frame itself.

    The label keeps one place through the cine where one lies outside of what was measured in every frame.
    """
    place = _place(ever(reconstruction.aperture) | ever(reconstruction.elsewhen), origin.mark)
    for frames in still_views(reconstruction.aperture, reconstruction.elsewhen):
        aperture, elsewhen = (mask[frames.start] for mask in (reconstruction.aperture, reconstruction.elsewhen))
        lines = outlines(aperture | elsewhen) + (outlines(aperture) if elsewhen.any() else [])
        for part in range(frames.start, frames.stop, _MOST_FRAMES):
            annotation = Dataset()
            annotation.ReferencedImageSequence = _frames(pictures, slice(part, min(frames.stop, part + _MOST_FRAMES)))
            annotation.GraphicLayer = _LAYER
            annotation.GraphicObjectSequence = [
                GraphicObject(graphic_type="POLYLINE", graphic_data=line, units="PIXEL") for line in lines
            ]
            annotation.TextObjectSequence = [_label(origin.mark, place or _place(aperture | elsewhen, origin.mark))]
            yield annotation


def _place(taken: NDArray[np.bool_], mark: Mark) -> tuple[int, int, int, int] | None:
    """Where the label has room beside `taken` (h, w), and, where there are two places, beside the one burned in."""
    box = label_box(taken, mark)
    if box is None or not mark.burned_in:
        return box
    left, top, right, bottom = box
    occupied = taken.copy()
    occupied[top:bottom, left:right] = True
    return label_box(occupied, mark) or box


def _label(mark: Mark, box: tuple[int, int, int, int] | None) -> TextObject:
    """The label where it has room beside what was measured, or else at the corner of the picture."""
    if box is None:
        return TextObject(text_value=mark.label, units="PIXEL", anchor_point=(0.0, 0.0))
    return TextObject(text_value=mark.label, units="PIXEL", bounding_box=tuple(float(edge) for edge in box))


def _frames(pictures: Sequence[Dataset], frames: slice) -> list[Dataset]:
    """References to some frames, whether they are of one picture or a picture each (Table 10-3)."""
    if "NumberOfFrames" not in pictures[0]:
        return [reference(picture) for picture in pictures[frames]]
    image = reference(pictures[0])
    if frames != slice(0, int(pictures[0].NumberOfFrames)):
        image.ReferencedFrameNumber = list(range(frames.start + 1, frames.stop + 1))
    return [image]
