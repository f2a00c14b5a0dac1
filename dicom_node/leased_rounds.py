"""Rounds to peers for what stands in rows of the database, which are leased to who is about them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from dicom_node.rounds import Rounds
from storage.database import Database
from storage.leases import Leased, let_go


class LeasedRounds(ABC, Rounds):
    """Serves what is due from `start` to `stop`; each kind says to whom something is `due`, and how to `serve` it.

    what: is served, in a word or two for the log.
    leased: the rows in which it stands.
    name: no two of a kind that are alive share one. What a dead namesake was about is free again at once.
    """

    def __init__(self, what: str, database: Database, leased: type[Leased], *, name: str, every_seconds: float) -> None:
        super().__init__(what, every_seconds=every_seconds, begin=self._let_go, due=self.due, serve=self.serve)
        self._database = database
        self._leased = leased
        self._name = name

    @abstractmethod
    def due(self) -> Iterable[str]:
        """The names of the peers to which something is due."""

    @abstractmethod
    def serve(self, peer: str) -> bool:
        """Serve the next of what is due to a peer; False when there is no more."""

    def _let_go(self) -> None:
        with self._database.transaction() as tx:
            let_go(tx, self._leased, self._name)
