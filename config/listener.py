"""The settings of the listener: its ports, and of each of its AE titles who may call it and how much it takes."""

from typing import Literal, Self

from pydantic import Field, model_validator

from config.network import AddressRange, AETitle, Host, Port
from config.section import Section

#: Keywords (PS3.6 A) of the transfer syntaxes that are received.
TransferSyntax = Literal[
    "ExplicitVRLittleEndian",
    "ImplicitVRLittleEndian",
    "DeflatedExplicitVRLittleEndian",
    "ExplicitVRBigEndian",
    "JPEGLosslessSV1",
    "JPEGLossless",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "HTJ2KLossless",
    "HTJ2KLosslessRPCL",
    "RLELossless",
    "JPEGBaseline8Bit",
    "JPEGExtended12Bit",
    "JPEGLSNearLossless",
    "JPEG2000",
    "HTJ2K",
]


class AllowedPeer(Section):
    """A DICOM system that may open associations to the listener."""

    ae_title: AETitle = Field(description="Calling AE title of the peer.")
    addresses: tuple[AddressRange, ...] = Field(
        default=(),
        description="IP addresses or networks (`10.1.2.0/24`) it may call from; empty: any.",
    )
    port: Port | None = Field(
        default=None,
        description="TCP port on which it takes reports on storage commitment, at the address that it asked from; "
        "unset: it gets them over associations that it opens itself.",
    )
    certificate: str | None = Field(
        default=None,
        min_length=1,
        description="Name that its certificate must bear, as common name or alternative name. It may then call over "
        "TLS only, and gets its reports over TLS. Unset: it may call over either.",
    )
    transfer_syntaxes: tuple[TransferSyntax, ...] = Field(
        default=(),
        description="Transfer syntaxes to take from it before others, the most wanted first, where it leaves the "
        "choice. Then, and if empty, its own order counts, but one that loses nothing before one that does.",
    )


class TitleSettings(Section):
    """An AE title of the listener: who may call it, and how much it takes."""

    ae_title: AETitle = Field(
        default="FULLFIELD",
        description="AE title of this node. An association that calls another title is refused.",
    )
    allow: tuple[AllowedPeer, ...] = Field(
        default=(),
        description="Systems that may call, one `[[listener.allow]]` each; empty: any calling AE title.",
    )
    max_associations: int = Field(
        default=32,
        ge=1,
        le=1000,
        description="Associations open at the same time; one more is refused for now.",
    )
    max_pdu: int = Field(
        default=131072,
        ge=4096,
        le=1048576,
        description="Largest protocol data unit offered to peers, in bytes.",
    )
    max_object_mb: int | None = Field(
        default=None,
        ge=1,
        description="Largest object that is kept, in MB; a larger one is refused as out of resources (0xA700). "
        "Unset: any that the disk holds.",
    )
    max_objects_per_second: int | None = Field(
        default=None,
        ge=1,
        description="Objects that are acknowledged in a second, of all peers together; the answers to more are held "
        "back, and when they would be held back for long, a new association is refused for now. Unset: any number.",
    )


class FurtherTitle(Section):
    """An AE title beside the main one, on the same ports. What it does not say is as in `[listener]`.

    Routes tell titles apart by `match.called_ae`.
    """

    ae_title: AETitle = Field(description="The title; unique.")
    allow: tuple[AllowedPeer, ...] | None = Field(
        default=None,
        description="Systems that may call this title, one `[[listener.titles.allow]]` each; `allow = []`: any. Unset: "
        "those that may call the main one.",
    )
    max_associations: int | None = Field(
        default=None, ge=1, le=1000, description="Associations with this title that are open at the same time."
    )
    max_pdu: int | None = Field(
        default=None, ge=4096, le=1048576, description="Largest protocol data unit offered to its peers, in bytes."
    )
    max_object_mb: int | None = Field(default=None, ge=1, description="Largest object that it keeps, in MB.")
    max_objects_per_second: int | None = Field(
        default=None, ge=1, description="Objects that it acknowledges in a second."
    )


class ListenerSettings(TitleSettings):
    """The DICOM listener (C-STORE and C-ECHO SCP) to which modalities push."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` for every network interface.",
    )
    port: int = Field(
        default=11112, ge=0, le=65535, description="TCP port to listen on; 0: none, where only TLS is to be spoken."
    )
    tls_port: Port | None = Field(
        default=None,
        description="TCP port to listen on for associations over TLS, which `[tls]` sets up; the standard's own is "
        "2762. Unset: none.",
    )
    titles: tuple[FurtherTitle, ...] = Field(
        default=(), description="Further AE titles of this node, one `[[listener.titles]]` each."
    )

    @property
    def every_title(self) -> tuple[TitleSettings, ...]:
        """The main title and the further ones, each with all that holds for it."""
        main = TitleSettings(**{name: getattr(self, name) for name in TitleSettings.model_fields})
        said = ({name: value for name, value in title if value is not None} for title in self.titles)
        return main, *(main.model_copy(update=own) for own in said)

    def title(self, ae_title: str) -> TitleSettings | None:
        """What holds for a title; None for one that is not this node's."""
        return next((title for title in self.every_title if title.ae_title == ae_title), None)

    @model_validator(mode="after")
    def _can_be_called(self) -> Self:
        if self.port == 0 and self.tls_port is None:
            raise ValueError("has nothing to listen on: `port` is 0 and `tls_port` is not set")
        names = [self.ae_title, *(title.ae_title for title in self.titles)]
        for twice in {name for name in names if names.count(name) > 1}:
            raise ValueError(f"has the AE title {twice!r} twice")
        return self
