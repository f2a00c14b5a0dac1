"""What can happen to a node, each drawn with its instant from the seed and the number of the step."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.place import LEASE_SECONDS, Place
from tests.harness.senders import Sender
from tests.harness.witness import Manners
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
    "store.folder_made": ("KD", 8),
    "intake.before_commit": ("K", 4),
    "intake.before_acknowledgement": ("K", 4),
    "intake.association_ended": ("K", 2),
    "database.before_commit": ("K", 20),
    "database.committed": ("K", 20),
    "worker.claimed": ("K", 2),
    "lease.before_renewal": ("K", 1),
    "lease.renewed": ("K", 1),
    "worker.result_kept": ("K", 5),
    "worker.before_entering": ("K", 2),
    "worker.entered": ("K", 2),
    "delivery.taken": ("K", 2),
    "delivery.sending": ("K", 6),
    "delivery.receipt": ("K", 6),
    "delivery.settled": ("K", 6),
    "commitment.asking": ("K", 2),
    "commitment.asked": ("K", 2),
    "fetch.asking": ("K", 1),
    "fetch.moved": ("K", 1),
}
#: A step begins its fault within so many seconds.
_SOON = 2.5


@dataclass(frozen=True)
class Work:
    """What is under way while a fault strikes."""

    senders: list[Sender]
    #: Whether all of it was sent and has come to rest, so that nobody comes by a point any more.
    is_done: Callable[[], bool]
    #: Whether the worker of a process has a job.
    is_at_work: Callable[[int], bool]


@dataclass(frozen=True)
class Fault:
    """One of them, drawn."""

    name: str
    #: Strikes while the senders send, and mends what does not mend itself; whether it came to pass.
    strike: Callable[[Place, Work], bool]


def drawn(step: int, dice: random.Random, here: Place) -> Fault:
    """The fault of a step."""
    possible = [name for name, kind in KINDS.items() for _ in range(kind.weight) if kind.possible(here)]
    return KINDS[dice.choice(possible)].draw(step, dice)


def named(name: str, step: int, dice: random.Random, here: Place) -> Fault:
    """The fault of this name: one of `KINDS`, or ``DEED POINT TURN``, the deed being kill, power, EIO or ENOSPC.

    ValueError for one that cannot be done at this place.
    """
    if name in KINDS:
        if not KINDS[name].possible(here):
            raise ValueError(f"The fault {name!r} cannot be done with this disk and database.")
        return KINDS[name].draw(step, dice)
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


def _sender_killed(_: int, dice: random.Random) -> Fault:
    waits = [dice.uniform(0, _SOON / 4) for _ in range(dice.randint(1, 4))]

    def strike(_: Place, work: Work) -> bool:
        for wait in waits:
            time.sleep(wait)
            for sender in work.senders:
                sender.kill()
        return True

    return Fault(f"senders killed {len(waits)} times", strike)


def _connections_cut(_: int, dice: random.Random) -> Fault:
    waits = [dice.uniform(0, _SOON / 2) for _ in range(dice.randint(1, 6))]

    def strike(here: Place, _: Work) -> bool:
        ends = 0
        for wait in waits:
            time.sleep(wait)
            ends += sum(wire.cut() for wire in here.wires)
        return ends > 0

    return Fault(f"connections cut {len(waits)} times", strike)


def _network_silent(_: int, dice: random.Random) -> Fault:
    wait, silence = dice.uniform(0, _SOON), dice.uniform(1, 8)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        for wire in here.wires:
            wire.silent = True
        time.sleep(silence)
        for wire in here.wires:
            wire.cut()
            wire.silent = False
        return True

    return Fault(f"network silent after {wait:.2f} s for {silence:.2f} s, then cut", strike)


def _network_slow(_: int, dice: random.Random) -> Fault:
    delay = dice.uniform(0.02, 0.4)

    def strike(here: Place, work: Work) -> bool:
        for wire in here.wires:
            wire.delay = delay
        while any(sender.is_alive() for sender in work.senders) and not work.is_done():
            time.sleep(0.1)
        for wire in here.wires:
            wire.delay = 0.0
        return True

    return Fault(f"network slow by {delay:.2f} s a piece", strike)


def _disk_full(_: int, dice: random.Random) -> Fault:
    wait, full = dice.uniform(0, _SOON), dice.uniform(0.5, 6)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        with here.disk.full():
            time.sleep(full)
        return True

    return Fault(f"disk full after {wait:.2f} s for {full:.2f} s", strike)


def _disk_is_ill(_: int, dice: random.Random) -> Fault:
    """For everything below the root, the files of SQLite as well, however they are written."""
    deeds = dice.choice(["read", "write", "sync", "write sync", "read write sync"])
    wait, ill = dice.uniform(0, _SOON), dice.uniform(0.2, 6)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        with here.disk.failing(deeds):
            time.sleep(ill)
        return True

    return Fault(f"every {' and '.join(deeds.split())} fails after {wait:.2f} s for {ill:.2f} s", strike)


def _database_locked(_: int, dice: random.Random) -> Fault:
    wait, locked = dice.uniform(0, _SOON), dice.uniform(0.5, 13)

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        with here.database_locked():
            time.sleep(locked)
        return True

    return Fault(f"database locked after {wait:.2f} s for {locked:.2f} s", strike)


def _database_killed(_: int, dice: random.Random) -> Fault:
    wait, away = dice.uniform(0, _SOON), dice.uniform(0, 4)

    def strike(here: Place, _: Work) -> bool:
        assert here.database is not None
        time.sleep(wait)
        here.database.kill()
        time.sleep(away)
        here.database.start()
        return True

    return Fault(f"database killed after {wait:.2f} s, away for {away:.2f} s", strike)


def _worker_frozen(_: int, dice: random.Random) -> Fault:
    """For longer than its lease, in the middle of a job; then it goes on as if nothing had been."""
    longer = dice.uniform(0.2, 1.5)

    def strike(here: Place, work: Work) -> bool:
        assert here.node.beside is not None
        pid = here.node.beside.pid
        while not work.is_at_work(pid):
            if work.is_done():
                return False
            time.sleep(0.01)
        kill(pid, signal.SIGSTOP)
        time.sleep(LEASE_SECONDS + longer)
        kill(pid, signal.SIGCONT)
        return True

    return Fault(f"a worker frozen for {longer:.2f} s longer than its lease", strike)


def _destination_misbehaves(_: int, dice: random.Random) -> Fault:
    manners: Manners = dice.choice(["full", "aborting", "slow"])
    bad, name = dice.uniform(1, 4), dice.choice(["witness", "web"])

    def strike(here: Place, _: Work) -> bool:
        here.witnesses[name].manners = manners
        time.sleep(bad)
        here.witnesses[name].manners = "good"
        return True

    return Fault(f"the destination {name!r} is {manners} for {bad:.2f} s", strike)


def _clock_jumps(_: int, dice: random.Random) -> Fault:
    wait, stays, hours = dice.uniform(0, _SOON), dice.uniform(0.5, 3), dice.choice([-1, 1])

    def strike(here: Place, _: Work) -> bool:
        time.sleep(wait)
        here.node.turn_the_clock(hours * 3600)
        time.sleep(stays)
        here.node.turn_the_clock(0)
        return True

    return Fault(f"clock jumps by {hours:+d} h after {wait:.2f} s, and back after {stays:.2f} s", strike)


def _point(dice: random.Random, deed: str) -> tuple[str, int]:
    point = dice.choice([name for name, (deeds, _) in POINTS.items() if deed in deeds])
    return point, dice.randint(1, POINTS[point][1])


def _ordered(name: str, number: int, point: str, turn: int, deed: str, power: bool = False) -> Fault:
    def strike(here: Place, work: Work) -> bool:
        here.node.order(number, point, turn, deed)
        while not here.node.carried_out and not work.is_done():
            time.sleep(0.05)
        came_to_pass = here.node.carried_out
        if power and came_to_pass:
            here.node.lose_power()
        here.node.withdraw()
        here.node.tend()
        return came_to_pass

    return Fault(name, strike)


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    draw: Callable[[int, random.Random], Fault]
    #: How often it is drawn, against the others.
    weight: int = 1
    #: Whether it can be done at this place.
    possible: Callable[[Place], bool] = lambda _: True


#: By the names by which `named` knows them.
KINDS: dict[str, Kind] = {
    "node": Kind(_node_killed, 3),
    "power": Kind(_power_cut, 3),
    "point": Kind(_at_a_point, 8),
    "power-at-point": Kind(_power_cut_at_a_point, 5),
    "worker": Kind(_worker_killed, 2),
    "frozen": Kind(_worker_frozen),
    "disk-fails": Kind(_disk_fails, 3),
    "disk-full": Kind(_disk_full, possible=lambda here: here.disk.can_be_full),
    "disk-ill": Kind(_disk_is_ill, 2),
    "locked": Kind(_database_locked),
    "database": Kind(_database_killed, 4, lambda here: here.database is not None),
    "pacs": Kind(_pacs_killed),
    "destination": Kind(_destination_misbehaves, 2),
    "sender": Kind(_sender_killed),
    "cut": Kind(_connections_cut, 2),
    "silent": Kind(_network_silent),
    "slow": Kind(_network_slow),
    # PostgreSQL's is another machine's, and stays.
    "clock": Kind(_clock_jumps),
}
