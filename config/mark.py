"""How generated pixels are marked in the picture: a route can change the look, never whether."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Border = Literal["solid", "dashed"]
Position = Literal["auto", "top-left", "top-right", "bottom-left", "bottom-right"]
Contrast = Literal["auto", "bright", "dark"]


class Mark(BaseModel):
    """The border along the aperture and the label beside it, both drawn on generated pixels only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    burned_in: bool = Field(
        default=True,
        description="Draw the mark into the picture. `false`: the presentation state draws it, where a viewer applies "
        "it, and the header says so; a destination that refuses the presentation state fails the job.",
    )
    border: Border = Field(default="solid", description="Line along the edge of the aperture: `solid` or `dashed`.")
    label: str = Field(
        default="GENERATED - NOT MEASURED",
        min_length=3,
        max_length=40,
        pattern=r"^[ -~]*[!-~][ -~]*$",
        description="Text burned into the generated pixels; 3 to 40 printable ASCII characters.",
    )
    position: Position = Field(
        default="auto",
        description="Corner in which the label is placed when the generated area there has room; `auto` "
        "takes the corner with the most room.",
    )
    contrast: Contrast = Field(
        default="auto",
        description="Grey of border and text as displayed: `bright`, `dark`, or `auto` for what stands out "
        "more against the pixels around the aperture.",
    )
