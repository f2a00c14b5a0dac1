"""Which route takes an object, and what is said of the others."""

import pytest
from pydicom.dataset import Dataset

from config.errors import ConfigError
from config.routes import Destination, Match, Route, RouteTable, Rule
from dicom_node.workflow.routing import RouteBook, choose
from tests.factory import xa


def route(name, *rules, **match):
    return Route(name=name, match=Match(attributes=rules, **match), destinations=("pacs",))


def table(*routes):
    return RouteTable(
        routes=routes, destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),)
    )


def decide(*routes, header=None, calling_ae="CARM1", called_ae="FULLFIELD", **attributes):
    return choose(table(*routes), xa(**attributes) if header is None else header, calling_ae, called_ae)


def taken(*routes, **how):
    decision = decide(*routes, **how)
    return decision.route and decision.route.name


def reason(*routes, **how):
    decision = decide(*routes, **how)
    assert decision.route is None
    (told,) = decision.reasons.values()
    return told


def test_a_route_that_asks_nothing_takes_everything():
    assert taken(route("all")) == "all"


def test_the_first_route_in_the_file_wins():
    decision = decide(route("first"), route("second"))
    assert decision.route.name == "first"
    assert decision.reasons == {"second": "matches too, but 'first' comes before it in the file"}


def test_each_route_that_does_not_match_says_why():
    decision = decide(
        route("other-arm", calling_ae=("ANGIO*", "CARM2")),
        route("ct", modality=("CT", "MR")),
        route("here"),
        route("other-title", called_ae=("TEST",)),
    )
    assert decision.route.name == "here"
    assert decision.reasons == {
        "other-arm": "calling AE title 'CARM1' fits none of ANGIO*, CARM2",
        "ct": "modality 'XA' is none of CT, MR",
        "other-title": "called AE title 'FULLFIELD' fits none of TEST",
    }


def test_a_route_names_all_that_stands_against_it():
    assert reason(route("a", Rule(keyword="Rows", equals=1024), modality=("CT",)), rows=64) == (
        "modality 'XA' is none of CT; Rows (64) is not 1024"
    )


@pytest.mark.parametrize(
    ("pattern", "title", "fits"),
    [
        ("CARM*", "CARM12", True),
        ("CARM?", "CARM12", False),
        ("carm1", "CARM1", False),
        ("CARM1", "CARM1  ", True),
    ],
)
def test_ae_titles_fit_by_pattern_and_by_case(pattern, title, fits):
    assert (taken(route("a", calling_ae=(pattern,)), calling_ae=title) == "a") is fits


@pytest.mark.parametrize(
    ("rule", "attributes", "fits"),
    [
        (Rule(keyword="BodyPartExamined", equals="CHEST"), {"BodyPartExamined": "CHEST"}, True),
        (Rule(keyword="BodyPartExamined", equals="CHEST"), {"BodyPartExamined": "CHESTS"}, False),
        (Rule(keyword="BodyPartExamined", equals="chest"), {"BodyPartExamined": "CHEST"}, False),
        (Rule(keyword="Rows", equals=64), {}, True),
        (Rule(keyword="Rows", equals="64"), {}, True),
        (Rule(keyword="KVP", equals=70), {"KVP": "70.0"}, True),
        (
            Rule(keyword="SeriesDescription", pattern="(?i).*coro.*"),
            {"SeriesDescription": "Left Coronary"},
            True,
        ),
        (Rule(keyword="SeriesDescription", pattern="Left"), {"SeriesDescription": "Left Coronary"}, False),
        (Rule(keyword="ImageType", equals="PRIMARY"), {}, True),
        (Rule(keyword="ImageType", equals="BIPLANE A"), {}, False),
        (Rule(keyword="Rows", minimum=64), {}, True),
        (Rule(keyword="Rows", maximum=64), {}, True),
        (Rule(keyword="Rows", minimum=65), {}, False),
        (Rule(keyword="KVP", minimum=60, maximum=80), {"KVP": "70.5"}, True),
        (Rule(keyword="PatientName", pattern="TEST.*"), {"patient_name": "Test^Ängström"}, False),
        (Rule(keyword="PatientName", pattern="Test.*"), {"patient_name": "Test^Ängström"}, True),
    ],
)
def test_rules_on_attributes(rule, attributes, fits):
    assert (taken(route("a", rule), **attributes) == "a") is fits


@pytest.mark.parametrize("header", [{"missing": ["BodyPartExamined"]}, {"BodyPartExamined": ""}])
def test_an_absent_or_empty_attribute_fits_no_rule(header):
    rule = Rule(keyword="BodyPartExamined", pattern=".*")
    assert reason(route("a", rule), **header) == "BodyPartExamined is absent or empty"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule(keyword="Rows", minimum=512), "Rows (64) is not 512 or more"),
        (Rule(keyword="Rows", maximum=32), "Rows (64) is not 32 or less"),
        (Rule(keyword="Rows", minimum=512, maximum=1024), "Rows (64) is not from 512 to 1024"),
        (
            Rule(keyword="ImageType", equals="LATERAL"),
            "ImageType (ORIGINAL\\PRIMARY\\SINGLE PLANE) is not 'LATERAL'",
        ),
        (Rule(keyword="ImageType", pattern="LAT.*"), None),
    ],
)
def test_reasons_name_keyword_rule_and_technical_value(rule, told):
    assert reason(route("a", rule)) == (
        told or "ImageType (ORIGINAL\\PRIMARY\\SINGLE PLANE) does not fit the pattern 'LAT.*'"
    )


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Secret^Name"),
        ("PatientID", "SECRET-1"),
        ("PatientAge", "047Y"),
        ("PatientWeight", "81.5"),
        ("AccessionNumber", "SECRET-2"),
        ("StudyDescription", "Secret Name, coronary"),
        ("SeriesDescription", "Secret Name"),
        ("ReferringPhysicianName", "Secret^Doctor"),
        ("StudyDate", "20240229"),
        ("InstitutionName", "Secret"),
    ],
)
def test_reasons_never_show_patient_data(keyword, value):
    told = reason(route("a", Rule(keyword=keyword, equals="X")), **{keyword: value})
    assert told == f"{keyword} is not 'X'"


def test_a_malformed_value_fits_no_rule_and_breaks_nothing():
    header = Dataset()
    header.Modality = "XA"
    header.add_new("KVP", "LO", "seventy")
    header["KVP"].VR = "DS"
    assert taken(route("a", Rule(keyword="KVP", minimum=60)), route("rest"), header=header) == "rest"


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_hostile_value_is_shown_short_and_on_one_line():
    header = Dataset()
    header.Modality = "X\n\x1b[31m" + "A" * 500
    told = reason(route("a", modality=("XA",)), header=header)
    assert told.isprintable()
    assert len(told) < 120


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"SyntheticData": "YES"}, "the picture is itself generated (SyntheticData is YES)"),
        (
            {"ImageType": ["DERIVED", "SECONDARY", "SINGLE PLANE", "GENERATED"]},
            "the picture is itself generated (ImageType holds GENERATED)",
        ),
    ],
)
def test_a_generated_picture_takes_no_route(attributes, told):
    decision = decide(route("a"), route("b"), **attributes)
    assert decision.route is None
    assert decision.reasons == {"a": told, "b": told}


def test_a_picture_said_not_to_be_synthetic_takes_its_route():
    assert taken(route("a"), SyntheticData="NO") == "a"


def test_a_header_without_anything_is_judged():
    assert taken(route("a"), header=Dataset()) == "a"
    assert reason(route("a", modality=("XA",)), header=Dataset()) == "modality '' is none of XA"


def test_without_routes_nothing_is_taken():
    assert decide().route is None


GOOD = (
    '[[routes]]\nname = "{name}"\ndestinations = ["pacs"]\n'
    '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
)


def test_a_reload_swaps_the_routes(tmp_path):
    file = tmp_path / "routes.toml"
    file.write_text(GOOD.format(name="old"))
    book = RouteBook(file)
    file.write_text(GOOD.format(name="new"))
    assert book.table.route("old")
    assert book.reload(file) is book.table
    assert book.table.route("new")
    assert not book.table.route("old")


def test_a_reload_of_a_bad_file_changes_nothing(tmp_path):
    file = tmp_path / "routes.toml"
    file.write_text(GOOD.format(name="old"))
    book = RouteBook(file)
    before = book.table
    for bad in ("[[routes]\n", GOOD.format(name="a b")):
        file.write_text(bad)
        with pytest.raises(ConfigError):
            book.reload(file)
        assert book.table is before
    file.unlink()
    with pytest.raises(ConfigError):
        book.reload(file)
    assert book.table is before
