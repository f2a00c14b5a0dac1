"""Which route takes an object, and why the others do not.

The first route in the order of the file that matches takes it. Reasons are sentences without patient data:
values are shown only of attributes that describe the technique.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from config.routes import Route, RouteTable, Rule, fits_name, load_routes
from dicom_node.sop_classes import PASSED_ON, RECONSTRUCTED
from dicom_node.workflow.generated import why_generated
from dicom_node.workflow.header_text import texts


@dataclass(frozen=True)
class Facts:
    """What routes are matched against."""

    calling_ae: str
    called_ae: str
    modality: str
    #: By what the object says that it is itself generated; None if it does not.
    generated: str | None
    #: Why no route may take the object, whatever it says; None if a route may.
    barred: str | None
    #: The data set, without its pixels.
    header: Dataset


@dataclass(frozen=True)
class Decision:
    """The route that takes an object, or None, and a reason for each route that does not, by its name."""

    route: Route | None
    reasons: dict[str, str]
    #: By what the object says that it is itself generated; then no route takes it.
    generated: str | None


class RouteBook:
    """The routes in force; a reload swaps all of them or none."""

    def __init__(self, path: Path) -> None:
        """Load the routes; ConfigError when the file has a mistake."""
        self._lock = threading.Lock()
        self._table = load_routes(path)

    @property
    def table(self) -> RouteTable:
        """The routes in force now."""
        with self._lock:
            return self._table

    def reload(self, path: Path) -> RouteTable:
        """Put the routes of the file in force; ConfigError, and the old ones stay, when it has a mistake."""
        table = load_routes(path)
        with self._lock:
            self._table = table
        return table


def choose(table: RouteTable, header: Dataset, calling_ae: str, called_ae: str) -> Decision:
    """The first route of the table that matches the object.

    header: the data set, which need not hold pixels.
    """
    known = facts(header, calling_ae, called_ae)
    taken: Route | None = None
    reasons: dict[str, str] = {}
    for route in table.routes:
        obstacles = [known.barred] if known.barred else list(_obstacles(route, known))
        if obstacles:
            reasons[route.name] = "; ".join(obstacles)
        elif taken is None:
            taken = route
        else:
            reasons[route.name] = f"matches too, but {taken.name!r} comes before it in the file"
    return Decision(taken, reasons, known.generated)


def facts(header: Dataset, calling_ae: str, called_ae: str) -> Facts:
    """What the routes look at in an object and in how it came."""
    modality = (texts(header, "Modality") or [""])[0]
    generated = why_generated(header)
    barred = generated or _not_reconstructed(header)
    return Facts(calling_ae.strip(), called_ae.strip(), modality, generated, barred, header)


def _not_reconstructed(header: Dataset) -> str | None:
    """Why no route is to take an object of its class: the models know nothing but fluoroscopy."""
    sop_class = (texts(header, "SOPClassUID") or [""])[0]
    if sop_class and sop_class not in (*RECONSTRUCTED, *PASSED_ON):
        return f"an object of the SOP class {UID(sop_class).name} is not reconstructed"
    return None


def _obstacles(route: Route, known: Facts) -> Iterator[str]:
    match = route.match
    if not fits_name(known.calling_ae, match.calling_ae):
        yield f"calling AE title {_quoted(known.calling_ae)} fits none of {', '.join(match.calling_ae)}"
    if not fits_name(known.called_ae, match.called_ae):
        yield f"called AE title {_quoted(known.called_ae)} fits none of {', '.join(match.called_ae)}"
    if match.modality and known.modality not in match.modality:
        yield f"modality {_quoted(known.modality)} is none of {', '.join(match.modality)}"
    for rule in match.attributes:
        obstacle = _obstacle(rule, known.header)
        if obstacle is not None:
            yield obstacle


def _obstacle(rule: Rule, header: Dataset) -> str | None:
    """Why the attribute does not fit the rule, or None if it does."""
    values = texts(header, rule.keyword)
    if values is None:
        return f"{rule.keyword} holds a value that cannot be read"
    if not values:
        return f"{rule.keyword} is absent or empty"
    if any(_fits(rule, value) for value in values):
        return None
    shown = f" ({_shown(values)})" if _describes_technique(rule.keyword) else ""
    return f"{rule.keyword}{shown} {_unfulfilled(rule)}"


def _fits(rule: Rule, value: str) -> bool:
    if rule.pattern is not None:
        return re.fullmatch(rule.pattern, value) is not None
    if isinstance(rule.equals, str):
        return value == rule.equals.strip()
    number = _number(value)
    if number is None:
        return False
    if rule.equals is not None:
        return number == rule.equals
    above = rule.minimum is None or number >= rule.minimum
    below = rule.maximum is None or number <= rule.maximum
    return above and below


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _unfulfilled(rule: Rule) -> str:
    if rule.pattern is not None:
        return f"does not fit the pattern {rule.pattern!r}"
    if rule.equals is not None:
        return f"is not {rule.equals!r}"
    if rule.minimum is None:
        return f"is not {rule.maximum:g} or less"
    if rule.maximum is None:
        return f"is not {rule.minimum:g} or more"
    return f"is not from {rule.minimum:g} to {rule.maximum:g}"


# Identifying, acquisition, relationship and image presentation attributes. Of these, codes and numbers cannot
# hold a name or a free text; group 0010 (patient) and the like never qualify.
_TECHNICAL_GROUPS = frozenset({0x0008, 0x0018, 0x0020, 0x0028})
_CODES_AND_NUMBERS = frozenset({"CS", "IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"})
_TECHNICAL_NAMES = frozenset({"Manufacturer", "ManufacturerModelName", "StationName", "SoftwareVersions"})
_SHOWN_LENGTH = 64


def _describes_technique(keyword: str) -> bool:
    if keyword in _TECHNICAL_NAMES:
        return True
    tag = tag_for_keyword(keyword)
    if tag is None or tag >> 16 not in _TECHNICAL_GROUPS:
        return False
    return dictionary_VR(tag) in _CODES_AND_NUMBERS


def _shown(values: list[str]) -> str:
    return _printable("\\".join(values))


def _quoted(value: str) -> str:
    return f"'{_printable(value)}'"


def _printable(value: str) -> str:
    """A sender writes what it likes into a header: one short line of it, control characters escaped."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return plain if len(plain) <= _SHOWN_LENGTH else f"{plain[: _SHOWN_LENGTH - 3]}..."
