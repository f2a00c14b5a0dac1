"""The modalities, several at once, by storescu or curl, each sending what it has until all of it was acknowledged."""

import json
import random
import re
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import XRayRadiationDoseSRStorage, XRayRadiofluoroscopicImageStorage, generate_uid

from tests.factory import write, xa
from tests.harness.place import Place
from tests.web import RELATED, multipart

#: Seconds that a modality waits for an answer, and between two attempts.
_PATIENCE = "20"
_PAUSE = 0.3
#: The share of modalities that abort their associations instead of releasing them, and of those that send by STOW-RS.
_ABORTING = 0.2
_BY_HTTP = 0.25

_STATUS = re.compile(rb"DIMSE Status\s+: 0x([0-9a-fA-F]{4})")


class Sender(threading.Thread, ABC):
    """One modality with some files, sent at once, and what is left over sent again."""

    def __init__(self, files: list[Path], calling: str) -> None:
        super().__init__(name=calling, daemon=True)
        self.acknowledged: list[Path] = []
        #: Not acknowledged yet.
        self.left = list(files)
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = False

    def run(self) -> None:
        """Send until nothing is left."""
        while self.left and not self._given_up:
            self._process = subprocess.Popen(
                self._command(self.left),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = self._process.communicate()
            for file in self._acknowledged(said, self.left):
                self.left.remove(file)
                self.acknowledged.append(file)
            if self.left:
                time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill the process that sends; the modality tries again."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def give_up(self) -> None:
        """Send no more."""
        self._given_up = True
        self.kill()

    @abstractmethod
    def _command(self, files: list[Path]) -> list[str]: ...

    @abstractmethod
    def _acknowledged(self, said: bytes, sent: list[Path]) -> list[Path]: ...


class Storescu(Sender):
    """By C-STORE over one association."""

    def __init__(self, port: int, files: list[Path], calling: str, *, aborts: bool) -> None:
        super().__init__(files, calling)
        self._base = ["storescu", "-d", "-R", "-aet", calling, "-aec", "FULLFIELD"]
        self._base += ["-to", _PATIENCE, "-ta", _PATIENCE, "-td", _PATIENCE, "127.0.0.1", str(port)]
        self._base += ["--abort"] if aborts else []

    def _command(self, files: list[Path]) -> list[str]:
        return [*self._base, *map(str, files)]

    def _acknowledged(self, said: bytes, sent: list[Path]) -> list[Path]:
        """What was answered with success, in the order of sending, up to the first that was not."""
        answers = [int(status, 16) for status in _STATUS.findall(said)]
        return [file for file, _ in zip(sent, takewhile(lambda status: status == 0, answers), strict=False)]


class Curl(Sender):
    """By STOW-RS in one request (PS3.18 10.5)."""

    def __init__(self, port: int, files: list[Path], calling: str, message: Path) -> None:
        """message: a file to be written, with what is sent."""
        super().__init__(files, calling)
        self._port = port
        self._message = message

    def _command(self, files: list[Path]) -> list[str]:
        self._message.write_bytes(multipart([file.read_bytes() for file in files]))
        headers = ["-H", f"Content-Type: {RELATED}", "-H", "Accept: application/dicom+json"]
        url = f"http://127.0.0.1:{self._port}/dicom-web/studies"
        return ["curl", "-s", "-m", _PATIENCE, *headers, "--data-binary", f"@{self._message}", url]

    def _acknowledged(self, said: bytes, sent: list[Path]) -> list[Path]:
        """What the answer names as stored (PS3.18 I.2.2)."""
        try:
            answer = Dataset.from_json(json.loads(said))
            stored = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence") or []}
        except (ValueError, TypeError, AttributeError):
            return []  # broken off, or an answer of another kind
        return [file for file in sent if dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID in stored]


@dataclass(frozen=True)
class Visit:
    """What a step brings."""

    senders: list[Sender]
    #: Of the studies of its cines, and in the PACS before these are sent.
    earlier: list[Path]


class Ward:
    """Makes what is sent; the same for the same seed and step."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        folder.mkdir(parents=True, exist_ok=True)

    def visit(self, step: int, here: Place, dice: random.Random) -> Visit:
        """Two modalities or three: cines from some, dose reports at once from the other."""
        drawn = iter(range(1000))

        def made(**attributes: object) -> Path:
            number = next(drawn)
            uids = {
                f"{level}_instance_uid": generate_uid(entropy_srcs=[f"{self._seed}/{step}/{number}/{level}"])
                for level in ("study", "series", "sop")
            }
            dataset: Dataset = xa(rows=32, columns=32, seed=number, **uids | attributes)  # type: ignore[arg-type]
            return write(dataset, self._folder / f"{step}-{number}.dcm")

        def earlier_than(cine: Path) -> Path:
            study = str(dcmread(cine, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
            return made(sop_class=XRayRadiofluoroscopicImageStorage, Modality="RF", study_instance_uid=study)

        study, series = (generate_uid(entropy_srcs=[f"{self._seed}/{step}/{kind}"]) for kind in ("doses", "dose"))
        cines = [made(frames=dice.choice([2, 2, 3, 8])) for _ in range(dice.choice([1, 1, 2]))]
        doses = [
            made(
                sop_class=XRayRadiationDoseSRStorage,
                frames=0,
                missing=["PixelData"],
                study_instance_uid=study,
                series_instance_uid=series,
                instance_number=number,
            )
            for number in range(1, dice.randint(2, 5))
        ]

        def sender(number: int, files: list[Path]) -> Sender:
            calling, aborts = f"CARM{number}", dice.random() < _ABORTING
            if dice.random() < _BY_HTTP:
                return Curl(here.to_nodes_web.port, files, calling, self._folder / f"{step}-{calling}.message")
            return Storescu(here.to_node.port, files, calling, aborts=aborts)

        return Visit(
            senders=[sender(number, files) for number, files in enumerate([*([cine] for cine in cines), doses], 1)],
            earlier=list(map(earlier_than, cines)),
        )
