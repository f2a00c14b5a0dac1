"""The font in which the label of the mark is written, and which characters it has.

DejaVu Sans Condensed comes along (config/fonts, under the licence there), so that every machine draws the same pixels.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import ConfigError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

OWN = Path(__file__).with_name("fonts") / "DejaVuSansCondensed.ttf"
#: No character has this code: a font shows what it shows for all that it lacks.
LACKING = "\U0010ffff"
#: Pixels a character at which glyphs are compared.
_SIZE = 24


def font(file: str, size: int) -> "FreeTypeFont":
    """The font in a TrueType or OpenType file, or our own where none is named; ConfigError where it can't be read."""
    return _font(file or str(OWN), size)


@cache
def lacking(text: str, file: str) -> str:
    """The first character of a text that the font cannot draw, or nothing; ConfigError as above."""
    drawn = {character: _drawn(character, file) for character in (*text, LACKING)}
    return next((each for each in text if each != " " and drawn[each] in (drawn[LACKING], drawn.get(" "))), "")


@cache
def _font(file: str, size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    try:
        return ImageFont.truetype(file, size)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The font {file} cannot be read here; the administrator installs it or names another."
        ) from error


def _drawn(character: str, file: str) -> bytes:
    """One character by itself, without what a layout would make of it."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (3 * _SIZE, 3 * _SIZE))
    face = font(file, _SIZE).font_variant(layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(page).text((_SIZE, _SIZE), character, fill=255, font=face)
    return page.tobytes()
