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
from tests.harness.part10 import data_set
from tests.harness.place import Place
from tests.harness.violations import Violation
from tests.harness.witness import Witness

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
    """The PACS and the other destinations, and what is due there."""

    def __init__(self, here: Place, store: ObjectStore) -> None:
        self._here = here
        self._store = store
        self._due = Counter[Group]()
        #: What the PACS has from elsewhere, by SOP Instance UID.
        self.earlier: dict[str, Sent] = {}
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

    def give_the_pacs(self, sent: Sent) -> None:
        """Let the PACS have an object from elsewhere, which is due nowhere."""
        self._here.pacs.give(sent.file)
        self.earlier[sent.sop_instance_uid] = sent

    def look_at_everything_again(self) -> None:
        """As if nothing had been seen."""
        self._held.clear()
        self._seen_change = 0

    def violations(self, tx: Session, new: list[StoredObject]) -> list[Violation]:
        """What is missing, too much or in another version; new: objects to be compared with what was sent of them."""
        found = self._of_the_pacs(tx)
        for name, witness in self._here.witnesses.items():
            found += self._of(name, witness, new)
        return found

    def _of_the_pacs(self, tx: Session) -> list[Violation]:
        found = []
        arrived, self._seen_change = self._here.pacs.arrivals(self._seen_change)
        for name in arrived:
            content = self._here.pacs.read(name)
            header = dcmread(BytesIO(content), specific_tags=_TAGS)
            uid = str(header.SOPInstanceUID)
            if uid in self.earlier:
                continue
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
        held_and_earlier = len(self._held) + len(self.earlier)
        if (count := self._here.pacs.count()) != held_and_earlier:
            found.append(Violation("twice", f"the PACS holds {count} objects, and was sent {held_and_earlier}"))
        return found

    def _of(self, name: str, witness: Witness, new: list[StoredObject]) -> list[Violation]:
        """Whether another destination was sent what the PACS holds, each in one version."""
        found = []
        if missing := self._held.keys() - witness.versions.keys():
            found.append(Violation("lost", f"{len(missing)} objects were not sent to {name!r}"))
        if more := witness.versions.keys() - self._held.keys():
            found.append(Violation("twice", f"{len(more)} objects were sent to {name!r} and are not due"))
        for row in new:
            made = {hashlib.sha256(self._made(row)).hexdigest()}
            if witness.versions.get(row.sop_instance_uid, made) != made:
                found.append(Violation("twice", f"another version of the object {row.id} was sent to {name!r}"))
        return found

    def _made(self, row: StoredObject) -> bytes:
        """The data set of an object that is to be sent; nothing where its file is missing, which is told elsewhere."""
        path = self._store.path(row.digest)
        return data_set(path.read_bytes()) if path.exists() and path.stat().st_size else b""


def _group(header: Dataset) -> Group:
    return str(header.StudyInstanceUID), str(header.Modality)
