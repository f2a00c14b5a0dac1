"""Of which classes the pictures are that a destination gets."""

from typing import Literal

#: `multiframe_sc`: one Multi-frame Grayscale Byte or Word Secondary Capture, where it can hold the source's values.
#: `single_frames`: a Secondary Capture for each frame, for a system that does not know the multi-frame classes.
#: `like_source`: of the class of the source where that is X-Ray Angiographic or Radiofluoroscopic Image Storage.
ObjectProfile = Literal["multiframe_sc", "single_frames", "like_source"]
