"""A listener with DICOMweb beside it, for tests of what is stored, found and retrieved by HTTP.

with serving(tmp_path) as node:
    node.client().store_instances([xa()])
    assert node.post([part_10(xa())]).status_code == 200
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmwrite

from config.listener import TitleSettings
from config.settings import WebSettings
from dicom_node.network.dicomweb.application import build_application
from dicom_node.network.dicomweb.server import WebServer
from dicom_node.objects.rendering import rendered
from tests.listening import Node, listening
from tests.peers import free_port

BOUNDARY = "a-boundary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


class Web:
    """DICOMweb in front of a listener's intake."""

    def __init__(self, node: Node, title: TitleSettings, **settings: Any) -> None:
        self.node = node
        chosen = WebSettings(port=free_port(), **settings)
        application = build_application(chosen, title, node.intake, node.database, node.store, rendered)
        self.server = WebServer(application, chosen.host, chosen.port)
        self.url = f"http://127.0.0.1:{self.server.port}/dicom-web"

    def client(self, **how: Any) -> DICOMwebClient:
        return DICOMwebClient(self.url, **how)

    def post(self, parts: Sequence[bytes], study: str = "", **headers: str) -> requests.Response:
        path = f"/studies/{study}" if study else "/studies"
        chosen = {"Content-Type": RELATED} | {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(f"{self.url}{path}", data=multipart(parts), headers=chosen, timeout=60)

    def get(self, path: str, accept: str = "*/*", **how: Any) -> requests.Response:
        headers = {"Accept": accept} | how.pop("headers", {})
        return requests.get(f"{self.url}{path}", headers=headers, timeout=60, **how)


@contextmanager
def serving(
    folder: Path, web: dict[str, Any] | None = None, title: dict[str, Any] | None = None, **how: Any
) -> Iterator[Web]:
    """web: settings of `[web]`; title: of the AE title that clients call; how: what `listening` takes."""
    with listening(folder, **how) as node:
        served = Web(node, TitleSettings(**(title or {})), **(web or {}))
        served.server.start()
        try:
            yield served
        finally:
            served.server.stop(2)


def part_10(dataset: Dataset) -> bytes:
    """A data set as a file."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def multipart(parts: Sequence[bytes], media_type: str = "application/dicom") -> bytes:
    """A message of these parts."""
    head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
