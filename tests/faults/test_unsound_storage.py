"""A node whose database or object store is not what it was says so in one line, and ends."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.disks import disk
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a node that has received one object, and has ended."""
    folder = tmp_path_factory.mktemp("data")
    node = NodeProcess(folder, {"pacs": free_port()}, worker={"processes": 0})
    with node.running():
        assert storescu(node.port, write(xa(frames=1), folder / "a.dcm")).accepted
    return folder / "var"


@pytest.fixture
def node(data: Path, tmp_path: Path) -> NodeProcess:
    """A node with such data."""
    node = NodeProcess(tmp_path / "node", {"pacs": free_port()}, worker={"processes": 0})
    shutil.copytree(data, _root(node))
    return node


def _root(node: NodeProcess) -> Path:
    return node.folder / "var"


def _says_when_it_cannot_start(node: NodeProcess) -> str:
    node.launch()
    assert node.wait() == 1
    *_, last = node.log.read_text().splitlines()
    assert "Traceback" not in node.log.read_text()
    return last


def _break_a_page(root: Path) -> None:
    """As a disk does that has lost a sector: rubbish in a page in the middle of the file."""
    with closing(sqlite3.connect(root / "fullfield.db")) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'objects'").fetchone()
    with (root / "fullfield.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def _be_no_database(root: Path) -> None:
    (root / "fullfield.db").write_bytes(b"no database" * 1000)


def _lose_the_database(root: Path) -> None:
    for file in root.glob("fullfield.db*"):
        file.unlink()


def _lose_the_store(root: Path) -> None:
    shutil.rmtree(root / "objects")


def _be_of_a_newer_version(root: Path) -> None:
    with closing(sqlite3.connect(root / "fullfield.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (_break_a_page, "is damaged, or not a database: move it aside with its object store, and restore both"),
        (
            _be_no_database,
            "is damaged, or not a database: move it aside with its object store, and restore both",
        ),
        (
            _lose_the_database,
            "fullfield.db is new: name the database that belongs to it, or restore both from",
        ),
        (_lose_the_store, "holds none: see whether its disk is mounted, or restore both from a backup with"),
        (_be_of_a_newer_version, "has a newer schema (9999) than this version knows; install the newer one."),
    ],
    ids=lambda what: what.__name__.strip("_") if callable(what) else "",
)
def test_it_refuses_to_start_and_says_how_to_mend_it(
    node: NodeProcess, happens: Callable[[Path], None], said: str
) -> None:
    happens(_root(node))
    assert said in _says_when_it_cannot_start(node)


def test_a_store_that_comes_back_lets_it_start(node: NodeProcess, tmp_path: Path) -> None:
    (_root(node) / "objects").rename(tmp_path / "elsewhere")
    assert "is mounted" in _says_when_it_cannot_start(node)
    shutil.rmtree(_root(node) / "objects")
    (tmp_path / "elsewhere").rename(_root(node) / "objects")
    with node.running():
        assert node.told("node_started") == 2


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_data_root_that_is_mounted_read_only_is_told(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    with disk(tmp_path / "disk", megabytes=8) as root:
        node = NodeProcess(
            tmp_path / "node",
            {"pacs": free_port()},
            database=request.getfixturevalue("postgresql_url") if database == "postgresql" else None,
            worker={"processes": 0},
            storage={"root": str(root)},
        )
        with node.running():
            pass
        _remount(root, "ro")
        said = _says_when_it_cannot_start(node)
        assert said.startswith("fullfield: ") and str(root) in said and said.endswith("Read-only file system.")
        _remount(root, "rw")
        with node.running():
            assert node.told("node_started") == 2


def _remount(root: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(root)], check=True)
