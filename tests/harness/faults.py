"""What can happen to a node, each drawn with its instant from the seed and the number of the step."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.place import Place
from tests.harness.senders import Sender
from tests.nodes import LONG, kill
from tests.peers import wait_until

#: Instants that can be named, and what can be done there: K to kill, D to have the disk fail. With each the most
#: times that a step comes by it, of which one is drawn.
POINTS: dict[str, tuple[str, int]] = {
    "incoming.write": ("KD", 8),
    "intake.received": ("K", 4),
    "store.written": ("KD", 8),
    "store.synced": ("KD", 8),
    "store.renamed": ("KD", 8),
    "store.kept": ("KD", 8),
    "intake.before_commit": ("K", 4),
    "intake.before_acknowledgement": ("K", 4),
    "intake.association_ended": ("K", 2),
    "database.before_commit": ("K", 20),
    "database.committed": ("K", 20),
    "worker.claimed": ("K", 2),
    "lease.before_renewal": ("K", 1),
    "lease.renewed": ("K", 1),
    "worker.before_entering": ("K", 2),
    "worker.entered": ("K", 2),
    "delivery.taken": ("K", 2),
    "delivery.sending": ("K", 6),
    "delivery.receipt": ("K", 6),
    "delivery.settled": ("K", 6),
}
#: A step begins its fault within so many seconds.
_SOON = 2.5


@dataclass(frozen=True)
class Work:
    """What is under way while a fault strikes."""

    senders: list[Sender]
    #: Whether all of it was sent and has come to rest, so that nobody comes by a point any more.
    is_done: Callable[[], bool]


@dataclass(frozen=True)
class Fault:
    """One of them, drawn."""

    name: str
    #: Strikes while the senders send, and mends what does not mend itself; whether it came to pass.
    strike: Callable[[Place, Work], bool]


def drawn(step: int, dice: random.Random) -> Fault:
    """The fault of a step."""
    kinds = [_node_killed, _power_cut, _at_a_point, _at_a_point, _at_a_point, _power_cut_at_a_point, _worker_killed]
    kinds += [_disk_fails, _pacs_killed]
    return dice.choice(kinds)(step, dice)


def named(name: str, step: int) -> Fault:
    """The fault of this name: ``DEED POINT TURN``, where the deed is kill, power, EIO or ENOSPC."""
    deed, point, turn = name.split()
    if deed == "power":
        return _ordered(f"power cut at {point}, pass {turn}", step, point, int(turn), "kill", power=True)
    return _ordered(f"{deed} at {point}, pass {turn}", step, point, int(turn), deed)


def _node_killed(_: int, dice: random.Random) -> Fault:
    wait = dice.uniform(0, _SOON)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        here.node.kill()
        here.node.recover()
        return True

    return Fault(f"node killed after {wait:.2f} s", strike)


def _power_cut(_: int, dice: random.Random) -> Fault:
    wait = dice.uniform(0, _SOON)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        here.node.lose_power()
        here.node.recover()
        return True

    return Fault(f"power cut after {wait:.2f} s", strike)


def _at_a_point(step: int, dice: random.Random) -> Fault:
    point, turn = _point(dice, "K")
    return _ordered(f"kill at {point}, pass {turn}", step, point, turn, "kill")


def _power_cut_at_a_point(step: int, dice: random.Random) -> Fault:
    point, turn = _point(dice, "K")
    return _ordered(f"power cut at {point}, pass {turn}", step, point, turn, "kill", power=True)


def _disk_fails(step: int, dice: random.Random) -> Fault:
    deed = dice.choice(["EIO", "ENOSPC"])
    point, turn = _point(dice, "D")
    return _ordered(f"{deed} at {point}, pass {turn}", step, point, turn, deed)


def _worker_killed(_: int, dice: random.Random) -> Fault:
    wait = dice.uniform(0, _SOON)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        kill(wait_until(here.node.workers, what="a worker", seconds=LONG)[0])
        return True

    return Fault(f"worker killed after {wait:.2f} s", strike)


def _pacs_killed(_: int, dice: random.Random) -> Fault:
    wait, away = dice.uniform(0, _SOON), dice.uniform(0, 2)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        here.pacs.kill()
        time.sleep(away)
        here.pacs.recover()
        return True

    return Fault(f"PACS killed after {wait:.2f} s, away for {away:.2f} s", strike)


def _point(dice: random.Random, deed: str) -> tuple[str, int]:
    point = dice.choice([name for name, (deeds, _) in POINTS.items() if deed in deeds])
    return point, dice.randint(1, POINTS[point][1])


def _ordered(name: str, number: int, point: str, turn: int, deed: str, power: bool = False) -> Fault:
    def strike(here: Place, work: Work) -> bool:
        here.node.order(number, point, turn, deed)
        while not here.node.carried_out and not work.is_done():
            time.sleep(0.02)
        came_to_pass = here.node.carried_out
        if power and came_to_pass:
            here.node.lose_power()
        here.node.withdraw()
        if deed == "kill" and came_to_pass:
            # The process is dead as soon as the order is carried out, or in a moment.
            time.sleep(0.1)
        if not here.node.runs:
            here.node.recover()
        return came_to_pass

    return Fault(name, strike)
