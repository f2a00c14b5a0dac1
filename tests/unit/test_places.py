"""The address that a client is told is one that it can reach: with the port that it has called, or the proxy's."""

import pytest
from starlette.requests import Request

from dicom_node.network.dicomweb.places import services_of


def asked(client: str, **headers: str) -> Request:
    named = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": "/dicom-web/studies",
            "query_string": b"PatientID=1",
            "headers": named,
            "server": ("10.0.0.1", 8042),
            "client": (client, 40000),
        }
    )


@pytest.mark.parametrize(
    ("client", "headers", "told"),
    [
        # Who drops the port, as dicomweb-client does, has called it all the same.
        ("10.0.0.5", {"Host": "node.hospital"}, "http://node.hospital:8042/dicom-web"),
        ("127.0.0.1", {"Host": "127.0.0.1"}, "http://127.0.0.1:8042/dicom-web"),
        ("127.0.0.1", {"Host": "[::1]"}, "http://[::1]:8042/dicom-web"),
        ("10.0.0.5", {"Host": "node.hospital:9000"}, "http://node.hospital:9000/dicom-web"),
        # A proxy on this machine passes on the name that it is called by, one on another says that it is one.
        ("127.0.0.1", {"Host": "pacs.example.org"}, "http://pacs.example.org/dicom-web"),
        ("10.0.0.9", {"Host": "pacs.example.org", "Via": "1.1 proxy"}, "http://pacs.example.org/dicom-web"),
        (
            "127.0.0.1",
            {"Host": "pacs.example.org", "X-Forwarded-Proto": "https"},
            "https://pacs.example.org/dicom-web",
        ),
    ],
)
def test_answers_name_the_services_as_the_client_reaches_them(client, headers, told):
    assert services_of(asked(client, **headers)) == told
