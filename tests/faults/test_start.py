"""A node that cannot start says why in one line, ends, and starts when that is mended."""

import socket
from pathlib import Path

from tests.nodes import NodeProcess
from tests.peers import free_port


def _says_when_it_cannot_start(node: NodeProcess) -> str:
    node.launch()
    assert node.wait() == 1
    *_, last = node.log.read_text().splitlines()
    assert "Traceback" not in node.log.read_text()
    return last


def test_a_port_that_is_taken_is_told_and_the_node_was_never_there(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, {"pacs": free_port()}, worker={"processes": 0})
    with socket.create_server(("127.0.0.1", node.port)):
        said = _says_when_it_cannot_start(node)
        assert said == f"fullfield: Cannot listen on 127.0.0.1, port {node.port}: Address already in use."
        assert node.audit() == []
    with node.running():
        assert node.told("node_started") == 1


def test_a_database_server_that_is_not_there_is_told(tmp_path: Path, postgresql_url: str) -> None:
    nowhere = f"postgresql://fullfield@127.0.0.1:{free_port()}/fullfield"
    node = NodeProcess(tmp_path, {"pacs": free_port()}, database=nowhere, worker={"processes": 0})
    said = _says_when_it_cannot_start(node)
    assert said.startswith(f"fullfield: The database {nowhere.replace('postgresql:', 'postgresql+psycopg:')} cannot be")
    node.settings.write_text(node.settings.read_text().replace(nowhere, postgresql_url))
    with node.running():
        assert node.told("node_started") == 1
