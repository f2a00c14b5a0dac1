"""Orthanc's web viewer in Debian's Chromium: what a radiologist would see of objects.

with viewer(tmp_path) as screen:
    picture = screen.show(dataset)          an array, (height, width), of the screen's grey levels

`python -m tests.viewer OUT.png FILE...` makes the documentation's picture of these files, side by side.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.nodes import LONG
from tests.peers import Orthanc, orthanc

PLUGINS = "/usr/share/orthanc/plugins/libOrthanc{}.so"
#: Above and below a square picture there is room for what the viewer writes into the corners.
WIDTH, HEIGHT, TIMELINE = 700, 900, 20


class Screen:
    """The viewer's page."""

    def __init__(self, pacs: Orthanc, page: Page) -> None:
        self._pacs = pacs
        self._page = page

    def screenshot(self, file: bytes) -> Image.Image:
        """What is on the screen when the first frame of an object is shown."""
        series = self._pacs.ask("/instances", file)["ParentSeries"]
        with self._page.expect_response(lambda answer: "/web-viewer/instances/" in answer.url) as answer:
            self._page.goto(f"http://127.0.0.1:{self._pacs.http_port}/web-viewer/app/viewer.html?series={series}")
        assert answer.value.ok
        self._page.wait_for_load_state("networkidle")
        return Image.open(BytesIO(self._page.screenshot()))

    def show(self, file: bytes) -> NDArray[np.uint8]:
        """The square in which a square picture is shown, in grey."""
        top = (HEIGHT - TIMELINE - WIDTH) // 2
        return np.asarray(self.screenshot(file).convert("L").crop((0, top, WIDTH, top + WIDTH)))


@contextmanager
def viewer(folder: Path, *decoders: str) -> Iterator[Screen]:
    """A viewer on an archive of its own; decoders: plug-ins beside those that the viewer has itself, such as `Gdcm`."""
    plugins = [PLUGINS.format(name) for name in ("WebViewer", *decoders)]
    with (
        orthanc(folder / "orthanc", Plugins=plugins, WebViewer={"CachePath": str(folder / "cache")}) as pacs,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        # A browser that draws without a GPU is slow on a machine that does much else.
        page.set_default_timeout(1000 * LONG)
        yield Screen(pacs, page)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, viewer(Path(place), "Gdcm") as screen:
        shots = [screen.screenshot(Path(name).read_bytes()) for name in sys.argv[2:]]
    whole = Image.new("RGB", (WIDTH * len(shots), HEIGHT))
    for number, shot in enumerate(shots):
        whole.paste(shot, (number * WIDTH, 0))
    whole.save(sys.argv[1], optimize=True)
