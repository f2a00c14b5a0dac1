"""The PostgreSQL server of a whole node is away for a while, as when it is restarted: nothing is lost by it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from storage.transitions import JobState
from tests.hospital import hospital, shows
from tests.nodes import LONG
from tests.peers import wait_until

OUT_OF_RESOURCES = 0xA700


def test_while_the_server_is_away_senders_are_told_so_and_work_is_not_lost(
    tmp_path: Path, postgresql_server: str, postgresql_url: str
) -> None:
    with hospital(tmp_path, database=postgresql_url) as here:
        under_way, late = here.cine(frames=4), here.cine()
        assert here.push(under_way).accepted
        wait_until(lambda: here.node.jobs()[0].state == JobState.RUNNING, what="the worker to begin", seconds=LONG)
        with _away(postgresql_server, postgresql_url):
            assert here.push(late).statuses == [OUT_OF_RESOURCES]
            wait_until(
                lambda: "waiting for the database" in here.node.log.read_text(),
                what="the worker to wait",
                seconds=LONG,
            )
        assert here.push(late).accepted
        assert shows(here.result(under_way), under_way)
        assert shows(here.result(late), late)
        jobs = here.node.wait_until_settled(2)
        assert [(job.state, job.attempts) for job in jobs] == [(JobState.DELIVERED, 1)] * 2
        assert here.node.told("object_refused") == 1
        assert here.node.told("worker_died") == 0


@contextmanager
def _away(server: str, url: str) -> Iterator[None]:
    """The server ends every connection to a database and takes no new one."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server, autocommit=True) as administrator:
        _allow_connections(administrator, name, "false")
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            _allow_connections(administrator, name, "true")


def _allow_connections(administrator: psycopg.Connection, name: str, allow: str) -> None:
    command = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    administrator.execute(command.format(sql.Identifier(name), sql.SQL(allow)))
