"""A run of hostile conversations against a whole node, and the judgement of it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pydicom.uid import generate_uid

from config.errors import DamagedObject
from config.settings import load_settings
from dicom_node.network.reception import header_facts
from dicom_node.network.statuses import Unacceptable
from storage.files import ObjectStore
from storage.objects import find_object
from tests.factory import write, xa
from tests.fuzzing.mutations import mutated
from tests.fuzzing.outcomes import Outcome, outcome_of
from tests.fuzzing.uploads import mutated_upload, outcome_of_upload
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu

#: Conversations after which memory and descriptors are compared: caches fill at first.
_STRETCH = 1000
#: Share of the conversations that are uploads by HTTP.
_UPLOADS = 0.2
#: Seconds that associations may take to end when their peers have gone.
_REST = 60.0
#: The most by which they may grow over a stretch.
_GROWTH = 0.01


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a process holds."""

    kilobytes: int
    #: But for those of the database: its pool keeps as many connections as were asked for at once, up to its bound.
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        """Of a running process."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(
            kilobytes=int(status["VmRSS"].split()[0]),
            descriptors=sum(".db" not in _target(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()),
            threads=int(status["Threads"]),
        )


@dataclass(kw_only=True)
class Report:
    """What became of a run."""

    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    #: One sentence each; none when the node did as it should.
    faults: list[str] = field(default_factory=list)


def fuzz(
    folder: Path, *, number: int, seed: int, first: int = 0, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Have so many conversations with a node in this folder; each one depends on seed and its number alone."""
    web = free_port()
    node = NodeProcess(folder, {}, worker={"processes": 0}, logs={"level": "error"}, web={"port": web})
    node.routes.write_text("")
    report = Report()
    with node.running():
        fresh = Footprint.of(node.pid)
        for index in range(first, first + number):
            rng = Random(f"{seed}/{index}")
            try:
                if rng.random() < _UPLOADS:
                    mutation, upload = mutated_upload(rng)
                    uid, (outcome, acknowledged) = upload.sop_instance_uid, outcome_of_upload(upload, web)
                else:
                    mutation, conversation = mutated(rng)
                    uid, (outcome, acknowledged) = conversation.sop_instance_uid, outcome_of(conversation, node.port)
            except OSError as error:
                report.faults.append(f"conversation {index} ({mutation}): the node does not answer: {error}")
                break
            report.outcomes[mutation, outcome] += 1
            if acknowledged:
                report.acknowledged.append(uid)
            if outcome in (Outcome.HANGS, Outcome.DROPPED, Outcome.BROKEN):
                report.faults.append(f"conversation {index} ({mutation}): {outcome}")
            if (index + 1 - first) % _STRETCH == 0:
                report.footprints.append(_at_rest(node.pid, fresh.threads))
                say(f"{index + 1}: {report.footprints[-1]}")
        report.faults += _goes_on(node, folder)
        report.faults += unreadable(node, report.acknowledged)
    if "Traceback" in node.log.read_text():
        report.faults.append("an error that nobody expected stands in the node's log")
    report.faults += _growth(report.footprints)
    _tell(report, seed, say)
    return report


def unreadable(node: NodeProcess, acknowledged: list[str]) -> list[str]:
    """Acknowledged objects that the node does not have, or not with all their bytes, or that nobody can read.

    Of a deflated one the header is read, as far as the stream goes: what was cut off on the way was kept as it came.
    """
    store = ObjectStore(load_settings(node.settings).storage.root)
    database = node.database()
    faults = []
    with database.reading() as tx:
        for uid in acknowledged:
            row = find_object(tx, uid)
            if row is None:
                faults.append(f"{uid} was acknowledged and is not in the database")
                continue
            try:
                store.verify(row.digest)
                header = header_facts(store.path(row.digest))
                if header.get("SOPInstanceUID") != uid:
                    faults.append(f"{uid} was acknowledged and is another object in the store")
            except (DamagedObject, Unacceptable, ValueError) as error:
                faults.append(f"{uid} was acknowledged and cannot be read: {error}")
    database.close()
    return faults


def _target(descriptor: Path) -> str:
    """The name of what a descriptor is open to; none if it was closed meanwhile."""
    try:
        return descriptor.readlink().name
    except FileNotFoundError:
        return ""


def _at_rest(pid: int, threads: int) -> Footprint:
    """The footprint when the associations of the last conversations have ended, and with them their threads."""
    end = time.monotonic() + _REST
    while (footprint := Footprint.of(pid)).threads > threads and time.monotonic() < end:
        time.sleep(0.5)
    return footprint


def _goes_on(node: NodeProcess, folder: Path) -> list[str]:
    path = write(xa(sop_instance_uid=generate_uid()), folder / "sound.dcm")
    said = storescu(node.port, path)
    return [] if said.accepted else [f"a sound object is no longer accepted: {said}"]


def _growth(footprints: list[Footprint]) -> list[str]:
    """The first stretch warms up; from its end to the last one's growth is judged."""
    if len(footprints) < 3:
        return []
    start, *_, end = footprints
    stretches = len(footprints) - 1
    faults = []
    for name in ("kilobytes", "descriptors", "threads"):
        before, after = getattr(start, name), getattr(end, name)
        if after > before * (1 + _GROWTH * stretches):
            faults.append(f"{name} grew from {before} to {after} over {stretches} thousand conversations")
    return faults


def _tell(report: Report, seed: int, say: Callable[[str], None]) -> None:
    for mutation in sorted({mutation for mutation, _ in report.outcomes}):
        counts = {outcome: report.outcomes[mutation, outcome] for outcome in Outcome}
        say(f"{mutation:28} " + ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number))
    for fault in report.faults:
        say(f"FAULT {fault}")
    total = sum(report.outcomes.values())
    say(f"{total} conversations, {len(report.acknowledged)} acknowledged, {len(report.faults)} faults, seed {seed}")
