"""OHIF, a viewer that runs in the browser and knows archives by DICOMweb alone: what a radiologist sees of a node.

site = Site()
with serving(tmp_path, {"origins": [site.origin]}) as node, ohif(site, node.url) as viewer:
    viewer.open(study_instance_uid)
    picture = viewer.picture()              an array, (32, 32), of the screen's grey levels

`make test-long` has npm fetch it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.nodes import LONG
from tests.peers import wait_until

PAGES = Path(__file__).parents[1] / ".venv" / "ohif" / "package" / "dist"
#: Cornerstone draws with WebGL; on a machine without a GPU Chromium does it in software.
_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_WIDTH, _HEIGHT, _COARSE = 1400, 900, 32


class Site:
    """The viewer's own web server, with the node as its only archive."""

    def __init__(self) -> None:
        self.configuration: dict[str, object] = {}
        site = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/app-config.js":
                    self.send_response(200)
                    self.send_header("Content-Type", "text/javascript")
                    self.end_headers()
                    self.wfile.write(f"window.config = {json.dumps(site.configuration)}".encode())
                    return
                if not (PAGES / self.path.split("?")[0].lstrip("/")).is_file():
                    self.path = "/index.html"
                super().do_GET()

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=PAGES))
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["Site"]:
        """From start to stop."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        yield self
        self._server.shutdown()
        self._server.server_close()


class Viewer:
    """The viewer's page."""

    def __init__(self, page: Page, origin: str) -> None:
        self._page = page
        self._origin = origin
        self.errors: list[str] = []
        page.on("console", self._note)

    def open(self, study_instance_uid: str) -> None:
        """Show a study, and wait until one of its frames is on the screen."""
        self._page.goto(f"{self._origin}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self.wait_for("I:1")

    def show(self, title: str) -> None:
        """Have the series with this description shown."""
        self._page.locator("[data-cy^=study-browser-thumbnail]").filter(has_text=title).first.dblclick()

    def picture(self) -> NDArray[np.uint8]:
        """What is shown of a square picture, without the words above it, in grey and coarse.

        It is drawn half a pixel aside, which fine noise would not be known again in.
        """
        canvas = self._page.locator("canvas.cornerstone-canvas")
        canvas.evaluate("each => each.style.zIndex = 1000")
        shown = Image.open(BytesIO(canvas.screenshot())).convert("L")
        side = min(shown.size)
        left, top = ((whole - side) // 2 for whole in shown.size)
        square = shown.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((_COARSE, _COARSE), Image.Resampling.BOX))

    def wait_for(self, words: str) -> None:
        """Until they can be read somewhere on the page."""
        wait_until(lambda: words in self._page.inner_text("body"), what=words, seconds=LONG)

    def screenshot(self, path: Path) -> None:
        """Of the whole page."""
        self._page.screenshot(path=path)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


@contextmanager
def ohif(site: Site, archive: str) -> Iterator[Viewer]:
    """The viewer in Chromium; archive: where its DICOMweb services are."""
    site.configuration = _configuration(archive)
    with site.running(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *_WEBGL])
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.set_default_timeout(1000 * LONG)
        page.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield Viewer(page, site.origin)
        browser.close()


def _configuration(root: str) -> dict[str, object]:
    archive = {
        "friendlyName": "Fullfield",
        "name": "fullfield",
        "qidoRoot": root,
        "wadoRoot": root,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnail",
        "qidoSupportsIncludeField": True,
        "supportsWildcard": True,
        "supportsFuzzyMatching": False,
        "enableStudyLazyLoad": True,
    }
    source = "@ohif/extension-default.dataSourcesModule.dicomweb"
    return {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "showCPUFallbackMessage": False,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "fullfield",
        "dataSources": [{"namespace": source, "sourceName": "fullfield", "configuration": archive}],
    }
