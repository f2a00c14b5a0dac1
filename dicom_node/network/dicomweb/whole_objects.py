"""Whole objects as application/dicom, in a transfer syntax that is accepted (PS3.18 8.7.3.5 and 10.4)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from config.errors import StorageUnavailable, UnsupportedImage
from dicom_node.lossless import LOSSLESS, rewrite
from dicom_node.network.dicomweb.media_types import DICOM, MediaType, matches
from dicom_node.network.dicomweb.problem import Problem
from dicom_node.network.dicomweb.sending import Part, pieces_of
from dicom_node.stored_picture import open_stored
from dicom_node.uncompressed import write_uncompressed
from storage.answers import HeldObject
from storage.files import ObjectStore

#: They are not used by HTTP (PS3.18 8.7.3.5.2).
_NEVER = (ImplicitVRLittleEndian, ExplicitVRBigEndian)
_ANY = "*"


def accepted_syntaxes(accepted: Sequence[MediaType], *, alone: bool) -> tuple[list[str], bool]:
    """The transfer syntaxes that are accepted, what is wanted most first, and whether in a message of several parts.

    alone: whether there is but one object, which needs no such message. Where none is named it is explicit little
    endian, the default of the standard. Raises Problem (406).
    """
    wanted = [range_ for range_ in accepted if matches(range_.part, DICOM) and (alone or range_.has_parts)]
    if not wanted:
        raise Problem(406, f'The answer is multipart/related; type="{DICOM}", or {DICOM} for one object.')
    return [range_.transfer_syntax or ExplicitVRLittleEndian for range_ in wanted], wanted[0].has_parts


def object_parts(
    store: ObjectStore, objects: Sequence[HeldObject], syntaxes: Sequence[str], sent: set[str]
) -> Iterator[Part]:
    """The objects; into `sent` goes the UID of each that has gone out. Problem (406) for one that cannot be had so."""
    for object in objects:
        with _in_syntax(store, object, syntaxes) as (path, syntax), open_stored(path) as file:
            yield Part(media_type=f"{DICOM}; transfer-syntax={syntax}", content=pieces_of(file))
        sent.add(object.sop_instance_uid)


@contextmanager
def _in_syntax(store: ObjectStore, object: HeldObject, syntaxes: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The object's file in the first of the transfer syntaxes that it can be had in: its own, or a copy for now."""
    stored, path = object.transfer_syntax_uid, store.path(object.digest)
    with ExitStack() as copies:

        def room() -> Path:
            # Where what a crash leaves is swept away.
            return Path(copies.enter_context(NamedTemporaryFile(dir=store.incoming, prefix="retrieve-")).name)

        for wanted in syntaxes:
            syntax = stored if wanted == _ANY and stored not in _NEVER else wanted.replace(_ANY, ExplicitVRLittleEndian)
            if syntax == stored and stored not in _NEVER:
                yield path, stored
                return
            if made := _converted(path, stored, syntax, room):
                yield made, syntax
                return
    raise Problem(406, f"An object that is stored in {UID(stored).name} cannot be had in the form that is accepted.")


def _converted(path: Path, stored: str, syntax: str, room: Callable[[], Path]) -> Path | None:
    """A copy in explicit little endian or compressed without loss; None in what cannot be made of it."""
    if syntax not in (ExplicitVRLittleEndian, *LOSSLESS):
        return None
    try:
        if stored != ExplicitVRLittleEndian:
            plain = room()
            write_uncompressed(path, plain)
            path = plain
        if syntax == ExplicitVRLittleEndian:
            return path
        compressed = room()
        return compressed if rewrite(path, UID(syntax), compressed) else None
    except UnsupportedImage:
        return None
    except OSError as error:
        raise StorageUnavailable(f"A copy cannot be written to the disk: {error.strerror}.") from error
