"""Where data sets lie while they are received, and which of them are under way."""

from pathlib import Path


class Receiving:
    """A folder for files that are being received; any thread may tell of one.

    under_way: the files from their first byte until they are kept or dropped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.under_way: set[Path] = set()

    def begins(self, file: Path) -> None:
        """A file is there, and more of it is to come."""
        self.under_way.add(file)

    def ends(self, file: Path) -> None:
        """It is kept or dropped; said again, nothing happens."""
        self.under_way.discard(file)
