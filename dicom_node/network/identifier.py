"""What a query or a retrieval asks for: the identifiers of C-FIND, C-MOVE and C-GET requests (PS3.4 C.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset

from dicom_node.network.contexts import FIND, GET, MOVE
from dicom_node.network.statuses import Status, Unacceptable
from storage.levels import UNIQUE_KEY, Level
from storage.matching import Key, UnusableKey, read_keys

#: The information models whose uppermost level is that of patients (PS3.4 C.6.1).
_PATIENT_ROOT = {FIND[1], MOVE[1], GET[1]}

#: What an identifier says beside its keys (PS3.4 C.4.1.1.3), and what the node itself tells of where things are.
_NO_KEYS = {"QueryRetrieveLevel", "SpecificCharacterSet", "TimezoneOffsetFromUTC"}
TOLD_BY_THE_NODE = {"RetrieveAETitle", "InstanceAvailability"}
#: Character sets that need no other beside them, and whose codec has no more characters than they have.
_WHOLE_SETS = {name for name in python_encoding if name.startswith("ISO_IR ")} - {"ISO_IR 6", "ISO_IR 13"} | {"GB18030"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A valid identifier."""

    level: Level
    keys: tuple[Key, ...]
    #: Specific Character Set (0008,0005) of the identifier, if it is one; the answers are best in the same.
    character_set: str
    #: Whether the node does not know some of the keys at all.
    has_strange_keys: bool

    def value(self, keyword: str) -> tuple[str, ...]:
        """The values of a key; none for one that is not asked for, or is universal."""
        return next((key.values for key in self.keys if key.keyword == keyword), ())


def read_identifier(model: str, decoded: Callable[[], Dataset], *, relational: bool = False) -> Asked:
    """What the identifier of a request asks for; Unacceptable with the status to be answered.

    relational: whether keys of any level are allowed (PS3.4 C.4.1.2.2 and C.4.1.3.2); else the levels above are named
        by their unique keys.
    """
    try:
        identifier = decoded()
        said = str(identifier.get("QueryRetrieveLevel") or "").strip()
        character_set = str(identifier.get("SpecificCharacterSet") or "")
    except Exception as error:
        # Foreign bytes can do anything to the parser.
        raise Unacceptable(Status.CANNOT_UNDERSTAND, "The identifier cannot be parsed.") from error
    levels = list(Level) if model in _PATIENT_ROOT else list(Level)[1:]
    if said not in levels:
        raise Unacceptable(Status.MISMATCH, "The Query/Retrieve Level is missing, or is none of the information model.")
    level = Level(said)
    try:
        keys = tuple(key for key in read_keys(identifier) if key.keyword not in _NO_KEYS)
    except UnusableKey as error:
        raise Unacceptable(Status.MISMATCH, str(error)) from error
    asked = Asked(
        level=level,
        keys=keys,
        character_set=character_set if character_set in _WHOLE_SETS else "",
        has_strange_keys=not all(dictionary_has_tag(tag) for tag in list(identifier.keys())),
    )
    if not relational:
        _check_names(asked, levels[: levels.index(level)])
    return asked


def check_named(asked: Asked) -> None:
    """Whether it names what is to be retrieved, by unique keys (PS3.4 C.4.2.1.4.1); else Unacceptable."""
    unique = UNIQUE_KEY[asked.level]
    named = asked.value(unique)
    if not named or any("*" in value or "?" in value for value in named):
        raise Unacceptable(Status.MISMATCH, f"A retrieval at level {asked.level} is to name its {unique}.")


def _check_names(asked: Asked, above: Sequence[Level]) -> None:
    for level in above:
        unique = UNIQUE_KEY[level]
        named = asked.value(unique)
        if len(named) != 1 or "*" in named[0] or "?" in named[0]:
            said = f"A query at level {asked.level} is to name one {unique}, for relational queries were not agreed on."
            raise Unacceptable(Status.MISMATCH, said)
