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


def test_a_second_node_on_one_data_root_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = NodeProcess(tmp_path / "first", {"pacs": free_port()}, worker={"processes": 0})
    root = tmp_path / "first" / "var"
    second = NodeProcess(
        tmp_path / "second", {"pacs": free_port()}, storage={"root": str(root)}, worker={"processes": 0}
    )
    first.start()
    said = _says_when_it_cannot_start(second)
    assert said == (
        f"fullfield: Another node works with the data in {root} (process {first.pid} on {socket.gethostname()}): "
        "end it, or give this one a `storage.root` of its own."
    )
    assert first.told("node_started") == 1
    first.kill()
    with second.running():
        assert second.told("node_started") == 2


def test_nodes_that_share_a_database_server_share_a_data_root(tmp_path: Path, postgresql_url: str) -> None:
    def node(name: str) -> NodeProcess:
        how = {"storage": {"root": str(tmp_path / "shared")}, "worker": {"processes": 0}}
        return NodeProcess(tmp_path / name, {"pacs": free_port()}, database=postgresql_url, **how)

    with node("first").running(), node("second").running() as second:
        assert second.told("node_started") == 2


def test_a_database_server_that_is_not_there_is_told(tmp_path: Path, postgresql_url: str) -> None:
    nowhere = f"postgresql://fullfield@127.0.0.1:{free_port()}/fullfield"
    node = NodeProcess(tmp_path, {"pacs": free_port()}, database=nowhere, worker={"processes": 0})
    said = _says_when_it_cannot_start(node)
    assert said.startswith(f"fullfield: The database {nowhere.replace('postgresql:', 'postgresql+psycopg:')} cannot be")
    node.settings.write_text(node.settings.read_text().replace(nowhere, postgresql_url))
    with node.running():
        assert node.told("node_started") == 1
