"""`fullfield routes`: mistakes by line and key, and the route that an object would take."""

import os
from pathlib import Path

import pytest

from dicom_node.commands.main import run
from tests.factory import write, xa

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "routes.toml"
PACS = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("FULLFIELD")]:
        monkeypatch.delenv(name)


@pytest.fixture
def fullfield(capsys):
    def command(*arguments):
        status = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return command


@pytest.fixture
def cine(tmp_path):
    return write(xa(), tmp_path / "cine.dcm")


def test_check_says_what_a_right_file_holds(fullfield):
    assert fullfield("routes", "check", EXAMPLE) == (
        0,
        f"{EXAMPLE}: no mistakes; 2 routes, 3 destinations.\n"
        "1. angio-urgent -> pacs, research\n"
        "2. everything-else -> pacs\n",
        "",
    )


def test_check_names_line_and_key_of_every_mistake(fullfield, tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(f'[[routes]]\nname = "a"\npriority = 500\ndestinatons = ["pacs"]\n{PACS}')
    status, out, err = fullfield("routes", "check", file)
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"fullfield: {file}, line 1: routes[0].destinations is missing.",
        f"fullfield: {file}, line 3: routes[0].priority must be 100 or less, not 500.",
        f"fullfield: {file}, line 4: routes[0].destinatons is not a known key (did you mean 'destinations'?).",
    ]


def test_check_looks_where_the_settings_say(fullfield, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ours.toml").write_text(PACS)
    settings = tmp_path / "site" / "fullfield.toml"
    settings.write_text('routes = "ours.toml"\n')
    status, out, _ = fullfield("routes", "check", "--settings", settings)
    assert (status, out) == (0, f"{tmp_path}/site/ours.toml: no mistakes; 0 routes, 1 destination.\n")


def test_the_variable_names_the_settings_file_too(fullfield, tmp_path, monkeypatch):
    (tmp_path / "node.toml").write_text('routes = "ours.toml"\n')
    monkeypatch.setenv("FULLFIELD_SETTINGS", str(tmp_path / "node.toml"))
    status, _, err = fullfield("routes", "check")
    assert (status, err) == (
        1,
        f"fullfield: {tmp_path}/ours.toml: cannot be read: No such file or directory.\n",
    )


def test_settings_in_the_working_directory_are_found(fullfield, tmp_path):
    (tmp_path / "fullfield.toml").write_text('routes = "ours.toml"\n')
    (tmp_path / "ours.toml").write_text(PACS)
    assert fullfield("routes", "check")[0] == 0


def test_test_names_the_route_and_why_not_the_others(fullfield, cine):
    status, out, err = fullfield("routes", "test", cine, "--calling-ae", "MOBILE", "--routes", EXAMPLE)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == (
        "Sent by MOBILE to FULLFIELD, route 'everything-else' takes it, and results go to pacs."
    )
    (other,) = out.splitlines()[1:]
    assert other.startswith("  angio-urgent: calling AE title 'MOBILE' fits none of CARM*, ANGIO1; ")
    assert "Rows (64) is not from 512 to 1024" in other


def test_test_says_why_no_route_takes_an_object(fullfield, tmp_path, cine):
    routes = tmp_path / "routes.toml"
    routes.write_text(
        '[[routes]]\nname = "a"\ndestinations = ["pacs"]\nmatch.called_ae = ["OTHER"]\n'
        f'[[routes]]\nname = "b"\ndestinations = ["pacs"]\nmatch.modality = ["CT"]\n{PACS}'
    )
    status, out, _ = fullfield("routes", "test", cine, "--calling-ae", "CARM1", "--called-ae", "NODE")
    assert status == 0
    assert out.splitlines() == [
        "Sent by CARM1 to NODE, no route takes it: it is kept and goes no further.",
        "  a: called AE title 'NODE' fits none of OTHER",
        "  b: modality 'XA' is none of CT",
    ]


def test_without_a_calling_title_the_one_in_the_file_counts(fullfield, tmp_path):
    cine = xa()
    cine.file_meta.SourceApplicationEntityTitle = "CARM7"
    file = tmp_path / "sent.dcm"
    cine.save_as(file, enforce_file_format=True)
    assert fullfield("routes", "test", file, "--routes", EXAMPLE)[1].startswith("Sent by CARM7 to FULLFIELD, ")


def test_without_any_calling_title_the_sender_is_unnamed(fullfield, cine):
    out = fullfield("routes", "test", cine, "--routes", EXAMPLE)[1]
    assert out.startswith("Sent to FULLFIELD by an unnamed sender, ")


def test_the_output_holds_no_patient_data(fullfield, tmp_path):
    file = write(xa(patient_name="Secret^Name", PatientID="SECRET"), tmp_path / "a.dcm")
    (tmp_path / "routes.toml").write_text(
        '[[routes]]\nname = "a"\ndestinations = ["pacs"]\n'
        '[[routes.match.attributes]]\nkeyword = "PatientName"\npattern = "TEST.*"\n'
        f'[[routes.match.attributes]]\nkeyword = "PatientID"\nequals = "1"\n{PACS}'
    )
    _, out, err = fullfield("routes", "test", file)
    assert "PatientName does not fit the pattern 'TEST.*'; PatientID is not '1'" in out
    assert "secret" not in (out + err).lower()


@pytest.mark.parametrize(
    "content", [b"", b"no DICOM at all" * 20, b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\xff\xff1.2"]
)
def test_what_is_no_dicom_file_gets_one_clear_line(fullfield, tmp_path, content):
    file = tmp_path / "a.dcm"
    file.write_bytes(content)
    status, out, err = fullfield("routes", "test", file, "--routes", EXAMPLE)
    assert (status, out) == (1, "")
    assert err.startswith(f"fullfield: {file}: is ")
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_there_gets_one_clear_line(fullfield, tmp_path):
    file = tmp_path / "none.dcm"
    assert fullfield("routes", "test", file, "--routes", EXAMPLE) == (
        1,
        "",
        f"fullfield: {file}: No such file or directory.\n",
    )


def test_test_tells_a_result_from_an_input(fullfield, tmp_path):
    header = {"Manufacturer": "Fullfield", "ImageType": ["DERIVED", "SECONDARY"]}
    result = write(xa(**header), tmp_path / "result.dcm")
    assert fullfield("routes", "test", result, "--routes", EXAMPLE) == (
        0,
        "No route takes it, whoever sends it, for it is itself a result (Manufacturer is Fullfield): it is kept and "
        "goes no further.\n",
        "",
    )
