"""What objects say of themselves, without their bulk data, which have addresses instead (PS3.18 10.4.1.1.2)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import BYTES_VR

from dicom_node.network.dicomweb.answers import native_model
from dicom_node.network.dicomweb.media_types import JSON, XML, MediaType, matches
from dicom_node.network.dicomweb.places import instance_at
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.sending import Part, related
from dicom_node.stored_picture import PIXEL_DATA, opened
from storage.answers import HeldObject
from storage.files import ObjectStore

#: Bytes beyond which a binary value is told by its address.
LARGEST_INLINE = 1024


def metadata(
    store: ObjectStore, objects: Sequence[HeldObject], services: str, accepted: Sequence[MediaType]
) -> tuple[Iterator[bytes], str]:
    """The pieces of the answer, and its media type; Problem (406) if it is wanted in neither form.

    services: the address under which bulk data are told to lie.
    """
    told = (_attributes(store, object, services) for object in objects)
    for range_ in accepted:
        for name in (JSON, "application/json"):
            if range_.takes(name):
                return _array(told), name
        if range_.has_parts and matches(range_.part, XML):
            return related((Part(media_type=XML, content=[native_model(one)]) for one in told), XML)
    raise Problem(406, f'The answer is {JSON}, or multipart/related; type="{XML}".')


def is_bulk(element: DataElement) -> bool:
    """Whether an element's value is told by its address."""
    return element.VR in BYTES_VR and not element.is_empty and len(element.value) > LARGEST_INLINE


def _array(told: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    before = b"["
    for attributes in told:
        yield before + json.dumps(attributes).encode()
        before = b","
    yield b"]"


def _attributes(store: ObjectStore, object: HeldObject, services: str) -> dict[str, Any]:
    place = instance_at(services, object.study_instance_uid, object.series_instance_uid, object.sop_instance_uid)
    told = {}
    with opened(store.path(object.digest)) as (header, picture):
        for tag in header.keys():  # noqa: SIM118 - iterating would stop at the first value that cannot be read
            if tag.element and (element := _element(header, tag, place)) is not None:
                told[f"{tag:08X}"] = element
        if picture is not None:
            vr = "OB" if picture.length is None else picture.options["pixel_vr"]
            told[f"{PIXEL_DATA:08X}"] = {"vr": vr, "BulkDataURI": _bulk_data_at(place, PIXEL_DATA)}
    told["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    told["00083002"] = {"vr": "UI", "Value": [object.transfer_syntax_uid]}
    return dict(sorted(told.items()))


def _element(header: Dataset, tag: BaseTag, place: str) -> dict[str, Any] | None:
    try:
        element = header[tag]
        if is_bulk(element):
            return {"vr": element.VR, "BulkDataURI": _bulk_data_at(place, tag)}
        told: dict[str, Any] = element.to_json_dict(None, 0)
        json.dumps(told, allow_nan=False)
        return told
    except Exception:
        # A value is decoded when it is asked for, and foreign bytes can raise anything; it counts as missing.
        return None


def _bulk_data_at(place: str, tag: BaseTag) -> str:
    return f"{place}/bulkdata/{tag:08X}"
