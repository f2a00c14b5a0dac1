"""The UIDs of results: the same source, route and model always give the same ones (promise 2)."""

import json
from uuid import UUID, uuid5

from pydicom.uid import UID

#: Names this software in file meta information and associations (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = UID("2.25.31490359906222399663935848005695104950")
IMPLEMENTATION_VERSION_NAME = "FULLFIELD"

_NAMESPACE = UUID("d5af2432-fcf5-59b6-ab82-3d7ebfe8c6d3")


def result_series_uid(source_series_uid: str, route: str, model_digest: str) -> UID:
    """UID of the series that holds every result of one source series, by one route and one model."""
    return _uid("series", source_series_uid, route, model_digest)


def result_instance_uid(source_sop_uid: str, route: str, model_digest: str, part: int = 0) -> UID:
    """UID of a result object; `part` counts the objects when one source gives several."""
    return _uid("instance", source_sop_uid, route, model_digest, part)


def _uid(*names: str | int) -> UID:
    """A UID under 2.25 from a name-based UUID (PS3.5 B.2); JSON keeps different names different."""
    return UID(f"2.25.{uuid5(_NAMESPACE, json.dumps(names)).int}")
