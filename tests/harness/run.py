"""A run: so many faults, one after the other, and the judgement after each."""

import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from config.errors import FullfieldError
from tests.harness.checks import Judge
from tests.harness.faults import Work, drawn, named
from tests.harness.place import Place, place
from tests.harness.senders import Visit, Ward
from tests.harness.violations import Violation

#: Seconds without any step told after which what is under way counts as stuck.
PATIENCE = 180.0
#: So many times as long it may go on with steps: it may as well try for ever.
_LONGEST = 5

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Report:
    """What became of a run."""

    faults: int = 0
    #: Points that nobody came by: no fault.
    missed: int = 0
    acknowledged: int = 0
    #: Pictures that reached a destination compressed, and objects that were fetched.
    compressed: int = 0
    fetched: int = 0
    told: int = 0
    recoveries: list[float] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    #: Broken off by Ctrl-C, so that not all was judged.
    is_partial: bool = False
    minutes: float = 0.0

    def in_one_line(self, seed: int, database: str) -> str:
        """For people, and for the log of a build."""
        counts = Counter(violation.kind for violation in self.violations)
        broken = ", ".join(f"{counts[kind]} {kind}" for kind in ("lost", "twice", "stuck", "orphaned", "untold"))
        others = f", {counts['unsaid']} tracebacks" if counts["unsaid"] else ""
        ready = (
            f"; ready again in median {statistics.median(self.recoveries):.1f} s, worst {max(self.recoveries):.1f} s"
            if self.recoveries
            else ""
        )
        return (
            f"{self.faults} faults ({self.missed} more were never reached), {self.acknowledged} objects acknowledged: "
            f"{broken}{others}; {self.fetched} fetched, {self.compressed} compressed; "
            f"audit trail of {self.told} rows{ready}; {self.minutes:.1f} min; seed {seed}, {database}"
        )


class Patience:
    """Is over when nothing has happened for so long; a busy machine takes its time."""

    def __init__(self, steps: Callable[[], int], seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._seen = -1
        self._since = self._begun = time.monotonic()

    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        now, steps = time.monotonic(), self._steps()
        if steps != self._seen:
            self._seen, self._since = steps, now
        return now - self._since > self._seconds or now - self._begun > _LONGEST * self._seconds


def run(
    folder: Path,
    *,
    number: int,
    seed: int,
    first: int = 0,
    database: Literal["sqlite", "postgresql"] = "sqlite",
    mutation: str = "none",
    fault: str | None = None,
    patience: float = PATIENCE,
    say: Say = lambda _: None,
) -> Report:
    """Strike so many times; ends at the first step that breaks a promise, and after Ctrl-C with what it has by then.

    first: number of the first step, to repeat one. fault: strike with this one at each step.
    """
    report, begun = Report(), time.monotonic()
    ward = Ward(folder / "sent", seed)
    with place(folder, database=database, mutation=mutation) as here:
        judge = Judge(here)

        def holds(step: int) -> bool:
            step_begun = time.monotonic()
            dice = random.Random(f"{seed}/{step}")
            chosen = named(fault, step, dice, here) if fault is not None else drawn(step, dice, here)
            visit = ward.visit(step, here, dice)
            came_to_pass, violations = _strike(here, judge, chosen.strike, visit, patience)
            report.faults += came_to_pass
            report.missed += not came_to_pass
            report.violations += violations
            for violation in violations:
                say(f"FAULT step {step} ({chosen.name}), seed {seed}: {violation.kind}: {violation.sentence}")
            seconds = time.monotonic() - step_begun
            say(f"{step}: {chosen.name}{'' if came_to_pass else ', never reached'}; {seconds:.1f} s")
            return not violations

        try:
            if all(holds(step) for step in range(first, first + number)):
                report.violations += _in_the_end(judge, say)
            else:
                # The node may run, and a file go while it is copied.
                with suppress(shutil.Error):
                    shutil.copytree(here.disk.root, folder / "kept")
        except KeyboardInterrupt:
            say("broken off")
            report.is_partial = True
        judge.close()
        report.acknowledged, report.told = len(judge.acknowledged), judge.told
        report.compressed, report.fetched = here.witness.compressed, judge.fetched
        report.recoveries = here.node.recoveries
        report.minutes = (time.monotonic() - begun) / 60
    say(report.in_one_line(seed, database))
    return report


def _strike(
    here: Place,
    judge: Judge,
    strike: Callable[[Place, Work], bool],
    visit: Visit,
    patience: float,
) -> tuple[bool, list[Violation]]:
    senders = visit.senders
    judge.give_the_pacs(visit.earlier)
    patient = Patience(judge.steps_told, patience)

    def is_done() -> bool:
        is_sent = not any(sender.is_alive() for sender in senders)
        return (is_sent and judge.why_unsettled() is None) or patient.is_over()

    for sender in senders:
        sender.start()
    came_to_pass, gone = True, None
    try:
        came_to_pass = strike(here, Work(senders, is_done, judge.is_at_work))
        while not is_done():
            here.node.tend()
            time.sleep(0.1)
    except (RuntimeError, TimeoutError, FullfieldError) as error:
        gone = Violation("stuck", f"what the fault struck does not come back: {error}")
    stuck = [Violation("stuck", f"{sender.name} is not rid of its objects") for sender in senders if sender.left]
    for sender in senders:
        sender.give_up()
        judge.acknowledge(sender.acknowledged)
    if gone is not None:
        # There is nothing more to judge, and a node that hangs would be waited for.
        here.node.kill()
        return came_to_pass, [gone]
    why = judge.why_unsettled()
    if why is not None:
        stuck.append(Violation("stuck", f"for {patience:g} s nothing has happened, and {why}"))
    return came_to_pass, [*stuck, *judge.violations()]


def _in_the_end(judge: Judge, say: Say) -> list[Violation]:
    violations = [*judge.look_at_everything_again(), *judge.is_swept()]
    for violation in violations:
        say(f"FAULT in the end: {violation.kind}: {violation.sentence}")
    return violations
