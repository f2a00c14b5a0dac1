"""Part-10 files as the harness compares them."""

from io import BytesIO

from pydicom import dcmread


def data_set(content: bytes) -> bytes:
    """The bytes of a part-10 file after its header, whose length stands in its first element (PS3.10 7.1)."""
    header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=[]).file_meta
    return content[128 + 4 + 12 + header.FileMetaInformationGroupLength :]
