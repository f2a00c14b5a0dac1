"""Looking out for what is due to peers, each served in threads of its own: a dead one holds up nobody else.

What is due stands in rows of the database, which are leased to who is about them.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import count

import structlog

from config.errors import FullfieldError, StorageFull, StorageUnavailable
from dicom_node.patience import persist
from storage.database import Database
from storage.leases import OF_OWNER, Leased, let_go

log = structlog.get_logger()

#: Seconds that a peer is left alone after a round that ended early: the storage may be away.
_REST_SECONDS = 5.0


class Rounds(ABC):
    """Asks again and again to whom something is `due`, and `serve`s each, from `start` to `stop`.

    what: is served, in a word or two for the log.
    leased: the rows in which it stands.
    name: no two of a kind that are alive share one. What a dead namesake was about is free again at once.
    every_seconds: from one look at what is due to the next.
    A FullfieldError is told to the log; what the round was about is free again after a rest.
    """

    def __init__(self, what: str, database: Database, leased: type[Leased], *, name: str, every_seconds: float) -> None:
        #: No new round is begun, and none is to take up more.
        self.stopping = threading.Event()
        self._what = what
        self._database = database
        self._leased = leased
        self._name = name
        self._every_seconds = every_seconds
        self._thread = threading.Thread(target=self._look_out, name=what, daemon=True)
        self._rounds: list[tuple[str, threading.Thread]] = []
        self._numbers = count(1)

    @abstractmethod
    def due(self) -> Iterable[str]:
        """The names of the peers to which something is due."""

    @abstractmethod
    def serve(self, peer: str, owner: str) -> bool:
        """Serve the next of what is due to a peer, its rows leased to `owner`; False when there is no more."""

    def at_once(self, peer: str) -> int:  # noqa: ARG002
        """How many rounds there may be to a peer at a time."""
        return 1

    def start(self) -> None:
        """Begin to look out."""
        self._thread.start()

    def stop(self, grace_seconds: float = 10) -> None:
        """Begin no more, and let what is under way come to its end."""
        self.stopping.set()
        end = time.monotonic() + grace_seconds
        for thread in [self._thread, *(thread for _, thread in self._rounds)]:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def _look_out(self) -> None:
        begun = False
        while not self.stopping.wait(self._every_seconds):
            try:
                if not begun:
                    self._free_namesakes()
                    begun = True
                due = set(self.due())
            except FullfieldError as error:
                log.warning("what is due cannot be told", of=self._what, reason=str(error))
                continue
            self._rounds = [(peer, thread) for peer, thread in self._rounds if thread.is_alive()]
            under_way = Counter(peer for peer, _ in self._rounds)
            for peer in sorted(due):
                if under_way[peer] < self.at_once(peer):
                    self._begin_round(peer)

    def _free_namesakes(self) -> None:
        with self._database.transaction() as tx:
            let_go(tx, self._leased, self._name)

    def _begin_round(self, peer: str) -> None:
        thread = threading.Thread(target=self._make_round, args=(peer,), name=f"{self._what} round", daemon=True)
        self._rounds.append((peer, thread))
        thread.start()

    def _make_round(self, peer: str) -> None:
        owner = f"{self._name}{OF_OWNER}{next(self._numbers)}"
        try:
            while not self.stopping.is_set() and self.serve(peer, owner):
                pass
        except FullfieldError as error:
            log.warning("a round ended early", of=self._what, peer=peer, reason=str(error))
            self.stopping.wait(_REST_SECONDS)
            with suppress(StorageUnavailable, StorageFull):
                persist(self._database, lambda tx: let_go(tx, self._leased, owner), self.stopping.wait)
