"""`fullfield demo`: the whole way once, by a node of its own and no other."""

import subprocess
import sys
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from tests.nodes import LONG
from tests.peers import free_port

#: The demo, at ports that it is told.
AT_PORTS = """
import sys
from dicom_node.commands import demo, main
demo._free_ports = lambda: (int(sys.argv[1]), int(sys.argv[2]))
sys.exit(main.run(["demo"]))
"""


def test_a_cine_goes_in_and_a_picture_comes_out(tmp_path: Path) -> None:
    told = run(tmp_path, "-m", "dicom_node", "demo")
    assert told.returncode == 0, told.stderr
    assert "delivered    acknowledged by the archive" in told.stdout
    (picture,) = tmp_path.glob("demo/*/before-after.png")
    assert picture.stat().st_size > 0


def test_a_node_that_answers_in_its_place_gets_nothing(tmp_path: Path) -> None:
    port, came = free_port(), []
    ae = AE("FULLFIELD")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, came.append)])
    try:
        told = run(tmp_path, "-c", AT_PORTS, str(port), str(free_port()))
    finally:
        server.shutdown()
    assert told.returncode != 0
    assert f"Cannot listen on 127.0.0.1, port {port}" in told.stderr
    assert came == []


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=LONG, check=False
    )
