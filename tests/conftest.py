"""Fixtures that every test may ask for."""

from hypothesis import settings

from tests.commands import fullfield
from tests.databases import database, database_url, postgresql_server, postgresql_url, sqlite_url
from tests.disks import small_disk
from tests.weights import models, reconstructor

__all__ = [
    "database",
    "database_url",
    "fullfield",
    "models",
    "postgresql_server",
    "postgresql_url",
    "reconstructor",
    "small_disk",
    "sqlite_url",
]

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("fullfield", deadline=None)
settings.load_profile("fullfield")
