"""Whether every destination has what is due, which follows from what senders saw acknowledged, not from the node."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import XRayRadiationDoseSRStorage
from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.files import ObjectStore
from storage.schema import StoredObject
from storage.states import ObjectKind
from tests.harness.place import Place
from tests.harness.violations import Violation

#: Of each cine: its picture, with the modality of the source, and what goes with it.
_OF_A_CINE = ("XA", "SEG", "PR", "PR", "SR")
_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality"]

#: Study Instance UID and modality.
Group = tuple[str, str]


@dataclass(frozen=True)
class Sent:
    """An object that a modality has sent."""

    file: Path
    sop_instance_uid: str
    #: Whether it is itself due at the destinations; of a cine the results are.
    is_passed_on: bool
    #: What is due because of it.
    due: Counter[Group]

    @classmethod
    def read(cls, file: Path) -> "Sent":
        """That of a file."""
        header = dcmread(file, specific_tags=_TAGS)
        is_passed_on = header.SOPClassUID == XRayRadiationDoseSRStorage
        modalities = (str(header.Modality),) if is_passed_on else _OF_A_CINE
        due = Counter((str(header.StudyInstanceUID), modality) for modality in modalities)
        return cls(file, str(header.SOPInstanceUID), is_passed_on, due)


class Destinations:
    """The PACS and the second destination, and what is due there."""

    def __init__(self, here: Place, store: ObjectStore) -> None:
        self._here = here
        self._store = store
        self._due = Counter[Group]()
        #: SOP Instance UIDs of what is itself due.
        self.passed_on: set[str] = set()
        #: What the PACS holds, by SOP Instance UID.
        self._held: dict[str, Group] = {}
        self._seen_change = 0

    def expect(self, sent: Sent) -> None:
        """What comes of this object is due."""
        self._due += sent.due
        if sent.is_passed_on:
            self.passed_on.add(sent.sop_instance_uid)

    def look_at_everything_again(self) -> None:
        """As if nothing had been seen."""
        self._held.clear()
        self._seen_change = 0

    def violations(self, tx: Session, new: list[StoredObject]) -> list[Violation]:
        """What is missing, too much or in another version; new: objects to be compared with what was sent of them."""
        return [*self._of_the_pacs(tx), *self._of_the_other(new)]

    def _of_the_pacs(self, tx: Session) -> list[Violation]:
        found = []
        arrived, self._seen_change = self._here.pacs.arrivals(self._seen_change)
        for name in arrived:
            content = self._here.pacs.read(name)
            header = dcmread(BytesIO(content), specific_tags=_TAGS)
            uid = str(header.SOPInstanceUID)
            self._held[uid] = _group(header)
            row = tx.scalars(
                select(StoredObject).where(StoredObject.sop_instance_uid == uid, StoredObject.kind != ObjectKind.ASIDE)
            ).one_or_none()
            if row is None:
                found.append(Violation("twice", "the PACS holds an object that the node does not know"))
            elif data_set(content) != self._made(row):
                found.append(Violation("twice", f"the PACS holds another version of the object {row.id}"))
        held = Counter(self._held.values())
        for (study, modality), count in sorted((self._due - held).items()):
            found.append(Violation("lost", f"{count} {modality} of the study {study} are not in the PACS"))
        for (study, modality), count in sorted((held - self._due).items()):
            found.append(Violation("twice", f"{count} {modality} of the study {study} are too many in the PACS"))
        if forgotten := self.passed_on - self._held.keys():
            found.append(Violation("lost", f"{len(forgotten)} dose reports are not in the PACS"))
        if (count := self._here.pacs.count()) != len(self._held):
            found.append(Violation("twice", f"the PACS holds {count} objects, and was sent {len(self._held)}"))
        return found

    def _of_the_other(self, new: list[StoredObject]) -> list[Violation]:
        """Whether the other destination was sent what the PACS holds, each in one version."""
        found = []
        versions = self._here.witness.versions
        if missing := self._held.keys() - versions.keys():
            found.append(Violation("lost", f"{len(missing)} objects were not sent elsewhere"))
        if more := versions.keys() - self._held.keys():
            found.append(Violation("twice", f"{len(more)} objects were sent elsewhere and are not due"))
        for row in new:
            made = {hashlib.sha256(self._made(row)).hexdigest()}
            if versions.get(row.sop_instance_uid, made) != made:
                found.append(Violation("twice", f"another version of the object {row.id} was sent elsewhere"))
        return found

    def _made(self, row: StoredObject) -> bytes:
        """The data set of an object that is to be sent; nothing where its file is missing, which is told elsewhere."""
        path = self._store.path(row.digest)
        return data_set(path.read_bytes()) if path.exists() and path.stat().st_size else b""


def data_set(content: bytes) -> bytes:
    """The bytes of a part-10 file after its header, whose length stands in its first element (PS3.10 7.1)."""
    header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=[]).file_meta
    return content[128 + 4 + 12 + header.FileMetaInformationGroupLength :]


def _group(header: Dataset) -> Group:
    return str(header.StudyInstanceUID), str(header.Modality)
