"""How generated pixels are marked in the picture: a route can change the look, never whether."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Border = Literal["solid", "dashed"]
Position = Literal["auto", "top-left", "top-right", "bottom-left", "bottom-right"]
Contrast = Literal["auto", "bright", "dark"]


def _printable(value: str) -> str:
    if not value.isprintable() or value.isspace():
        raise ValueError(f"must be text of one line in printable characters, not {value!r}")
    return value


class Mark(BaseModel):
    """The border along the aperture and the label beside it, both drawn on generated pixels only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    burned_in: bool = Field(
        default=True,
        description="Draw the mark into the picture. `false`: the presentation state draws it, where a viewer applies "
        "it, and the header says so; a destination that refuses the presentation state fails the job.",
    )
    border: Border = Field(default="solid", description="Line along the edge of the aperture: `solid` or `dashed`.")
    label: Annotated[str, AfterValidator(_printable)] = Field(
        default="GENERATED - NOT MEASURED",
        min_length=3,
        max_length=40,
        description="Text burned into the generated pixels, in any language; 3 to 40 characters that the font has.",
    )
    font: str = Field(
        default="",
        description="TrueType or OpenType file that the label is written with, at the same path on every machine that "
        "works on jobs. Empty: DejaVu Sans Condensed, which comes along, with Latin, Greek and Cyrillic letters among "
        "others, but no Chinese, Japanese or Korean.",
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
