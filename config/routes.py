"""Routes: which objects are reconstructed, how, and where the results go. One TOML file.

The first route in the order of the file that matches an object takes it.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydicom.datadict import dictionary_VR, keyword_dict

from config.errors import ConfigError
from config.font import lacking
from config.mark import Mark
from config.mistakes import config_error, did_you_mean, place_in, read_toml
from config.network import AETitle, Host, Port
from config.objects import Beside, ObjectProfile
from config.toml_lines import KeyPath

#: The most associations that are open to a destination at a time.
MOST_ASSOCIATIONS = 8

Complete = Literal["multiframe", "association", "quiet"]

#: Value representations that hold numbers (PS3.5 6.2); only they can be compared with minimum and maximum.
NUMERIC_VRS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"})
_NO_RULE_VRS = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "UN", "AT"})


def _keyword(value: str) -> str:
    if value not in keyword_dict or not value:
        raise ValueError(f"must be a DICOM keyword (PS3.6), not {value!r}{did_you_mean(value, keyword_dict)}")
    vr = dictionary_VR(value)
    if vr in _NO_RULE_VRS:
        what = "a sequence" if vr == "SQ" else f"an attribute of value representation {vr}"
        raise ValueError(f"names {value}, {what}; rules look at text and numbers only")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression, but {value!r} is none: {error}") from error
    return value


def _text_or_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be text in quotes or a number")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(f"must be 1 to 64 letters, digits, '.', '_' or '-', not {value!r}")
    return value


def _private_creator(value: str) -> str:
    if not re.fullmatch(r"(?! )[^\\\x00-\x1f]{1,64}(?<! )", value):
        raise ValueError(f"must be 1 to 64 characters without a backslash or blanks around them, not {value!r}")
    return value


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in value:
        raise ValueError("must be an address such as https://pacs.example.org/dicom-web, with no password in it")
    return value.rstrip("/")


Name = Annotated[str, AfterValidator(_name)]


class _Table(BaseModel):
    """A table of the routes file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Table):
    """What one attribute of the object must be: `equals`, or `pattern`, or `minimum` and/or `maximum`.

    An attribute of several values fits when one of them does; an absent or empty one fits no rule.
    """

    keyword: Annotated[str, AfterValidator(_keyword)] = Field(
        description="Keyword of a DICOM attribute (PS3.6), such as `BodyPartExamined`; no sequences."
    )
    equals: Annotated[str | int | float, BeforeValidator(_text_or_number)] | None = Field(
        default=None, description="The value, case-sensitive; a number is compared as a number."
    )
    pattern: Annotated[str, AfterValidator(_pattern)] | None = Field(
        default=None, description="Regular expression (Python's `re`) that the whole value must fit."
    )
    minimum: float | None = Field(default=None, description="Smallest value that fits, for numeric attributes.")
    maximum: float | None = Field(default=None, description="Largest value that fits, for numeric attributes.")

    @model_validator(mode="after")
    def _one_test(self) -> "Rule":
        ranged = self.minimum is not None or self.maximum is not None
        if [self.equals is not None, self.pattern is not None, ranged].count(True) != 1:
            raise ValueError("must hold exactly one of: equals, pattern, minimum and/or maximum")
        if ranged and dictionary_VR(self.keyword) not in NUMERIC_VRS:
            raise ValueError(f"compares {self.keyword} with a minimum or maximum, but it is not a numeric attribute")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"has a minimum of {self.minimum:g} above its maximum of {self.maximum:g}")
        return self


class Match(_Table):
    """What an object must be to take this route: all that is set here; nothing set takes every object."""

    calling_ae: tuple[str, ...] = Field(
        default=(),
        description="AE titles of senders; `*` stands for any characters, `?` for any one. Empty: any.",
    )
    called_ae: tuple[str, ...] = Field(
        default=(),
        description="AE titles by which the sender called this node, written likewise. Empty: any.",
    )
    modality: tuple[str, ...] = Field(default=(), description="Modalities (0008,0060), such as `XA`, `RF`. Empty: any.")
    attributes: tuple[Rule, ...] = Field(
        default=(), description="Rules on attributes, one `[[routes.match.attributes]]` each; all must fit."
    )


class Destination(_Table):
    """A DICOM system that receives results."""

    name: Name = Field(description="Name by which routes mean it; unique.")
    ae_title: AETitle = Field(
        default="",
        description="AE title of the system (called AE title); needed, with `host` and `port`, without `url`.",
    )
    host: Host = Field(default="", description="Host name or IP address.")
    port: Port = Field(default=0, description="TCP port.")
    url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None,
        description="Address of a DICOMweb server, such as `https://pacs.example.org/dicom-web`, which gets results by "
        "STOW-RS, as they were made, in place of `ae_title`, `host` and `port`. Over https it is trusted by "
        "`tls.authorities` of the settings where these are set, else by what Python's requests trusts.",
    )
    user: str = Field(
        default="", description="With `url`: user of HTTP Basic authentication; empty: `token` is shown as it is."
    )
    token: SecretStr | None = Field(
        default=None, description="With `url`: the password of `user`, else a bearer token; unset: nothing is shown."
    )
    calling_ae: AETitle | Literal[""] = Field(
        default="", description="AE title by which to call it; empty: this node's own, `listener.ae_title`."
    )
    commitment: bool = Field(
        default=False,
        description="Whether it is asked for storage commitment when it has acknowledged all of a job: whether it "
        "keeps what it has acknowledged. It must know this node's address and port, to report there.",
    )
    associations: int = Field(
        default=1,
        ge=1,
        le=MOST_ASSOCIATIONS,
        description="How many associations, or HTTP connections, to have open to it at a time when much is due. The "
        "objects of a study go one after another all the same, in the order in which they were made.",
    )
    tls: bool = Field(
        default=False, description="Call it over TLS, which `[tls]` in the settings sets up; nothing goes there else."
    )
    certificate: str = Field(
        default="",
        description="With `tls`: name that its certificate must bear, as common name or alternative name; empty: "
        "`host`.",
    )
    objects: ObjectProfile = Field(
        default="multiframe_sc",
        description="Of which class the pictures are. `multiframe_sc`: one Multi-frame Grayscale Byte or Word "
        "Secondary Capture, or single frames where these cannot hold the source's values; `single_frames`: a Secondary "
        "Capture for each frame; `like_source`: X-Ray Angiographic or Radiofluoroscopic Image Storage as the source, "
        "or as `multiframe_sc` where these cannot hold it.",
    )
    compressed: bool = Field(
        default=True,
        description="Send pictures compressed without loss, where the destination takes them so: JPEG-LS, else JPEG "
        "2000, else RLE. `false` is for one that takes what its viewers cannot show.",
    )

    @property
    def address(self) -> str:
        """The host that is called."""
        return self.host if self.url is None else urlsplit(self.url).hostname or ""

    @model_validator(mode="after")
    def _is_called_one_way(self) -> "Destination":
        by_dicom = [
            name
            for name in ("ae_title", "host", "port", "calling_ae", "commitment", "tls", "certificate")
            if getattr(self, name)
        ]
        if self.url is None:
            missing = [name for name in ("ae_title", "host", "port") if not getattr(self, name)]
            if missing:
                raise ValueError(f"must have {' and '.join(missing)}, or a `url` in place of all three")
            if self.user or self.token:
                raise ValueError("has a user or a token, which only one with a `url` is shown")
        elif by_dicom:
            raise ValueError(f"has a `url`, beside which {by_dicom[0]} means nothing")
        return self


class Route(_Table):
    """One way from an object that arrives to results that are sent."""

    name: Name = Field(description="Name shown in jobs and audit; unique. Part of the results' UIDs.")
    match: Match = Field(default=Match(), description="Which objects take this route.")
    complete: Complete = Field(
        default="multiframe",
        description="When a series is complete and a job begins. `multiframe`: each multi-frame object at "
        "once, single frames when their series was quiet for `quiet_seconds`; `association`: when the "
        "association that brought it ends; `quiet`: when nothing of the series came for `quiet_seconds`.",
    )
    quiet_seconds: float = Field(
        default=10.0,
        gt=0,
        le=86400,
        description="Time without a new object after which a series is complete.",
    )
    profile: Annotated[str, AfterValidator(_name)] = Field(default="fullfield", description="Model profile.")
    mode: Literal["mean", "sample"] = Field(
        default="mean",
        description="`mean`: the best estimate of the hidden field; `sample`: one draw from the model's posterior.",
    )
    mark: Mark = Field(default=Mark(), description="How generated pixels are marked in the picture.")
    segmentation: bool = Field(
        default=True,
        description="Send a Segmentation object of the generated pixels after the picture. A destination that refuses "
        "it gets the picture alone.",
    )
    uncertainty: bool = Field(
        default=False,
        description="Send a FRACTIONAL Segmentation object of how sure the model is of each generated pixel, likewise.",
    )
    presentation_state: bool = Field(
        default=True,
        description="Send Grayscale Softcopy Presentation States, likewise: one marks the generated pixels, one hides "
        "them. Needed where the mark is not burned in.",
    )
    report: bool = Field(
        default=True,
        description="Send a Structured Report of what was generated, by which model and how surely, likewise.",
    )
    private_creators: tuple[Annotated[str, AfterValidator(_private_creator)], ...] = Field(
        default=(),
        description="Private creators (PS3.5 7.8.1) whose blocks of private attributes the pictures take over from the "
        "source; all others stay behind. Make sure that what they say holds for a picture that is partly generated.",
    )
    destinations: tuple[str, ...] = Field(min_length=1, description="Names of the destinations of the results.")
    fetch_priors: Name | Literal[""] = Field(
        default="",
        description="Name of a destination from which the other series of the study are fetched when a job is queued, "
        "to be looked at here beside the results; empty: none. Of the modalities in `match.modality`, else `XA` and "
        "`RF`. It must know this node's address and port, to send there.",
    )
    refetch: Name | Literal[""] = Field(
        default="",
        description="Name of a destination from which an original of this route is fetched again when its file is "
        "found missing or damaged; empty: none. It must know this node's address and port, to send there.",
    )
    priority: int = Field(
        default=50,
        ge=0,
        le=100,
        description="Jobs of higher priority are worked on first; one that waits gains a point a minute.",
    )

    @property
    def beside(self) -> Beside:
        """Which objects go beside the picture."""
        return Beside(
            segmentation=self.segmentation,
            presentation_state=self.presentation_state,
            report=self.report,
            uncertainty=self.uncertainty,
        )

    @model_validator(mode="after")
    def _is_marked(self) -> "Route":
        if not self.mark.burned_in and not self.presentation_state:
            raise ValueError("must mark generated pixels: with mark.burned_in = false, presentation_state is needed")
        return self


class QueuedRoute(Route):
    """A route as a job carries it: with what its destinations were to get when the job was queued."""

    #: Of which class the pictures are for a destination, by its name; one that is not here gets `multiframe_sc`.
    objects: dict[str, ObjectProfile] = {}

    @property
    def by_objects(self) -> dict[ObjectProfile, list[str]]:
        """The destinations of each profile, in the order of the route."""
        grouped: dict[ObjectProfile, list[str]] = {}
        for name in self.destinations:
            grouped.setdefault(self.objects.get(name, "multiframe_sc"), []).append(name)
        return grouped


class RouteTable(_Table):
    """The routes in the order of the file, and the destinations they name."""

    routes: tuple[Route, ...] = Field(default=(), description="Routes; the first that matches an object takes it.")
    destinations: tuple[Destination, ...] = Field(default=(), description="Systems that receive results.")

    def route(self, name: str) -> Route | None:
        """The route of that name, or None when the file has none."""
        return next((route for route in self.routes if route.name == name), None)

    def destination(self, name: str) -> Destination | None:
        """The destination of that name, or None when the file has none."""
        return next((destination for destination in self.destinations if destination.name == name), None)

    @property
    def archives(self) -> frozenset[str]:
        """AE titles of the destinations from which some route fetches."""
        named = {name for route in self.routes for name in (route.fetch_priors, route.refetch)}
        return frozenset(destination.ae_title for destination in self.destinations if destination.name in named)

    def queued(self, route: Route) -> QueuedRoute:
        """What a job carries that is queued by this route now."""
        named = {name: self.destination(name) for name in route.destinations}
        objects = {name: found.objects for name, found in named.items() if found is not None}
        return QueuedRoute(**dict(route), objects=objects)

    @model_validator(mode="after")
    def _agrees_within(self) -> "RouteTable":
        mistakes = [
            InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": fault}), loc=path, input=None)
            for path, fault in _disagreements(self)
        ]
        if mistakes:
            raise ValidationError.from_exception_data(type(self).__name__, mistakes)
        return self


def load_routes(path: Path) -> RouteTable:
    """The routes in `path`; ConfigError: one sentence a mistake, with file, line, key and what is allowed."""
    text, values = read_toml(path)
    try:
        return RouteTable.model_validate(values)
    except ValidationError as error:
        raise config_error(error, RouteTable, place_of=place_in(path, text)) from error


def fits_name(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether an AE title fits one of the patterns of `calling_ae` or `called_ae`; no patterns: any title."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _disagreements(table: RouteTable) -> Iterator[tuple[KeyPath, str]]:
    for list_name, names in (
        ("routes", [route.name for route in table.routes]),
        ("destinations", [destination.name for destination in table.destinations]),
    ):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield (list_name, index, "name"), f"{name!r} is taken; each name may stand once"
    known = [destination.name for destination in table.destinations]
    for index, route in enumerate(table.routes):
        for of_mark, fault in _not_drawn(route.mark):
            yield ("routes", index, "mark", of_mark), fault
        for position, name in enumerate(route.destinations):
            path = ("routes", index, "destinations", position)
            if name not in known:
                hint = did_you_mean(name, known) or f"; known: {', '.join(known) or 'none'}"
                yield path, f"names {name!r}, which is not among the destinations{hint}"
            elif name in route.destinations[:position]:
                yield path, f"names {name!r} a second time"
        for keyword, name in (("fetch_priors", route.fetch_priors), ("refetch", route.refetch)):
            archive = table.destination(name)
            key = ("routes", index, keyword)
            if name and archive is None:
                hint = did_you_mean(name, known) or f"; known: {', '.join(known) or 'none'}"
                yield key, f"names {name!r}, which is not among the destinations{hint}"
            elif archive is not None and archive.url is not None:
                yield key, f"names {name!r}, which is called by HTTP; only from a DICOM system is anything fetched"


def _not_drawn(mark: Mark) -> Iterator[tuple[str, str]]:
    """What keeps a label from being drawn: a viewer, which draws one that is not burned in, has fonts of its own."""
    if not mark.burned_in:
        return
    try:
        character = lacking(mark.label, mark.font)
    except ConfigError:
        yield "font", f"names {mark.font!r}, which cannot be read as a font here"
        return
    if character:
        name = unicodedata.name(character, "no character that has a name")
        hint = "name another font" if mark.font else "name one that has it in mark.font"
        yield "label", f"has {character!r} ({name}), which the font cannot draw; {hint}"
