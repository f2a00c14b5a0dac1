"""Of which classes the pictures are that a destination gets, and what goes beside them."""

from dataclasses import dataclass
from typing import Literal

#: `multiframe_sc`: one Multi-frame Grayscale Byte or Word Secondary Capture, where it can hold the source's values.
#: `single_frames`: a Secondary Capture for each frame, for a system that does not know the multi-frame classes.
#: `like_source`: of the class of the source where that is X-Ray Angiographic or Radiofluoroscopic Image Storage.
ObjectProfile = Literal["multiframe_sc", "single_frames", "like_source"]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Which objects go beside a picture; the keys of a route say what each is."""

    segmentation: bool = True
    presentation_state: bool = True
    report: bool = True
    uncertainty: bool = False
