"""The UIDs of results: the same source, model and settings always give the same ones (promise 2)."""

import json
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid5

from pydicom.uid import UID

from config.mark import Mark
from config.objects import ObjectProfile
from inference.reconstruction import Mode, Provenance

#: What goes beside a picture. Part of its UIDs, so that the names may never change.
Kind = Literal["segmentation", "presentation state", "report", "uncertainty"]

_NAMESPACE = UUID("d5af2432-fcf5-59b6-ab82-3d7ebfe8c6d3")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the pixels of a result follow from, beside its source: what gives other pixels is another result."""

    route: str
    #: SHA-256 over the weights files.
    model_digest: str
    mode: Mode
    #: Of the noise of a draw; `mean` draws nothing.
    seed: int
    mark: Mark
    #: Of which class the pictures are: a destination with another profile gets objects of its own.
    profile: ObjectProfile = "multiframe_sc"
    #: Number of the way from weights to pixels.
    method: int = 1

    @classmethod
    def of(cls, made: Provenance, *, route: str, mark: Mark, profile: ObjectProfile = "multiframe_sc") -> "Origin":
        """The origin of what a reconstruction gives."""
        return cls(
            route=route,
            model_digest=made.digest,
            mode=made.mode,
            seed=made.seed,
            mark=mark,
            profile=profile,
            method=made.method,
        )


def result_series_uid(source_series_uid: str, origin: Origin) -> UID:
    """UID of the series that holds every result of one source series by one origin, draws of any seed together."""
    return _uid("series", source_series_uid, *_names(origin))


def result_instance_uid(source_sop_uid: str, origin: Origin, part: int = 0) -> UID:
    """UID of a result object; `part` counts the objects when one source gives several."""
    seed = origin.seed if origin.mode == "sample" else None
    return _uid("instance", source_sop_uid, *_names(origin), seed, part)


def companion_series_uid(kind: Kind, source_series_uid: str, origin: Origin) -> UID:
    """UID of the series that holds one kind of object beside the results of one source series by one origin."""
    return _uid(f"{kind} series", source_series_uid, *_names(origin))


def companion_instance_uid(kind: Kind, source_sop_uid: str, origin: Origin, part: int = 0) -> UID:
    """UID of an object that goes beside the results of one source; `part` counts where there are several of a kind."""
    seed = origin.seed if origin.mode == "sample" else None
    return _uid(kind, source_sop_uid, *_names(origin), seed, *([part] if part else []))


def dimension_organization_uid(sop_instance_uid: str) -> UID:
    """UID of the way in which one object of ours orders its frames (PS3.3 C.7.6.17)."""
    return _uid("dimension organization", sop_instance_uid)


def _names(origin: Origin) -> tuple[str, ...]:
    # Only what differs from the defaults, so that a key that is new in some version changes no UID.
    profile = (origin.profile,) if origin.profile != "multiframe_sc" else ()
    method = (f"method {origin.method}",) if origin.method != 1 else ()
    mark = json.dumps(origin.mark.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return (origin.route, origin.model_digest, origin.mode, mark, *profile, *method)


def _uid(*names: str | int | None) -> UID:
    """A UID under 2.25 from a name-based UUID (PS3.5 B.2); JSON keeps different names different."""
    return UID(f"2.25.{uuid5(_NAMESPACE, json.dumps(names)).int}")
