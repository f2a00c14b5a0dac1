"""How the schema came to be, step by step: alembic's revisions in `versions/`, oldest first.

A new step: change `storage/schema.py`, write the revision by hand after the last one, and let
`tests/integration/test_database.py` say whether the two agree on both databases.
"""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from config.errors import ConfigError

#: Number of the PostgreSQL advisory lock that lets one process at a time migrate.
LOCK = 0x46554C4C_01


def upgrade(connection: Connection) -> None:
    """Run the missing revisions in the connection's transaction; ConfigError if the schema is newer."""
    _known_revision(connection)
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def is_new(connection: Connection) -> bool:
    """Whether no revision has been run."""
    return MigrationContext.configure(connection).get_current_revision() is None


def check(connection: Connection) -> str:
    """The revision of the schema; ConfigError unless it is the newest that this version knows."""
    revision = _known_revision(connection)
    if revision is None or revision != ScriptDirectory.from_config(_alembic()).get_current_head():
        raise ConfigError("The database has an older schema than this version needs: start `fullfield node` once.")
    return revision


def _known_revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None:
        check_known(revision)
    return revision


def check_known(revision: str) -> None:
    """ConfigError for the revision of a newer version."""
    try:
        ScriptDirectory.from_config(_alembic()).get_revision(revision)
    except CommandError as error:
        raise ConfigError(
            f"The database has a newer schema ({revision}) than this version knows; install the newer one."
        ) from error


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    return config
