"""The modalities: storescu, several at once, each sending what it has until all of it was acknowledged."""

import random
import re
import subprocess
import threading
import time
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import XRayRadiationDoseSRStorage, generate_uid

from tests.factory import write, xa

#: Seconds that a modality waits for an answer, and between two attempts.
_PATIENCE = "20"
_PAUSE = 0.3
#: The share of modalities that abort their associations instead of releasing them.
_ABORTING = 0.2

_STATUS = re.compile(rb"DIMSE Status\s+: 0x([0-9a-fA-F]{4})")


class Sender(threading.Thread):
    """One modality with some files, sent over one association, and what is left over another."""

    def __init__(self, port: int, files: list[Path], calling: str, *, aborts: bool) -> None:
        super().__init__(name=calling, daemon=True)
        self.acknowledged: list[Path] = []
        self._left = list(files)
        self._command = ["storescu", "-d", "-R", "-aet", calling, "-aec", "FULLFIELD"]
        self._command += ["-to", _PATIENCE, "-ta", _PATIENCE, "-td", _PATIENCE, "127.0.0.1", str(port)]
        self._command += ["--abort"] if aborts else []
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = False

    def run(self) -> None:
        """Send until nothing is left."""
        while self._left and not self._given_up:
            self._process = subprocess.Popen(
                [*self._command, *self._left],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = self._process.communicate()
            for status in _STATUS.findall(said):
                if int(status, 16) or not self._left:
                    break
                self.acknowledged.append(self._left.pop(0))
            if self._left:
                time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill the storescu that is under way; the modality tries again."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def give_up(self) -> None:
        """Send no more."""
        self._given_up = True
        self.kill()


class Ward:
    """Makes what is sent; the same for the same seed and step."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        folder.mkdir(parents=True, exist_ok=True)

    def senders(self, step: int, port: int, dice: random.Random) -> list[Sender]:
        """Two modalities or three: cines from some, dose reports over one association from the other."""
        drawn = iter(range(1000))

        def made(**attributes: object) -> Path:
            number = next(drawn)
            uids = {
                f"{level}_instance_uid": generate_uid(entropy_srcs=[f"{self._seed}/{step}/{number}/{level}"])
                for level in ("study", "series", "sop")
            }
            dataset: Dataset = xa(rows=32, columns=32, seed=number, **uids | attributes)  # type: ignore[arg-type]
            return write(dataset, self._folder / f"{step}-{number}.dcm")

        study, series = (generate_uid(entropy_srcs=[f"{self._seed}/{step}/{kind}"]) for kind in ("doses", "dose"))
        cines = [[made(frames=dice.choice([2, 2, 3, 8]))] for _ in range(dice.choice([1, 1, 2]))]
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
        return [
            Sender(port, files, f"CARM{number}", aborts=dice.random() < _ABORTING)
            for number, files in enumerate([*cines, doses], start=1)
        ]
