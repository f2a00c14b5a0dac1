"""One image from decoding to result objects: the same way for the worker and for the command line."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import parse_fragments

from config.errors import StorageFull, StorageUnavailable, UnfamiliarImage, UnsupportedImage
from config.mark import Mark
from config.objects import Beside, ObjectProfile
from dicom_node.deflated import InflatedTooFar, inflated
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.private_blocks import carry_private_blocks
from dicom_node.objects.report import ReportDraft
from dicom_node.objects.secondary_capture import check_identity, secondary_captures
from dicom_node.objects.segmentation import Segmentation
from dicom_node.objects.source_faults import faults
from dicom_node.objects.uncertainty import Uncertainty
from dicom_node.sop_classes import PASSED_ON
from dicom_node.stored_picture import PIXEL_DATA
from dicom_node.workflow.routing import facts
from inference.aperture import find_apertures
from inference.on_disk import as_file, disk_errors_in_words
from inference.pixels import read_cine
from inference.reconstruction import Mode, Reconstruction

if TYPE_CHECKING:  # torch, which takes seconds to import, comes with whoever made the reconstructor
    from inference.reconstruct import Reconstructor

#: Values of more bytes are read when they are asked for.
_LARGE_VALUE = 1 << 12
_UNDEFINED = 0xFFFFFFFF


def read_image(file: Path | BinaryIO) -> Dataset:
    """The data set of a DICOM file, with its pixels still encoded; those of a file on the disk stay there.

    The value of its pixel data is then a file to read them from.
    Raises UnsupportedImage for bytes that are no whole data set, OSError where the file cannot be read.
    """
    try:
        if isinstance(file, Path):
            with file.open("rb") as opened:
                source = _parsed(opened)
        else:
            source = _parsed(file)
    except (MemoryError, StorageFull, StorageUnavailable):
        raise
    except InflatedTooFar as error:
        raise UnsupportedImage(
            "The object needs more room than this machine's disk has, once it is inflated; the administrator lets a "
            "larger machine do it."
        ) from error
    except Exception as error:  # foreign bytes can do anything to the parser
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnsupportedImage("The object cannot be read as DICOM; the sender must send it again.") from error
    if not len(source):  # what pydicom makes of a file that ends within a sequence or a compressed frame
        raise UnsupportedImage("The object is cut off, so that it cannot be read as DICOM; send it again.")
    return source


def results_of(
    source: Dataset,
    reconstructor: "Reconstructor",
    *,
    route: str,
    mark: Mark,
    mode: Mode,
    beside: Beside = Beside(),  # noqa: B008 - it is frozen
    seed: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Dataset]:
    """The objects that carry the reconstruction of `source` to PACS: `reconstruction_of` it, then `objects_of` that."""
    reconstruction = reconstruction_of(source, reconstructor, mode=mode, seed=seed, progress=progress)
    return objects_of(source, reconstruction, route=route, mark=mark, beside=beside).all()


def reconstruction_of(
    source: Dataset,
    reconstructor: "Reconstructor",
    *,
    mode: Mode,
    seed: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Reconstruction:
    """What the model makes of an image.

    seed: of the noise of the `sample` mode; if not given, derived from the image's UID.
    progress: told the share of the frames done, in (0, 1].
    Raises UnsupportedImage, NoAperture or UnfamiliarImage, with a sentence for people, for what is not reconstructed.
    """
    barred = facts(source, "", "").barred
    if barred is not None:
        raise UnsupportedImage(f"{barred[:1].upper()}{barred[1:]}.")
    check_identity(source)
    if source.SOPClassUID in PASSED_ON:
        raise UnsupportedImage(f"An object of the SOP class {source.SOPClassUID.name} holds no picture.")
    seed = seed_of(source) if seed is None else seed
    cine = read_cine(source)
    apertures, aperture_source = find_apertures(source, cine, reconstructor.find_apertures)
    reconstruction = reconstructor.reconstruct(
        cine, apertures, aperture_source, mode=mode, seed=seed, progress=progress
    )
    if reconstruction.strangeness > 1:
        raise UnfamiliarImage("The image is unlike those that the model was trained on; it is not reconstructed.")
    return reconstruction


@dataclass(frozen=True, kw_only=True)
class Results:
    """What carries a reconstruction to some destinations, in the order in which to send it, and the report after that,
    which waits for what becomes of the other images of the job."""

    objects: list[Dataset]
    report: ReportDraft | None

    def all(self) -> list[Dataset]:
        """Every object, of an image that is reconstructed by itself."""
        return self.objects if self.report is None else [*self.objects, self.report.finished()]


def objects_of(
    source: Dataset,
    reconstruction: Reconstruction,
    *,
    route: str,
    mark: Mark,
    profile: ObjectProfile = "multiframe_sc",
    beside: Beside = Beside(),  # noqa: B008 - it is frozen
    private_creators: Collection[str] = (),
    created: datetime | None = None,
) -> Results:
    """What carries a reconstruction to the destinations of one profile.

    First the pictures, see `secondary_captures`, then what refers to them; but first what marks pictures that bear no
    mark themselves.
    beside: what of that there is to be. private_creators: whose private blocks the pictures take over.
    created: when they were made (aware); now if not given.
    """
    if not mark.burned_in and not beside.presentation_state:
        raise ValueError("Generated pixels are marked in the picture or by a presentation state.")
    pictures = secondary_captures(source, reconstruction, route=route, mark=mark, profile=profile, created=created)
    for picture in pictures:
        carry_private_blocks(source, picture, private_creators)
    origin = Origin.of(reconstruction.provenance, route=route, mark=mark, profile=profile)
    states = presentation_states(source, pictures, reconstruction, origin=origin) if beside.presentation_state else []
    companions = list(states)
    if beside.segmentation:
        companions.append(Segmentation(source, pictures, reconstruction, origin=origin))
    if beside.uncertainty:
        companions.append(Uncertainty(source, pictures, reconstruction, origin=origin))
    report = None
    if beside.report:
        notes = faults(source)
        report = ReportDraft.of(source, pictures, companions, reconstruction, origin=origin, notes=notes)
    # Nobody should get unmarked pictures, and then not their mark.
    first = pictures if mark.burned_in else [*states, *pictures]
    rest = companions if mark.burned_in else companions[len(states) :]
    return Results(objects=[*first, *rest], report=report)


def seed_of(source: Dataset) -> int:
    """A seed that is the same for an image each time, 32 bits."""
    return int(hashlib.sha256(str(source.SOPInstanceUID).encode()).hexdigest()[:8], 16)


def _parsed(file: BinaryIO) -> Dataset:
    with ExitStack() as open_files:

        def temporary() -> BinaryIO:
            return open_files.enter_context(tempfile.TemporaryFile())

        with disk_errors_in_words():
            plain = inflated(file, _room_for_a_data_set(), into=temporary)
        return _read(plain or file)


def _read(file: BinaryIO) -> Dataset:
    if isinstance(file, BytesIO):
        return dcmread(file)
    source = dcmread(file, defer_size=_LARGE_VALUE)
    for tag in list(source.keys()):
        element = source.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            mapped = _mapped(file, element) if tag == PIXEL_DATA else None
            source[tag] = source.get_item(tag) if mapped is None else mapped
    return source


def _mapped(file: BinaryIO, element: RawDataElement) -> DataElement | None:
    """The pixel data with a value that is read from the file when it is asked for; None where that cannot be."""
    begin, encapsulated = element.value_tell, element.length == _UNDEFINED
    if encapsulated:
        try:
            file.seek(begin)
            _, fragments = parse_fragments(file)
            file.seek(fragments[-1] + 4)
            end = fragments[-1] + 8 + int.from_bytes(file.read(4), "little")
        except (ValueError, LookupError):  # what it raises for bytes that are no fragments
            return None
    else:
        end = begin + element.length
    length = min(end, os.fstat(file.fileno()).st_size) - begin
    vr = element.VR or "OW"
    if length <= 0 or vr not in ("OB", "OW"):
        return None
    pixels = np.memmap(file, np.uint8, "r", begin, (length,))
    return DataElement(PIXEL_DATA, vr, as_file(pixels, even=False), is_undefined_length=encapsulated)


def _room_for_a_data_set() -> int:
    """Bytes of a data set with whose reconstruction the disk for temporary files is not full yet."""
    return shutil.disk_usage(tempfile.gettempdir()).total // 9
