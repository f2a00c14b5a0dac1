"""The fault harness (`make faults`): a node holds under it, and a node that makes a mistake is found out."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import dicom_node
import storage
from tests.harness.faults import KINDS, POINTS
from tests.harness.mutations import MUTATIONS
from tests.harness.outage import outage
from tests.harness.place import CHECKOUT
from tests.harness.power import forget_unsynced
from tests.harness.run import run

#: Each is caught in a moment, by its own fault.
QUICKLY_CAUGHT = "acknowledged-before-the-commit"
#: Seconds that a node with a mistake has to come to rest; one that is stuck never does.
PATIENCE = 90.0


def test_a_node_struck_at_drawn_instants_loses_duplicates_and_forgets_nothing(tmp_path: Path) -> None:
    # Of this seed the first two are kills after a fetch and at the third write: both come to pass at any pace.
    report = run(tmp_path, number=2, seed=88, say=print)
    assert (report.violations, report.faults, report.missed) == ([], 2, 0)
    # Not by chance: of all that goes on in a node something was there.
    assert min(report.acknowledged, report.fetched, report.compressed) > 0


def test_an_attempt_that_dies_before_its_results_are_entered_leaves_no_files_behind(tmp_path: Path) -> None:
    report = run(tmp_path, number=1, seed=7, fault="kill worker.result_kept 5", say=print)
    assert (report.violations, report.faults) == ([], 1)


def test_a_node_that_does_not_come_back_is_named_with_seed_and_step_and_its_logs_are_kept(tmp_path: Path) -> None:
    ended = _commanded(tmp_path, "--number", "2", "--mutation", "does-not-come-back", "--fault", "node")
    assert ended.returncode == 1
    assert re.search(r"^FAULT step 0 \(node killed .*\), seed 7: stuck: .* not come back", ended.stdout, re.MULTILINE)
    assert re.search(r"^1 faults .*: 0 lost, 0 twice, 1 stuck, .*; seed 7, sqlite$", ended.stdout, re.MULTILINE)
    (folder,) = tmp_path.iterdir()
    assert f"lie in {folder}." in ended.stdout
    assert "starts once" in (folder / "node" / "node.log").read_text()
    assert (folder / "kept" / "fullfield.db").exists()


def test_a_run_without_a_violation_ends_with_0_and_leaves_nothing(tmp_path: Path) -> None:
    ended = _commanded(tmp_path, "--number", "0")
    assert (ended.returncode, list(tmp_path.iterdir())) == (0, [])
    assert ended.stdout.startswith("0 faults")


def test_a_pacs_that_is_away_for_two_days_gets_everything_once(tmp_path: Path) -> None:
    became = outage(tmp_path, hours=48, every=24, seed=7, say=print)
    assert became.violations == []
    assert became.tries > 0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICKLY_CAUGHT else pytest.mark.long) for name in MUTATIONS]
)
def test_a_node_that_makes_a_mistake_is_found_out(tmp_path: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    # Who still works on what another has ended says so later, so that it is the second step that hears of it.
    report = run(tmp_path, number=2, seed=7, mutation=name, fault=mutation.fault, patience=PATIENCE, say=print)
    assert {mutation.caught_as, mutation.or_as} & {violation.kind for violation in report.violations}


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_node_struck_forty_times_loses_duplicates_and_forgets_nothing(
    tmp_path: Path, database: Literal["sqlite", "postgresql"]
) -> None:
    report = run(tmp_path, number=40, seed=8, database=database, say=print)
    assert (report.violations, report.faults + report.missed) == ([], 40)
    assert report.faults >= 20


@pytest.mark.long
@pytest.mark.parametrize("kind", [name for name in KINDS if name != "database"])
def test_a_node_holds_under_each_kind_of_fault(tmp_path: Path, kind: str) -> None:
    assert run(tmp_path, number=1, seed=9, fault=kind, say=print).violations == []


def test_each_instant_that_the_harness_names_is_one_of_the_product() -> None:
    rooms = [Path(package.__file__).parent for package in (storage, dicom_node) if package.__file__]
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py") if path.name != "faultpoint.py"]
    assert set(POINTS) <= {name for text in sources for name in re.findall(r'faultpoint\("([a-z_.]+)"\)', text)}


@pytest.mark.parametrize(
    ("done", "left"),
    [
        ("path.write_bytes(b'x' * 9); path.rename(kept)", {"incoming/one": 0}),
        ("path.write_bytes(b'x' * 9); sync(path); path.rename(kept)", {"incoming/one": 9}),
        ("path.write_bytes(b'x' * 9); path.rename(kept); sync(kept.parent)", {"objects/one": 0}),
        ("path.write_bytes(b'x' * 9); sync(path); path.rename(kept); sync(kept.parent)", {"objects/one": 9}),
        ("folder.mkdir(); (folder / 'two').write_bytes(b'x'); sync(folder / 'two'); sync(folder)", {}),
        ("folder.mkdir(); sync(folder.parent)", {}),
    ],
)
def test_a_cut_of_the_power_costs_what_nobody_has_synced_and_no_more(
    tmp_path: Path, done: str, left: dict[str, int]
) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "objects").mkdir()
    code = f"""
import os
from pathlib import Path
from tests.harness.power import keep_journal
def sync(path):
    handle = os.open(path, os.O_RDONLY); os.fsync(handle); os.close(handle)
root = Path({str(tmp_path)!r})
path, kept, folder = root / "incoming/one", root / "objects/one", root / "objects/folder"
keep_journal(root / "journal")
{done}
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
    forget_unsynced(tmp_path / "journal", tmp_path)
    files = [path for room in ("incoming", "objects") for path in (tmp_path / room).rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path)): path.stat().st_size for path in files} == left


def _commanded(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.harness`, with its folder of this run in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.harness", *options],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
