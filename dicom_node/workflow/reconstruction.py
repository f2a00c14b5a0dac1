"""One image from decoding to result objects: the same way for the worker and for the command line."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from config.errors import UnsupportedImage
from config.mark import Mark
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.workflow.routing import facts
from inference.aperture import find_apertures
from inference.pixels import read_cine
from inference.reconstruction import Mode

if TYPE_CHECKING:  # torch, which takes seconds to import, comes with whoever made the reconstructor
    from inference.reconstruct import Reconstructor


def results_of(
    source: Dataset,
    reconstructor: "Reconstructor",
    *,
    route: str,
    mark: Mark,
    mode: Mode,
    seed: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Dataset]:
    """The objects that carry the reconstruction of `source` to PACS, see `secondary_captures`.

    seed: of the noise of the `sample` mode; if not given, derived from the image's UID.
    progress: told the share of the frames done, in (0, 1].
    Raises UnsupportedImage or NoAperture, with a sentence for people, for what is not reconstructed.
    """
    barred = facts(source, "", "").barred
    if barred is not None:
        raise UnsupportedImage(f"{barred[:1].upper()}{barred[1:]}.")
    seed = seed_of(source) if seed is None else seed
    cine = read_cine(source)
    apertures, aperture_source = find_apertures(source, cine, reconstructor.find_apertures)
    reconstruction = reconstructor.reconstruct(
        cine, apertures, aperture_source, mode=mode, seed=seed, progress=progress
    )
    return secondary_captures(source, reconstruction, route=route, mark=mark)


def seed_of(source: Dataset) -> int:
    """A seed that is the same for an image each time, 32 bits; UnsupportedImage for one without a UID."""
    uid = source.get("SOPInstanceUID")
    if not uid:
        raise UnsupportedImage("The header lacks SOPInstanceUID.")
    return int(hashlib.sha256(str(uid).encode()).hexdigest()[:8], 16)
