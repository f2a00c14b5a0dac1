"""`fullfield evaluate`: a paired data set and a profile in, one JSON object or a table out."""

import json

import pytest

from tests.pairs import write_pairs, write_table


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "data", train=1, val=1)


@pytest.fixture
def evaluate(fullfield, models):
    """The command with the untrained profile, on the CPU."""
    return lambda *arguments: fullfield("evaluate", *arguments, "--models", models, "--device", "cpu")


def test_json_is_all_that_standard_output_holds_of_a_split(evaluate, data):
    status, out, _ = evaluate(data, "--split", "val", "--json")

    figures = json.loads(out)
    assert status == 0
    assert [row["id"] for row in figures["per_image"]] == ["1"]
    assert figures["count"] == 1
    assert figures["seconds_per_frame"]["sample"] > figures["seconds_per_frame"]["mean"] > 0
    assert figures["thesis"]["mean"]["lpips"] is None
    assert figures["model"]["profile"] == "fullfield" and len(figures["model"]["digest"]) == 64


def test_a_table_tells_both_modes_of_all_pairs(evaluate, data):
    status, out, _ = evaluate(data)

    lines = out.splitlines()
    assert status == 0
    assert lines[0].startswith("2 pairs")
    assert [line.split()[0] for line in lines[1:3]] == ["mean", "sample"]
    assert lines[3].startswith("aperture IoU") and lines[4].startswith("90 % intervals cover")


def test_a_mistake_of_the_user_is_one_line(evaluate, data, tmp_path):
    table = data / "pairs.csv"
    assert evaluate(tmp_path / "none")[::2] == (
        1,
        f"fullfield: {tmp_path / 'none' / 'pairs.csv'}: not found; a paired data set has full/, collimated/ and "
        "pairs.csv\n",
    )
    assert evaluate(data, "--split", "test")[::2] == (1, f"fullfield: {table}: no pairs in split test\n")
    (data / "full" / "0.png").write_bytes(b"no picture")
    status, out, err = evaluate(data)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == f"fullfield: {data / 'full' / '0.png'}: not a readable PNG or JPEG picture"
    write_table(data, ("0", 0, 0, 1, 1))
    assert evaluate(data)[::2] == (1, f"fullfield: {table}, line 2: the aperture leaves no pixel hidden\n")


def test_a_device_or_profile_that_is_not_there_is_one_line(fullfield, models, data):
    status, _, err = fullfield("evaluate", data, "--models", models, "--device", "tpu")
    assert (status, err) == (1, "fullfield: device 'tpu' is unknown; use auto, cpu or cuda\n")
    status, _, err = fullfield("evaluate", data, "--profile", "other")
    assert status == 1
    assert err.startswith("fullfield: weights of profile other are not installed: ")
