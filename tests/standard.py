"""The standard's module tables (PS3.3), as two packages carry them: which modules a class has, and what they ask for.

highdicom's are of a newer edition than those of PyPI's dicom-standard 0.1.0, and written by other hands.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from typing import Any

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.datadict import keyword_for_tag


@dataclass(frozen=True)
class Row:
    """An attribute of a module."""

    #: Keywords of the sequences that lead to it.
    path: tuple[str, ...]
    keyword: str
    #: 1, 1C, 2, 2C or 3 (PS3.5 7.4).
    type: str


@dataclass(frozen=True)
class Module:
    """A module of a class of objects."""

    key: str
    #: M, C or U (PS3.3 A.1.3).
    usage: str
    rows: tuple[Row, ...]


@cache
def highdicom_modules(sop_class_uid: str) -> list[Module]:
    """The modules of a class by highdicom's tables."""
    tables = get_module_attribute_map()
    return [
        Module(
            module["key"],
            module["usage"],
            tuple(Row(tuple(row["path"]), row["keyword"], row["type"]) for row in tables[module["key"]]),
        )
        for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
    ]


@cache
def dicom_standard_modules(sop_class_uid: str) -> list[Module]:
    """The modules of a class by dicom-standard's tables."""
    (iod,) = (row["ciod"] for row in _read("sops") if row["id"] == sop_class_uid)
    (key,) = (row["id"] for row in _read("ciods") if row["name"] == iod)
    return [
        Module(row["moduleId"], row["usage"], _rows(row["moduleId"]))
        for row in _read("ciod_to_modules")
        if row["ciodId"] == key
    ]


@cache
def dicom_standard_macros() -> set[tuple[str, str, str]]:
    """Sequence, attribute in its item and section of each macro of functional groups by dicom-standard's tables."""
    sections = {row["id"]: row["linkToStandard"].partition("sect_")[2].partition(".html")[0] for row in _read("macros")}
    found = set()
    for row in _read("macro_to_attributes"):
        path = [keyword_for_tag(tag.replace("xx", "00")) for tag in row["path"].split(":")[1:]]
        if len(path) == 2:
            found.add((path[0], path[1], sections[row["macroId"]]))
    return found


@cache
def _rows(module: str) -> tuple[Row, ...]:
    rows = []
    for row in _read("module_to_attributes"):
        if row["moduleId"] == module:
            *path, keyword = (keyword_for_tag(tag.replace("xx", "00")) for tag in row["path"].split(":")[1:])
            rows.append(Row(tuple(path), keyword, row["type"]))
    return tuple(rows)


@cache
def _read(table: str) -> Any:
    # It lies outside the package, where `files` finds it.
    (path,) = (file for file in files("dicom-standard") or () if file.name == f"{table}.json")
    return json.loads(path.read_text(encoding="utf-8"))
