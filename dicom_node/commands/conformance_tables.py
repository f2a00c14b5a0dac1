"""The tables of the conformance statement, from what listener, sender and web server negotiate and serve."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext

from config.objects import Beside
from config.settings import Settings, StorageSettings, WebSettings
from dicom_node.lossless import LOSSLESS
from dicom_node.lossy import LOSSY
from dicom_node.network.contexts import TRANSFER_SYNTAXES, UNCOMPRESSED
from dicom_node.network.dicomweb.places import ROOT
from dicom_node.network.statuses import Status
from dicom_node.node import Node
from dicom_node.objects import concepts
from dicom_node.sop_classes import BESIDE, KEPT_ONLY, PASSED_ON, PICTURES, RECEIVED, RECONSTRUCTED
from storage.levels import COUNTED, KEPT, UNIQUE_KEY, Level
from storage.matching import Key

Rows = Iterable[Sequence[str]]

_STORAGE = {context.abstract_syntax for context in AllStoragePresentationContexts}


@dataclass(frozen=True)
class Offered:
    """What a node offers on which every port is open."""

    contexts: tuple[PresentationContext, ...]
    #: Methods and path of each request that is served by HTTP.
    requests: tuple[tuple[str, str], ...]


def offered() -> Offered:
    """As a node composes it; nothing is started."""
    with tempfile.TemporaryDirectory() as folder:
        routes = Path(folder) / "routes.toml"
        routes.touch()
        settings = Settings(
            routes=routes,
            storage=StorageSettings(root=Path(folder)),
            web=WebSettings(port=1),
        )
        node = Node(settings, [])
        paths: Mapping[str, Any] = node.web_application.openapi()["paths"]
        requests = [(", ".join(sorted(map(str.upper, methods))), path) for path, methods in paths.items()]
        node.stop()
    return Offered(node.contexts, tuple(requests))


def table(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def requests(offer: Offered) -> str:
    """What is served by HTTP under the root of DICOMweb (PS3.18 10)."""
    return table(
        ("transaction", "method", "path"),
        (
            (_transaction(method, path), method, f"`{path}`")
            for methods, path in offer.requests
            if ROOT in path
            for method in methods.split(", ")
        ),
    )


def transfer_syntaxes() -> str:
    """All that is received, by the names of the sets in which the tables of contexts mean them."""
    return table(
        ("transfer syntax", "UID", "loses nothing", "set"),
        (
            (
                syntax.name,
                syntax,
                "no" if syntax in LOSSY else "yes",
                "uncompressed, all" if syntax in UNCOMPRESSED else "all",
            )
            for syntax in TRANSFER_SYNTAXES
        ),
    )


def stored_classes(contexts: Sequence[PresentationContext]) -> str:
    """Storage SOP classes of which the node is the SCP."""
    fates = {
        **dict.fromkeys(KEPT_ONLY, "kept"),
        **dict.fromkeys(PASSED_ON, "passed on as it came"),
        **dict.fromkeys(RECONSTRUCTED, "reconstructed"),
    }
    found = {context.abstract_syntax: context for context in contexts if not context.scp_role}
    return table(
        ("SOP class", "UID", "transfer syntaxes", "what a route does with it"),
        ((UID(each).name, each, _set(found[each]), fates[UID(each)]) for each in RECEIVED),
    )


def other_classes(contexts: Sequence[PresentationContext]) -> str:
    """SOP classes of the other services, with the role that the node has in an association that a peer opens."""
    return table(
        ("SOP class", "UID", "transfer syntaxes", "role of the node"),
        (
            (context.abstract_syntax.name, context.abstract_syntax, _set(context), "SCU" if context.scp_role else "SCP")
            for context in contexts
            if context.abstract_syntax not in RECEIVED and not is_sent_back(context)
        ),
    )


def is_sent_back(context: PresentationContext) -> bool:
    """Whether a context is for the objects of a C-GET."""
    return bool(context.scp_role) and context.abstract_syntax in _STORAGE


def sent_back(contexts: Sequence[PresentationContext]) -> str:
    """Storage SOP classes that a peer may have sent to it by C-GET."""
    return table(
        ("SOP class", "UID", "transfer syntaxes"),
        (
            (context.abstract_syntax.name, context.abstract_syntax, _set(context))
            for context in contexts
            if is_sent_back(context)
        ),
    )


def created_objects() -> str:
    """Objects that the node makes."""
    made = {
        "MultiFrameGrayscaleByteSecondaryCaptureImageStorage": '`objects = "multiframe_sc"`, of 8 bits or fewer',
        "MultiFrameGrayscaleWordSecondaryCaptureImageStorage": '`objects = "multiframe_sc"`, of more than 8 bits',
        "SecondaryCaptureImageStorage": '`objects = "single_frames"`, or where the multi-frame classes cannot hold it',
        "XRayAngiographicImageStorage": '`objects = "like_source"`, of a source of this class',
        "XRayRadiofluoroscopicImageStorage": '`objects = "like_source"`, of a source of this class',
        "SegmentationStorage": "`segmentation`: BINARY; `uncertainty`: FRACTIONAL",
        "GrayscaleSoftcopyPresentationStateStorage": "`presentation_state`: one marks generated pixels, one hides them",
        "ComprehensiveSRStorage": "`report`",
    }
    default = ", ".join(f"`{key}`" for key, wanted in vars(Beside()).items() if wanted)
    rows: Rows = (
        (
            each.name,
            each,
            "picture" if each in PICTURES else "beside the picture",
            made[each.keyword],
            "lossless, uncompressed" if each in PICTURES else "uncompressed",
        )
        for each in (*PICTURES, *BESIDE)
    )
    made_of = table(("IOD", "UID", "what it is", "made for", "proposed in"), rows)
    lossless = ", ".join(syntax.name for syntax in LOSSLESS)
    beside = f"Beside a picture go, by default: {default}."
    return f"{made_of}\n\n{beside} *lossless* are: {lossless}, the first that is taken."


def query_attributes() -> Iterator[str]:
    """What can be asked for at each level, and how it matches (PS3.4 C.2.2.2)."""
    for level in Level:
        rows = [
            (f"({tag[:4]},{tag[4:]})", keyword, dictionary_VR(tag), _type(level, keyword), _matching(keyword))
            for keyword, tag in (KEPT[level] | COUNTED[level]).items()
        ]
        yield f"#### {level.value.capitalize()}"
        yield table(("tag", "keyword", "VR", "key", "matching"), rows)


def statuses(meanings: Mapping[Status, str], behaviour: str = "meaning") -> str:
    """The statuses of a service."""
    return table(("status", behaviour), ((f"0x{status:04X}", meaning) for status, meaning in meanings.items()))


def private_codes() -> str:
    """The codes of the node's own scheme."""
    found = {code for code in vars(concepts).values() if getattr(code, "scheme_designator", "") == concepts.SCHEME}
    return table(("code", "meaning"), ((code.value, code.meaning) for code in sorted(found, key=lambda c: c.value)))


def _transaction(method: str, path: str) -> str:
    if method == "POST":
        return "Store (STOW-RS)"
    searched = path.rpartition("/")[2] in ("studies", "series", "instances")
    return "Search (QIDO-RS)" if searched else "Retrieve (WADO-RS)"


def _set(context: PresentationContext) -> str:
    """The name of a set of transfer syntaxes."""
    sets = {frozenset(UNCOMPRESSED): "uncompressed", frozenset(TRANSFER_SYNTAXES): "all"}
    return sets.get(frozenset(context.transfer_syntax)) or ", ".join(UID(one).name for one in context.transfer_syntax)


def _type(level: Level, keyword: str) -> str:
    return "unique" if UNIQUE_KEY[level] == keyword else "optional"


def _matching(keyword: str) -> str:
    if any(keyword in COUNTED[each] for each in Level) and keyword not in ("ModalitiesInStudy", "SOPClassesInStudy"):
        return "told only"
    vr = dictionary_VR(keyword)
    if vr == "SQ":
        return "sequence"
    if Key(tag="", keyword=keyword, vr=vr, values=("*x",)).has_wildcards:
        return "single value, wildcard"
    if vr in ("DA", "TM", "DT"):
        return "single value, range"
    return "single value, list" if vr == "UI" else "single value"
