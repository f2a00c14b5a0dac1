"""Data sets as answers: in the DICOM JSON model, or in the Native DICOM Model as XML (PS3.18 F, PS3.19 A)."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from starlette.responses import Response

from dicom_node.network.dicomweb.media_types import JSON, XML, preferred, read_accepted
from dicom_node.network.dicomweb.problem import Problem

_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def data_set_answer(accept: str | None, data_set: Dataset, status: int, headers: Mapping[str, str]) -> Response:
    """One data set as it is wanted; Problem (406) if it is wanted in neither form."""
    chosen = preferred(read_accepted(accept), (JSON, XML, "application/json", "application/xml"))
    if chosen is None:
        raise Problem(406, f"The answer is {JSON} or {XML}.")
    attributes = data_set.to_json_dict()
    if chosen in (JSON, "application/json"):
        return Response(json.dumps(attributes), status, headers, media_type=chosen)
    return Response(native_model(attributes), status, headers, media_type=chosen)


def json_answer(accept: str | None, data_sets: Sequence[Any], headers: Mapping[str, str]) -> Response:
    """Data sets in the DICOM JSON model; Problem (406) if another form is wanted."""
    chosen = preferred(read_accepted(accept), (JSON, "application/json"))
    if chosen is None:
        raise Problem(406, f"The answer is {JSON}.")
    return Response(json.dumps(data_sets), 200, headers, media_type=chosen)


def native_model(attributes: Mapping[str, Any]) -> bytes:
    """A data set of the JSON model as XML (PS3.19 A.1)."""
    root = ElementTree.Element("NativeDicomModel", {"xml:space": "preserve"})
    _put_attributes(root, attributes)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _put_attributes(parent: ElementTree.Element, attributes: Mapping[str, Any]) -> None:
    for tag, element in sorted(attributes.items()):
        known = {"keyword": keyword} if (keyword := keyword_for_tag(int(tag, 16))) else {}
        node = ElementTree.SubElement(parent, "DicomAttribute", {"tag": tag, "vr": element["vr"], **known})
        if "InlineBinary" in element:
            binary = element["InlineBinary"]
            node_text = binary if isinstance(binary, str) else base64.b64encode(binary).decode()
            ElementTree.SubElement(node, "InlineBinary").text = node_text
        if "BulkDataURI" in element:
            ElementTree.SubElement(node, "BulkData", {"uri": element["BulkDataURI"]})
        for number, value in enumerate(element.get("Value", []), start=1):
            _put_value(node, element["vr"], str(number), value)


def _put_value(node: ElementTree.Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _put_attributes(ElementTree.SubElement(node, "Item", {"number": number}), value)
    elif vr == "PN":
        name = ElementTree.SubElement(node, "PersonName", {"number": number})
        for group, text in (value or {}).items():
            components = ElementTree.SubElement(name, group)
            for part, component in zip(_NAME_PARTS, text.split("^"), strict=False):
                if component:
                    ElementTree.SubElement(components, part).text = component
    elif value is not None:
        ElementTree.SubElement(node, "Value", {"number": number}).text = str(value)
