"""Looking out for what is due to peers, each served in threads of its own: a dead one holds up nobody else."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from config.errors import FullfieldError

log = structlog.get_logger()


class Rounds:
    """Asks again and again to whom something is due, and makes a round to each, from `start` to `stop`.

    what: is served, in a word or two for the log.
    begin: is called before the first round, again and again until it goes well.
    due: the names of the peers to which something is due.
    serve: serves the next of what is due to one peer; False when there is no more.
    at_once: how many rounds there may be to one peer at a time.
    A FullfieldError of any of them is told to the log, and tried again.
    """

    def __init__(
        self,
        what: str,
        *,
        every_seconds: float,
        begin: Callable[[], None],
        due: Callable[[], Iterable[str]],
        serve: Callable[[str], bool],
        at_once: Callable[[str], int] = lambda _: 1,
    ) -> None:
        #: No new round is begun, and none is to take up more.
        self.stopping = threading.Event()
        self._what = what
        self._every_seconds = every_seconds
        self._begin = begin
        self._due = due
        self._serve = serve
        self._at_once = at_once
        self._thread = threading.Thread(target=self._look_out, name=what, daemon=True)
        self._rounds: list[tuple[str, threading.Thread]] = []

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
                    self._begin()
                    begun = True
                due = set(self._due())
            except FullfieldError as error:
                log.warning("what is due cannot be told", of=self._what, reason=str(error))
                continue
            self._rounds = [(peer, thread) for peer, thread in self._rounds if thread.is_alive()]
            under_way = Counter(peer for peer, _ in self._rounds)
            for peer in sorted(due):
                if under_way[peer] < self._at_once(peer):
                    self._begin_round(peer)

    def _begin_round(self, peer: str) -> None:
        thread = threading.Thread(target=self._make_round, args=(peer,), name=f"{self._what} round", daemon=True)
        self._rounds.append((peer, thread))
        thread.start()

    def _make_round(self, peer: str) -> None:
        try:
            while not self.stopping.is_set() and self._serve(peer):
                pass
        except FullfieldError as error:
            log.warning("a round ended early", of=self._what, peer=peer, reason=str(error))
