"""Copies of pictures in a lossless transfer syntax that their destination takes, made once and kept until it has them.

They lie in the store's `incoming` folder, where what a crash leaves is swept away; a copy that is gone is made anew.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from config.errors import DamagedObject, UnsupportedImage
from dicom_node.lossless import LOSSLESS, rewrite
from dicom_node.network.contexts import UNCOMPRESSED
from dicom_node.sop_classes import PICTURES
from dicom_node.uncompressed import write_uncompressed
from storage.files import ObjectStore

log = structlog.get_logger()

#: Answers which of these SOP classes a destination takes in which of these transfer syntaxes.
Ask = Callable[[Sequence[UID], Sequence[UID]], frozenset[tuple[UID, UID]]]


class LosslessCopies:
    """The copies of results that are on their way, by digest and destination."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def files(self, destination: str, digests: Sequence[str], ask: Ask) -> list[Path]:
        """What to send of each: its copy, made now where there is none, or the file itself.

        ask: asked before the first copy is made. The peer's association is not held open meanwhile: a long cine takes
            longer than many a peer waits. What it raises goes on to the caller.
        """
        classes = {digest: _picture_class(self._store.path(digest)) for digest in digests}
        wanted = {
            digest: sop_class
            for digest, sop_class in classes.items()
            if sop_class is not None and not self._is_kept(digest, destination)
        }
        if wanted:
            taken = ask(sorted(set(wanted.values())), (*LOSSLESS, *UNCOMPRESSED))
            for digest, sop_class in wanted.items():
                self._make(digest, destination, _preferred({syntax for kind, syntax in taken if kind == sop_class}))
        return [
            self._copy(digest, destination) if self._is_kept(digest, destination) else self._store.path(digest)
            for digest in digests
        ]

    def forget(self, destination: str, digest: str) -> None:
        """Remove the copy of what has arrived, or never will."""
        self._copy(digest, destination).unlink(missing_ok=True)

    def _copy(self, digest: str, destination: str) -> Path:
        return self._store.incoming / f"{digest}-for-{destination}"

    def _is_kept(self, digest: str, destination: str) -> bool:
        """Whether there is a copy; it is then as good as new to whoever sweeps."""
        try:
            os.utime(self._copy(digest, destination))
        except FileNotFoundError:
            return False
        return True

    def _make(self, digest: str, destination: str, syntaxes: Sequence[UID]) -> None:
        """A copy in the first of the transfer syntaxes that loses nothing; none where the disk has no room for it."""
        for syntax in syntaxes:
            if not self._store.has_room():
                return
            try:
                handle, name = tempfile.mkstemp(dir=self._store.incoming, prefix="compress-")
                os.close(handle)
            except OSError:
                return
            made = Path(name)
            try:
                if _written(self._store.path(digest), syntax, made):
                    # A name that a power cut left without its bytes would be sent.
                    with made.open("rb") as whole:
                        os.fsync(whole.fileno())
                    made.replace(self._copy(digest, destination))
                    return
                log.info("a picture cannot be had in a transfer syntax", syntax=syntax.name, destination=destination)
            except OSError as error:
                log.warning("a picture is sent as it is", destination=destination, reason=error.strerror)
                return
            finally:
                made.unlink(missing_ok=True)


def _written(path: Path, syntax: UID, target: Path) -> bool:
    """Write a picture anew; whether it can be had in the transfer syntax."""
    if syntax != ImplicitVRLittleEndian:
        return rewrite(path, syntax, target)
    try:
        write_uncompressed(path, target, syntax)
    except (DamagedObject, UnsupportedImage):
        return False  # whoever sends the file tells what is wrong
    return True


def _preferred(taken: set[UID]) -> list[UID]:
    """In which transfer syntaxes a copy is to be made; explicit little endian needs none."""
    compressed = [syntax for syntax in LOSSLESS if syntax in taken]
    implicit = ImplicitVRLittleEndian in taken and ExplicitVRLittleEndian not in taken
    return [*compressed, ImplicitVRLittleEndian] if implicit else compressed


def _picture_class(path: Path) -> UID | None:
    """The SOP class of an uncompressed picture; None for all else."""
    try:
        meta = read_file_meta_info(path)
        sop_class = UID(meta.MediaStorageSOPClassUID)
        return sop_class if sop_class in PICTURES and meta.TransferSyntaxUID == ExplicitVRLittleEndian else None
    except Exception:  # foreign bytes can do anything to the parser; whoever sends the file tells what is wrong
        return None
